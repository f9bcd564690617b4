"""The shell of permissions: clocks, and what becomes of refusals."""
