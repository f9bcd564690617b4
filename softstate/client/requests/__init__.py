"""Requests to nodes over HTTP, without I/O: what is asked, which node is asked next, and what an answer means."""
