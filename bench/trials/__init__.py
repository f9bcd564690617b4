"""Trials of correctness: real processes, simulated worlds, and hostile inputs; see bench/README.md."""
