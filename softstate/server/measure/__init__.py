"""Measurements of a node: plain numbers on the hot paths, which `softstate.server.observe` shows."""
