"""Servers and loops that softstate is compared with; most do the least that one part of its work can cost."""
