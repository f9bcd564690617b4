"""Bare servers and loops that softstate is compared with: the least that one part of its work can cost."""
