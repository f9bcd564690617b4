"""Set-up for all tests."""

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and so does every process that they start:
# tests that interrupt them would then never end.
signal.signal(signal.SIGINT, signal.default_int_handler)
