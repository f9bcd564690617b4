"""Reading a file of changes: one JSON object a line, ``{"topic": …, "value": …}`` or ``{"topic": …, "deleted": true}``.

Other keys are ignored, empty lines are skipped, so is a byte-order mark at the beginning; gzip is recognised by its
first bytes. Nothing here is asynchronous: the publisher calls it from a thread, because standard input may keep it
waiting.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import msgspec

from softstate.errors import Invalid
from softstate.model import Value
from softstate.names import check_topic
from softstate.wire.value import VALUE_DEPTH_MAX, check_value, unwrap_bytes

LINE_BYTES_MAX = 1024 * 1024
"""Longest line: no change above it would be accepted by a node."""

TAIL_BYTES_MAX = LINE_BYTES_MAX + len(codecs.BOM_UTF8)
"""A line that has not ended after so much is too long in any case."""

CHUNK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


class _Fields(msgspec.Struct):
    topic: Any
    value: Any = msgspec.UNSET
    deleted: Any = False


@dataclass(frozen=True, slots=True)
class Line:
    """One change of the file, and the number of its line, counted from 1."""

    number: int
    topic: str
    value: Value
    deleted: bool
    digest: str

    def key(self, run: str) -> str:
        """Return the idempotency key of this line in a run: the same line of the same run is never applied twice."""
        return f"{run}.{self.number}.{self.digest}"


class BadLine(Invalid):
    """A line that is no change; the message begins with its number, also in `number`."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")
        self.number = number


class ChangeFile:
    """A file of changes, read batch by batch.

    `from_line` skips the lines before it without looking at them. `bytes_read` counts what was taken from the file
    itself, before decompression, so that progress can be shown against its size.
    """

    def __init__(self, raw: BinaryIO, from_line: int = 1) -> None:
        self._counted = _Counted(raw)
        self._buffered = io.BufferedReader(self._counted, CHUNK_BYTES)
        self._stream: io.BufferedReader | None = None
        self._from = from_line
        self._number = 0
        self._tail = b""
        self._ended = False

    @property
    def bytes_read(self) -> int:
        """Bytes of the file read so far."""
        return self._counted.bytes_read

    def batch(self) -> Iterator[Line] | None:
        """Return the changes of the next piece of the file, None at its end. Blocks until there is some.

        Iterating raises `BadLine` at the first line that is no change; so does this, for a broken gzip file, and for
        one that cannot be read on.
        """
        if self._ended:
            return None
        try:
            data = self._begun().read1(CHUNK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadLine(self._number + 1, f"the gzip file is damaged from here on ({error})") from None
        except OSError as error:
            raise BadLine(
                self._number + 1, f"the file cannot be read from here on ({error.strerror or error})"
            ) from None
        if not data:
            self._ended = True
            return self._parse([self._tail]) if self._tail else None
        *lines, self._tail = (self._tail + data).split(b"\n")
        if self._number + len(lines) + 1 < self._from:
            self._tail = b""  # of a line that is skipped: it may be of any length, and only its end counts
        elif len(self._tail) > TAIL_BYTES_MAX:
            lines.append(self._tail)  # is refused by its length: it may have no end
            self._ended = True
        return self._parse(lines)

    def _begun(self) -> io.BufferedReader:
        """Return the stream of lines; the first bytes tell whether it is packed."""
        if self._stream is None:
            packed = self._buffered.peek(2)[:2] == _GZIP_MAGIC
            self._stream = cast(
                "io.BufferedReader", gzip.GzipFile(fileobj=self._buffered) if packed else self._buffered
            )
        return self._stream

    def _parse(self, lines: list[bytes]) -> Iterator[Line]:
        for text in lines:
            self._number += 1
            if self._number == 1:
                text = text.removeprefix(codecs.BOM_UTF8)
            if self._number >= self._from and (len(text) > LINE_BYTES_MAX or text.strip()):
                yield read_line(self._number, text)


def read_line(number: int, text: bytes) -> Line:
    """Read one line. Raises `BadLine`, saying what is wrong with it."""
    try:
        topic, value, deleted = _change(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadLine(number, f"not a change in JSON ({error})") from None
    except RecursionError:
        raise BadLine(number, f"nested too deep (a value may have {VALUE_DEPTH_MAX} levels)") from None
    except Invalid as error:
        raise BadLine(number, error.message) from None
    return Line(number, topic, value, deleted, hashlib.blake2b(text, digest_size=8).hexdigest())


def _change(text: bytes) -> tuple[str, Value, bool]:
    if len(text) > LINE_BYTES_MAX:
        raise Invalid(f"longer than {LINE_BYTES_MAX} bytes")
    fields = msgspec.json.decode(text, type=_Fields)
    topic = check_topic(fields.topic)
    if not isinstance(fields.deleted, bool):
        raise Invalid("deleted must be true or false")
    if fields.deleted == (fields.value is not msgspec.UNSET):
        raise Invalid('needs either "value" or "deleted": true')
    if fields.deleted:
        return topic, None, True
    value = unwrap_bytes(fields.value)
    check_value(value)
    return topic, value, False


class _Counted(io.RawIOBase):
    """A raw stream that counts what is read through it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._fd = raw.fileno()
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)
