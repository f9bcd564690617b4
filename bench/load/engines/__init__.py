"""Load on a store's engine itself, with nothing of softstate, to compare nodes with."""
