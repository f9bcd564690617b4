"""Benches of speed, made of `bench.measure` and of the generators in `bench.load`; see bench/README.md."""
