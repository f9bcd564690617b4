"""Metrics and status: counters for machines and people."""
