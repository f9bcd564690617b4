"""The parts of `python -m bench models`, one table or figure each."""
