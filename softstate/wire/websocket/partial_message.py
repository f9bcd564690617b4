"""A message of which a part was received."""

from __future__ import annotations

from codecs import utf_8_decode

from softstate.wire.websocket.events import Violated, ViolationCode

NOT_UTF8 = "a text message must be UTF-8: send bytes as a binary message"


class PartialMessage:
    """The bytes of a message that is not complete, and how many of its fragments have begun.

    The bytes are kept in one buffer that grows by a share of its size, not as a list of pieces: either way each byte is
    copied a bounded number of times, but pieces of two bytes would hold 24 times the memory that the message takes.

    Text is checked as it comes, so that a message is refused at its first byte that no UTF-8 text has there (RFC 6455
    section 8.1 allows to wait for the end).
    """

    __slots__ = ("_buffer", "_text", "_unfinished", "fragments")

    def __init__(self, *, text: bool) -> None:
        self.fragments = 0
        self._text = text
        self._buffer = bytearray()
        self._unfinished = b""
        """The bytes of a character whose last ones have not come: three at most."""

    @property
    def held_bytes(self) -> int:
        """The bytes that are here."""
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        """Append what was received. Raises `Violated` for text that is not UTF-8."""
        self._buffer += data
        if self._text:
            self._check(data)

    def _check(self, data: bytes) -> None:
        data = self._unfinished + data
        try:
            _, whole = utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            raise Violated(ViolationCode.NOT_UTF8, NOT_UTF8) from None
        unfinished = self._unfinished = data[whole:]
        # CPython waits for the third byte of a surrogate, for the sake of its handler "surrogatepass" (bpo-24214).
        if unfinished[:1] == b"\xed" and unfinished[1:2] >= b"\xa0":
            raise Violated(ViolationCode.NOT_UTF8, NOT_UTF8)

    def whole(self) -> bytes | str:
        """Return the message, now that it is complete. Raises `Violated` for text that ends in a character."""
        if not self._text:
            return bytes(self._buffer)
        if self._unfinished:
            raise Violated(ViolationCode.NOT_UTF8, NOT_UTF8)
        return self._buffer.decode()
