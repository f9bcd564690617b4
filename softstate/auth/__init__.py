"""Permissions: who a peer is, and what that allows, decided without I/O by rules that an operator writes."""
