"""The rules that every engine follows; pure functions."""
