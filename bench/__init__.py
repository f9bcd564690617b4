"""Benchmarks and trials of softstate as a whole, run by people: ``python -m bench``."""
