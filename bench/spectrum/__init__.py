"""Placements of session state, from stateless to hard state, under one workload: `python -m bench spectrum`."""
