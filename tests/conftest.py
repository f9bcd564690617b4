"""What every test stands on."""

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and so does every process that they start:
# those that are to be interrupted would then wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
