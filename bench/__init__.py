"""Trials of correctness and benches of speed of softstate as a whole: ``python -m bench``; see bench/README.md."""
