"""The client machine, sans-I/O: what a client does next, and how old its knowledge may be."""
