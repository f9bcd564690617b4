"""The client as applications see it."""
