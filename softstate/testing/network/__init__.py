"""A simulated network."""
