"""The standard streams of a command: output that cannot be written ends it with a sentence, not with a traceback.

`main` puts these in place of `sys.stdout` and `sys.stderr`, so that they hold for every command and library.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from softstate.cli.exit_codes import OUTPUT, Failure


def output_failed(error: OSError) -> Failure:
    """Return the failure that standard output does not take what a command writes."""
    return Failure(
        f"cannot write to standard output: {error.strerror or error}. What the command did stays done, only its output"
        " is lost",
        OUTPUT,
    )


class _Output(io.FileIO):
    """Standard output; a reader that has left is a `BrokenPipeError` still, which is no failure."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise output_failed(error) from None


class _Complaints(io.FileIO):
    """Standard error; what it does not take is dropped: there is no other place to say so."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard_streams() -> None:
    """Put guarded streams in place of `sys.stdout` and `sys.stderr`; a closed one becomes `/dev/null`.

    A closed descriptor would be given to the next file or socket that is opened, and printed into.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout, line_buffered=os.isatty(1))
    sys.stderr = _text(_Complaints(2, "w", closefd=False), sys.stderr, line_buffered=True)


def _text(raw: io.FileIO, before: Any, *, line_buffered: bool) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    # An encoding that lacks a character must not end a command either.
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=line_buffered)
