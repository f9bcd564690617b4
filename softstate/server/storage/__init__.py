"""The node's one way to its store."""
