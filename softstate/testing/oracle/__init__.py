"""The oracle: checks every promise on a trace."""
