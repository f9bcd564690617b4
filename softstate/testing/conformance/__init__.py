"""The conformance test of stores."""
