"""The shell of permissions: clocks, the policy file and the keys that it names, and what becomes of refusals."""
