"""The memory of a node: how much there is, how much it uses, and what it does when that is nearly all."""
