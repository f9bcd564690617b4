"""Load on a store engine without softstate, to compare nodes with."""
