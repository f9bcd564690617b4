"""Processes that commands start, and signals."""
