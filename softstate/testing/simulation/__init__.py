"""A simulated world of nodes, clients, stores and faults."""
