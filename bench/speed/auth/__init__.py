"""The cost of permissions: a node with a policy file beside one without; see bench/README.md."""
