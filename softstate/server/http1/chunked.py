"""Bodies in chunks (RFC 9112 section 7.1): strict, and with bounds on what is not data.

llhttp could decode them, but it reads on into the next request of a pipeline, before anything has checked its head. So
where a body ends is decided here.
"""

from __future__ import annotations

import re

from softstate.errors import Invalid, TooLarge
from softstate.server.http1.head import check_trailers, check_trailers_begun
from softstate.server.http1.reply import Refused

SIZE_DIGITS_MAX = 16
"""Hex digits of a chunk's size, leading zeros included."""

LINE_BYTES_MAX = 256
"""Longest line that begins a chunk, with its extensions, which are ignored."""

CHUNKS_PER_FEED = 256
"""Chunks that one call takes, in 0.2 ms; all chunks of one byte in 64 KiB take 11 ms."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rb"[\t ]*+;[\t ]*+" + _TOKEN + rb"(?:[\t ]*+=[\t ]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,%d}+)(?:%s)*+\r\n" % (SIZE_DIGITS_MAX, _EXTENSION))


class ChunkedBody:
    """Takes a chunked body apart. `data_max` bounds its data, `trailer_bytes_max` its trailers, which are dropped."""

    __slots__ = ("_data", "_data_max", "_left", "_size", "_trailer_bytes_max", "_trailers", "behind")

    def __init__(self, data_max: int, trailer_bytes_max: int) -> None:
        self.behind = False
        """Whether the last call left chunks to the next, which needs no more bytes for them."""
        self._data_max = data_max
        self._trailer_bytes_max = trailer_bytes_max
        # One buffer: a list of tiny pieces would take many times their bytes.
        self._data = bytearray()
        self._size = 0
        self._left = 0
        """Bytes that are missing of the present chunk and the line end behind it."""
        self._trailers = False

    @property
    def held_bytes(self) -> int:
        """The bytes of the body that are here."""
        return len(self._data)

    def feed(self, data: bytes) -> tuple[bytes | None, bytes]:
        """Take bytes; return the body, None until it is whole, and the bytes that are to be fed again, with more.

        When the body is whole, those are the bytes behind it. See `behind` also. Raises `Refused`.
        """
        at, chunks = 0, 0
        self.behind = False
        while not self._trailers:
            if self._left:
                if at == len(data):
                    return None, b""
                at = self._take(data, at)
                if self._left:
                    return None, data[at:]
            if chunks == CHUNKS_PER_FEED:
                self.behind = True
                return None, data[at:]
            chunks += 1
            line = _SIZE.match(data, at, at + LINE_BYTES_MAX)
            if line is None:
                _check_incomplete(data, at)
                return None, data[at:]
            at = line.end()
            self._begin(int(line[1], 16))
        return self._end(data, at)

    def _begin(self, chunk: int) -> None:
        if chunk == 0:
            self._trailers = True
            return
        self._size += chunk
        if self._size > self._data_max:
            message = f"the body is longer than the limit (body_bytes_max), {self._data_max} bytes"
            raise Refused(413, TooLarge(message))
        self._left = chunk + 2

    def _take(self, data: bytes, at: int) -> int:
        """Take what is here of the present chunk, and the line end behind it once that is whole."""
        wanted = self._left - 2
        if wanted > 0:
            piece = data[at : at + wanted]
            self._data += piece
            self._left -= len(piece)
            at += len(piece)
        if self._left == 2 and len(data) >= at + 2:
            if data[at : at + 2] != b"\r\n":
                raise _malformed("a chunk is longer than it says")
            self._left = 0
            at += 2
        return at

    def _end(self, data: bytes, at: int) -> tuple[bytes | None, bytes]:
        """Drop the trailers (RFC 9112 section 7.1.2 lets a recipient do so)."""
        if data.startswith(b"\r\n", at):
            return bytes(self._data), data[at + 2 :]
        last = data.find(b"\r\n\r\n", at)
        end = last + 4 if last >= 0 else len(data)
        if end - at > self._trailer_bytes_max:
            limit = f"{self._trailer_bytes_max} bytes (head_bytes_max)"
            raise Refused(431, TooLarge(f"the request's trailers are longer than {limit}"))
        if last < 0:
            check_trailers_begun(data[at:])
            return None, data[at:]
        check_trailers(data[at:end])
        return bytes(self._data), data[end:]


def _check_incomplete(data: bytes, at: int) -> None:
    """Raise `Refused` unless what begins at `at` may become the line of a chunk."""
    line = data[at : at + LINE_BYTES_MAX]
    if b"\n" in line or len(line) == LINE_BYTES_MAX or not _MAY_BEGIN.fullmatch(line):
        raise _malformed("a chunk begins with its size in hex digits, and CR and LF")


_MAY_BEGIN = re.compile(rb"[0-9A-Fa-f]{0,%d}+(?:[\t ;][\t -~\x80-\xff]*+)?\r?" % SIZE_DIGITS_MAX)


def _malformed(why: str) -> Refused:
    return Refused(400, Invalid(f"this is not valid HTTP/1.1: {why}"))
