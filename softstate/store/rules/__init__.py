"""What every engine decides alike; pure functions."""
