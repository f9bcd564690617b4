"""Models of the literature beside measurements: `python -m bench models`."""
