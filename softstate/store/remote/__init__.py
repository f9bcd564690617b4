"""What engines over a network share."""
