"""HTTP on a node's port."""
