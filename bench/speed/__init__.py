"""Benches of speed, one module each, which `bench.measure` measures and `bench.load` loads; see bench/README.md."""
