"""One connection as a sequence of requests and replies: bytes in, events out, and replies as bytes."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TypeAlias

from softstate.errors import Invalid, TooLarge
from softstate.server.config import ServerConfig
from softstate.server.http1.chunked import ChunkedBody
from softstate.server.http1.head import RequestHead, check_beginning
from softstate.server.http1.known_heads import KnownHeads
from softstate.server.http1.reply import Refused, Reply, write_reply

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Tells a peer that waits before it sends a body to go on."""

REPEATED_BYTES_MAX = 2_048
"""Longest head with a token that a connection remembers, to know it when it comes again."""

_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_END = b"\r\n\r\n"

Event: TypeAlias = RequestHead | bytes | Refused
"""A head (`Conversation.body` is set if its body came with it), the body behind it, or a refusal, the last event."""


class _State(Enum):
    HEAD = auto()
    """A head is expected, or has begun."""
    HEAD_READ = auto()
    """A head was handed out, and its body has not been asked for."""
    BODY = auto()
    """The body was asked for."""
    WHOLE = auto()
    """The request is whole, and its reply is due."""
    OVER = auto()
    """Nothing is read any more: a reply closes the connection, or another protocol has it."""


class Conversation:
    """HTTP/1.1 over one connection, from the server's side.

    A shell calls `feed` with what it received, or with nothing to go on with what is here already, and gets at most one
    event; `go_on` to ask for a body that did not come with its head; then `reply`, whose bytes it sends. What was
    received of later requests stays here unread until then. Deadlines are the shell's, sizes are held to here. `heads`
    reads heads; it may be shared by many.
    """

    __slots__ = (
        "_chunks", "_config", "_data", "_ended", "_head", "_heads", "_left", "_pending", "_raw", "_read", "_scanned",
        "_skipped", "_state", "body", "credentials", "key", "repeated",
    )  # fmt: skip

    def __init__(self, config: ServerConfig, heads: KnownHeads | None = None) -> None:
        self.body: bytes | None = None
        """The body of the present request, if it came together with its head; who takes it may set this to None."""
        self.key = b""
        """Its ``Sec-WebSocket-Key``, empty if it has none."""
        self.credentials: bytes | None = None
        """Its ``Authorization``, None if it has none."""
        self.repeated = False
        """Whether its head is the one before, to the byte, with a token: who polls sends the same again and again."""
        self._raw = b""
        self._read: RequestHead | None = None
        self._config = config
        self._heads = KnownHeads(config.headers_max) if heads is None else heads
        self._state = _State.HEAD
        self._pending = b""
        self._ended = False
        # Of the present request:
        self._head: RequestHead | None = None
        self._scanned = 0
        """Bytes at the front of `_pending` in which no head ends."""
        self._skipped = 0
        """Bytes of empty lines ahead of the head, which count as its own."""
        self._left = 0
        """Bytes missing of a body of known length."""
        # One buffer: a list of tiny pieces would take many times their bytes.
        self._data = bytearray()
        self._chunks: ChunkedBody | None = None

    @property
    def buffered(self) -> int:
        """The number of bytes received that no event has covered."""
        return len(self._pending)

    @property
    def held_bytes(self) -> int:
        """The number of bytes received of a request that is not whole, or behind one that is."""
        chunked = 0 if self._chunks is None else self._chunks.held_bytes
        return len(self._pending) + len(self._data) + chunked

    @property
    def behind(self) -> bool:
        """Whether `feed` has left a part of a body to a later turn, and is to be called again without more bytes."""
        return self._chunks is not None and self._chunks.behind

    @property
    def begun(self) -> bool:
        """Whether a part of a head, or an empty line ahead of it, was received."""
        return bool(self._pending or self._skipped)

    @property
    def ended(self) -> bool:
        """Whether the peer has ended its side."""
        return self._ended

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, now that a reply has been written."""
        return self._state is _State.HEAD

    # Reading ---------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes = b"") -> Event | None:
        """Take bytes, and return the next event; None if more bytes are needed, or a reply is due.

        Between a head and `go_on`, and until the reply is written, bytes are only kept.
        """
        if self._pending:
            data = self._pending + data
        try:
            if self._state is _State.HEAD:
                return self._read_head(data)
            if self._state is _State.BODY:
                return self._read_body(data)
        except Refused as refused:
            return self._refuse(refused)
        self._pending = b"" if self._state is _State.OVER else data
        return None

    def end(self) -> Event | None:
        """Note that the peer sends nothing any more; return as `feed` does: a refusal in the middle of a request."""
        self._ended = True
        return self.feed()

    def _refuse(self, refused: Refused) -> Refused:
        self._state = _State.OVER
        self._pending = b""
        return refused

    def _read_head(self, data: bytes) -> RequestHead | None:
        config = self._config
        if data[:1] == b"\r":
            # An old habit of clients: an empty line behind a body (RFC 9112 section 2.2).
            empty = _EMPTY_LINES.match(data)
            assert empty is not None
            self._skipped += empty.end()
            data = data[empty.end() :]
            self._scanned = 0
        end = data.find(_END, self._scanned) + len(_END)
        size = self._skipped + (end if end >= len(_END) else len(data))
        if size > config.head_bytes_max:
            limit = f"{config.head_bytes_max} bytes (head_bytes_max)"
            raise Refused(431, TooLarge(f"the request's head is longer than the limit, {limit}"))
        if end < len(_END):
            self._keep_beginning(data)
            return None
        head = self._head = self._known_head(data[:end])
        self._pending = data[end:] if len(data) > end else b""
        self._scanned = self._skipped = 0
        length = head.body_bytes
        if length == 0:
            self.body = b""
            self._state = _State.WHOLE
        elif length is not None and length <= min(len(self._pending), config.body_bytes_max):
            self.body = self._pending[:length]
            self._pending = self._pending[length:]
            self._state = _State.WHOLE
        else:
            self.body = None
            self._state = _State.HEAD_READ
        return head

    def _known_head(self, raw: bytes) -> RequestHead:
        head = self._read
        if head is not None and raw == self._raw:
            self.repeated = True
            return head
        self.repeated = False
        head, self.key, self.credentials = self._heads.read(raw)
        kept = self.credentials is not None and len(raw) <= REPEATED_BYTES_MAX
        self._raw, self._read = (raw, head) if kept else (b"", None)
        return head

    def _keep_beginning(self, data: bytes) -> None:
        if data:
            check_beginning(data, self._scanned)
            if self._ended:
                raise Refused(400, Invalid("this is not valid HTTP/1.1: the connection ended within a head"))
        self._pending = data
        self._scanned = max(0, len(data) - len(_END) + 1)

    def go_on(self) -> bytes:
        """Ask for the body of the present request, by `feed`; return what has to be sent first: `CONTINUE`, or nothing.

        Raises `Refused` (413) if the peer has announced too much.
        """
        head, config = self._head, self._config
        assert head is not None
        assert self._state is _State.HEAD_READ
        self._state = _State.BODY
        if head.body_bytes is None:
            self._chunks = ChunkedBody(config.body_bytes_max, config.head_bytes_max)
        elif head.body_bytes <= config.body_bytes_max:
            self._left = head.body_bytes
        else:
            limit = f"{config.body_bytes_max} bytes"
            raise self._refuse(Refused(413, TooLarge(f"the body is longer than the limit (body_bytes_max), {limit}")))
        return CONTINUE if head.expects_continue and not self._pending else b""

    def _read_body(self, data: bytes) -> bytes | None:
        body = self._read_chunks(data) if self._chunks is not None else self._read_length(data)
        if body is None:
            if self._ended and not self.behind:
                raise Refused(400, Invalid("this is not valid HTTP/1.1: the connection ended within a body"))
            return None
        self._state = _State.WHOLE
        return body

    def _read_length(self, data: bytes) -> bytes | None:
        left = self._left
        if len(data) < left:
            self._data += data
            self._pending = b""
            self._left -= len(data)
            return None
        body, self._data = bytes(self._data + data[:left]), bytearray()
        self._pending = data[left:]
        return body

    def _read_chunks(self, data: bytes) -> bytes | None:
        assert self._chunks is not None
        body, self._pending = self._chunks.feed(data)
        if body is not None:
            self._chunks = None
        return body

    def take_rest(self) -> bytes:
        """Return the bytes received behind the present head, of another protocol; nothing more is read here."""
        rest, self._pending = self._pending, b""
        self._state = _State.OVER
        return rest

    # Writing ---------------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply, date: str, *, close: bool = False) -> bytes:
        """Write the reply to the present request, or to a head that was refused; expect the next request.

        That is the last one if `close` is true, if the peer wants that, or if the request did not come whole.
        """
        head = self._head
        close = close or self._state is not _State.WHOLE or head is None or head.close
        data = write_reply(reply, date, close=close, bodiless=head is not None and head.method == "HEAD")
        if close:
            self._state = _State.OVER
            self._pending = b""
        else:
            self._state = _State.HEAD
        self._forget_request()
        return data

    @property
    def keeps(self) -> bool:
        """Whether the present request is whole, and its reply need not close the connection."""
        return self._state is _State.WHOLE and self._head is not None and not self._head.close

    def replied(self) -> None:
        """Note that the reply was written elsewhere, and does not close the connection: only if this `keeps`."""
        assert self.keeps
        self._state = _State.HEAD
        self._forget_request()

    def _forget_request(self) -> None:
        """Drop all that is of the present request, so that nothing of it is taken for a part of the next one."""
        self._head = self._chunks = self.body = None
        if self._data:
            self._data = bytearray()
