"""The bench of a herd: thousands of clients come back to a node that was killed."""
