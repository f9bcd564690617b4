"""The standard streams of a command: what cannot be read or written ends it with a sentence, not with a traceback.

`main` puts these in place of `sys.stdin`, `sys.stdout` and `sys.stderr`, so that they hold for every command and
library.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from softstate.cli.exit_codes import OUTPUT, USAGE, Failure

CHUNK_BYTES = 64 * 1024
"""Bytes of standard input that are read at once."""


def output_failed(error: OSError) -> Failure:
    """Return the failure that standard output does not take what a command writes."""
    return Failure(
        f"cannot write to standard output: {error.strerror or error}. What the command did stays done, only its output"
        " is lost",
        OUTPUT,
    )


class _Input(io.FileIO):
    """Standard input; one that cannot be read is a failure of the command, and so is one that would have to wait.

    Python takes a descriptor that does not block, and has nothing yet, for one that ends there.
    """

    def readinto(self, buffer: Any, /) -> int:
        try:
            count = super().readinto(buffer)
        except OSError as error:
            raise _input_failed(error) from None
        if count is None:
            raise _input_failed(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        return count

    def readall(self) -> bytes:
        chunks: list[bytes] = []
        buffer = bytearray(CHUNK_BYTES)
        while count := self.readinto(buffer):
            chunks.append(bytes(buffer[:count]))
        return b"".join(chunks)


def input_pieces() -> Iterator[bytes]:
    """Yield standard input piece by piece until its end; from a terminal, line by line. Raises `Failure` as it does.

    It reads the descriptor itself, since a command may end while a thread waits for input: one that waits in a buffered
    stream keeps its lock, and Python cannot end then (exit code 134).
    """
    raw = _Input(sys.stdin.fileno(), closefd=False)
    buffer = bytearray(CHUNK_BYTES)
    while count := raw.readinto(buffer):
        yield bytes(buffer[:count])


def _input_failed(error: OSError) -> Failure:
    return Failure(
        f"cannot read standard input: {error.strerror or error}. Nothing was changed: repeat the command with an input"
        " that can be read",
        USAGE,
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


def note(text: str) -> None:
    """Print a note for people on stderr."""
    print(f"softstate: {text}.", file=sys.stderr, flush=True)


def takes_colours(stream: TextIO) -> bool:
    """Tell whether to write colours: to a terminal that is not dumb, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def guard_streams() -> None:
    """Put guarded streams in place of `sys.stdin`, `sys.stdout` and `sys.stderr`; a closed one becomes `/dev/null`.

    A closed descriptor would be given to the next file or socket that is opened, and printed into.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
    # An answer that is no text is none of those that a command asks for.
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Input(0, closefd=False)), _encoding(sys.stdin), "replace")
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout, line_buffered=os.isatty(1))
    sys.stderr = _text(_Complaints(2, "w", closefd=False), sys.stderr, line_buffered=True)


def _text(raw: io.FileIO, before: Any, *, line_buffered: bool) -> io.TextIOWrapper:
    # An encoding that lacks a character must not end a command either.
    return io.TextIOWrapper(io.BufferedWriter(raw), _encoding(before), "backslashreplace", line_buffering=line_buffered)


def _encoding(before: Any) -> str:
    return getattr(before, "encoding", None) or "utf-8"
