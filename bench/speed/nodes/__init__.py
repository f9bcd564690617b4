"""Several nodes on one store: latency, rates, and the death of a node, for each store engine; see bench/README.md."""
