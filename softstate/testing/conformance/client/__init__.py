"""Conformance traces of the client's machine: its behaviour as data, for clients in any language; see README.md."""
