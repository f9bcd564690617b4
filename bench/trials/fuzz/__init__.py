"""Fuzzing of every parser that faces a network or a file; see bench/README.md."""
