"""The analytical models: pure functions, without I/O, time or randomness."""
