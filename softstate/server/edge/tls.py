"""TLS on a wire: a filter of bytes between a socket and its connection, which knows nothing of it.

OpenSSL works on two buffers in memory, and this moves bytes between them and the socket. An `ssl.SSLSocket` would not
do: one whose `send` was interrupted has sealed bytes that its caller may take back, and would send them in the place of
the next ones. Here what is sealed is always sent, and in order: as much as was sealed counts as taken, so that the
outbox replaces none of it. Only the last byte of all counts as not taken until the socket has everything. So a peer
that is owed something is *congested* for its connection with TLS as without, and what follows the last byte (the end)
does not come too early.

The handshake is made as the connection reads, and so has the time of a request's head. Its errors end the connection,
and nothing else.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Literal, TypeAlias, final

import trio

from softstate.auth.lasting import CREDENTIALS_S_MIN
from softstate.auth.presented import Certificate
from softstate.server.edge.tls_reasons import in_plain_words
from softstate.server.edge.wire import Peer, Wire
from softstate.server.measure.traffic import Traffic

RECORD_BYTES = 16 * 1024
"""Bytes that are sealed at once, at most: those of one record. What waits beyond it can still be replaced."""

RECEIVE_BYTES = RECORD_BYTES // 2
"""Bytes that are received at once, at most: so many in messages of TLS itself take 7 ms (see `SILENT_BYTES_MAX`)."""

SILENT_BYTES_MAX = 24 * 1024
"""Bytes of a peer that bring no data, at most. A record that is on its way counts as such until it is whole; so does
each message of TLS itself. A KeyUpdate costs 21 us for 27 bytes, as much as data of a hundred times its size."""

SILENT_BYTES_PER_S = 256
"""As many of them are forgiven in each second."""

RECORD_BYTES_SPARE = 512
"""Bytes that a record may have beside its data, for padding."""

SEALED_BYTES_MAX = 64 * 1024
"""Sealed bytes that may wait for the socket. A handshake and a record are a third of it; a peer that goes beyond has
asked for answers of TLS itself (KeyUpdate) and does not read them."""

LINGER_BYTES_MAX = 64 * 1024
"""Bytes that a peer may go on sending whose handshake was refused; all of them are thrown away."""

GONE = (OSError, trio.BrokenResourceError)
"""Errors that a write raises once the connection is gone."""

PLAIN_TEXT = "this port speaks TLS: use https:// or wss://"

_PLAIN_BODY = b'{"code":"invalid","message":"%s"}' % PLAIN_TEXT.encode()
PLAIN_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_PLAIN_BODY), _PLAIN_BODY)
)
"""The answer, in plain text, to HTTP that comes without TLS (P-HTTP-18)."""

_NOTHING = memoryview(b"")

TlsFailure: TypeAlias = Literal["handshake refused", "broken off"]

TOO_SILENT = "too much of TLS itself, such as KeyUpdate, for hardly any data"


@final
class Tls:
    """The TLS of one node. `context` is used by the handshakes to come; another may take its place at any time.

    `now` is a monotonic clock, and `wall` that by which certificates of clients end, both in seconds. `failed` is told
    of each connection that TLS has ended: what has happened, because of what, and the address of its other end.
    """

    def __init__(
        self, context: ssl.SSLContext, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.context = context
        self.now = now
        self.wall = wall
        self.handshakes = 0
        """Handshakes that were completed."""
        self.refused = 0
        """Handshakes that were not: it was no TLS, or none that both sides can agree on."""
        self.failed: Callable[[TlsFailure, str, str], None] = lambda _what, _because, _address: None

    def note_refused(self, because: str, address: str) -> None:
        """Count a handshake that was refused."""
        self.refused += 1
        self.failed("handshake refused", because, address)

    def note_broken(self, because: str, address: str) -> None:
        """Tell that a connection was broken off."""
        self.failed("broken off", because, address)


class _Step(Enum):
    SHAKE = auto()
    """The handshake is under way."""
    OPEN = auto()
    SHUT = auto()
    """The end was sent, and what is received means nothing any more."""
    REFUSED = auto()
    """The handshake was refused; the peer may read why, and what it still sends is thrown away."""
    OVER = auto()
    """The socket is closed, or no more can be read from it."""


@final
class TlsWire:
    """A wire with TLS on another. Implements `softstate.server.edge.wire.Wire`, and is the peer of the wire below."""

    __slots__ = (
        "_again", "_credit", "_ended", "_incoming", "_linger_bytes", "_object", "_outgoing", "_reading", "_rest",
        "_seal", "_sealed", "_send", "_silent", "_silent_at", "_step", "_tls", "_unread", "_until", "_wire", "_writing",
        "address", "certificate", "peer",
    )  # fmt: skip

    secure = True

    def __init__(self, wire: Wire, tls: Tls, address: str = "") -> None:
        self.peer: Peer | None = None
        self.address = address
        self.certificate: Certificate | None = None
        self._until = math.inf
        """The end of that certificate, by the monotonic clock: its holder has to bring another one (P-AUTH-13)."""
        self._tls = tls
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._seal, self._sealed, self._send = self._object.write, self._outgoing.read, wire.try_send
        self._step = _Step.SHAKE
        self._rest = _NOTHING
        """Sealed bytes that the socket has not taken."""
        self._credit = False
        """Whether the last byte that was offered is sealed, and counted as not taken."""
        self._unread = False
        """Whether something that was received has not been read, or may not have been."""
        self._ended = False
        """Whether the peer has said that it sends no more."""
        self._linger_bytes = LINGER_BYTES_MAX
        self._silent = 0
        """Bytes that were received and have brought no data, and when some were forgiven last."""
        self._silent_at = tls.now()
        # The wishes of the peer. The socket is read during the handshake in any case.
        self._reading = True
        self._writing = self._again = False
        self._wire = wire
        wire.peer = self

    # The wire of its peer -------------------------------------------------------------------------------------------

    @property
    def traffic(self) -> Traffic:
        """See `Wire.traffic`."""
        return self._wire.traffic

    def try_send(self, data: bytes | memoryview) -> int:
        """See `Wire.try_send`. Data that begin something new are two bytes at least."""
        if self._step is _Step.OPEN and not (self._rest or self._credit) and 0 < len(data) <= RECORD_BYTES:
            self._seal(data)
            sealed = self._sealed()
            try:
                taken = self._send(sealed)
            except BlockingIOError:
                taken = 0
            if taken == len(sealed):
                return len(data)
            self._keep(memoryview(sealed)[taken:])
            self._credit = True
            return len(data) - 1
        return self._send_portions(data)

    def _send_portions(self, data: bytes | memoryview) -> int:
        if self._step in (_Step.SHAKE, _Step.REFUSED):
            return 0
        if self._step is not _Step.OPEN:
            raise BrokenPipeError("the connection was closed")
        if not self._flush() or not data:
            return 0
        if self._credit:
            self._credit = False
            return 1
        view, sent = memoryview(data), 0
        while sent < len(data):
            sent += self._seal(view[sent : sent + RECORD_BYTES])
            if not self._flush():
                self._credit = sent == len(data)
                return sent - self._credit
        return sent

    def receive(self, max_bytes: int) -> bytes:
        """See `Wire.receive`. A connection that breaks off counts as one that ends: HTTP tells by itself what is cut.

        Once it is shut, what is received means nothing.
        """
        if self._step is _Step.SHAKE:
            self._shake()
        match self._step:
            case _Step.OPEN:
                return self._read(max_bytes)
            case _Step.SHUT:
                return self._wire.receive(max_bytes)
            case _Step.OVER:
                return b""
        raise BlockingIOError

    def want_read(self, wanted: bool) -> None:
        """See `Wire.want_read`."""
        self._reading = wanted
        if self._step not in (_Step.SHAKE, _Step.REFUSED):
            self._wire.want_read(wanted)
            if wanted and self._unread:
                self._wire.again()

    def again(self) -> None:
        """See `Wire.again`."""
        self._again = True
        self._wire.again()

    def want_write(self, wanted: bool) -> None:
        """See `Wire.want_write`."""
        self._writing = wanted
        self._set_writing()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `Wire.start_soon`."""
        self._wire.start_soon(task)

    def hung_up(self) -> bool:
        """See `Wire.hung_up`."""
        return self._ended or self._step is _Step.OVER or self._wire.hung_up()

    def shut(self) -> None:
        """See `Wire.shut`."""
        if self._step is _Step.OPEN:
            self._step = _Step.SHUT
            self._notify_close()
            with suppress(*GONE):  # it is read until its end all the same
                self._flush()

    def close(self) -> None:
        """See `Wire.close`."""
        if self._step is _Step.OPEN and not self._rest:
            self._notify_close()
            with suppress(*GONE):
                self._flush()
        self._step = _Step.OVER
        self.peer = None
        self._wire.close()

    # The peer of the wire below -------------------------------------------------------------------------------------

    def readable(self) -> None:
        """See `Peer.readable`."""
        if self._step is _Step.SHAKE:
            self._shake()
            if self._step is _Step.SHAKE:
                return
        if self._step is _Step.REFUSED:
            self._throw_away()
        again, self._again = self._again, False
        peer = self.peer
        if self._step is _Step.REFUSED:
            return
        if peer is None:
            self.close()
        elif self._reading or again:
            peer.readable()
        elif self._step is _Step.OVER:
            peer.end()

    def writable(self) -> None:
        """See `Peer.writable`."""
        try:
            flushed = self._flush()
        except GONE:
            self.end()
            return
        if flushed and self._writing and self._step is _Step.OPEN and self.peer is not None:
            self.peer.writable()

    def end(self) -> None:
        """See `Peer.end`."""
        if self.peer is not None:
            self.peer.end()
        else:
            self.close()

    def fail(self) -> None:
        """See `Peer.fail`."""
        if self.peer is not None:
            self.peer.fail()
        else:
            self.close()

    # The handshake --------------------------------------------------------------------------------------------------

    def _shake(self) -> None:
        """Go on with the handshake, with what was received."""
        try:
            data = self._wire.receive(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._step = _Step.OVER
            return
        # A method. A record of TLS begins with a number below those of letters.
        if not self._unread and data[:1].isalpha():
            self._refuse(PLAIN_REPLY, PLAIN_TEXT)
            return
        self._unread = True
        self._incoming.write(data)
        try:
            self._object.do_handshake()
            self._step = _Step.OPEN
            self._flush()
        except ssl.SSLWantReadError:
            self._answer_handshake()
        except ssl.SSLError as error:
            self._refuse(self._outgoing.read(), in_plain_words(error))
        except GONE:
            self._step = _Step.OVER
        if self._step is _Step.OPEN:
            self._tls.handshakes += 1
            self.certificate = presented_by(self._object)
            if self.certificate is not None:
                self._until = self._tls.now() + self.certificate.end - self._tls.wall() - CREDENTIALS_S_MIN
            self._wire.want_read(self._reading)
            self._set_writing()

    def _answer_handshake(self) -> None:
        try:
            self._flush()
        except GONE:
            self._step = _Step.OVER

    def _refuse(self, answer: bytes, because: str) -> None:
        """Say why there is no handshake, and let the peer read it: closed with bytes unread, it would be reset."""
        self._tls.note_refused(because, self.address)
        self._step = _Step.REFUSED
        self._rest = _NOTHING
        with suppress(*GONE):  # the few bytes fit into a new socket's buffer
            self._send(answer)
        self._wire.want_write(False)
        self._wire.shut()

    def _throw_away(self) -> None:
        try:
            data = self._wire.receive(RECEIVE_BYTES)
        except BlockingIOError:
            return
        self._linger_bytes -= len(data)
        if not data or self._linger_bytes <= 0:
            self._step = _Step.OVER

    # Bytes ----------------------------------------------------------------------------------------------------------

    def _read(self, max_bytes: int) -> bytes:
        if self._ended or (self.certificate is not None and self._tls.now() >= self._until):
            return b""
        if self._unread:
            with suppress(BlockingIOError):
                return self._open_some(max_bytes)
        data = self._wire.receive(RECEIVE_BYTES)
        if not data:
            self._ended = True
            return b""
        self._silent += len(data)
        self._incoming.write(data)
        return self._open_some(max_bytes)

    def _open_some(self, max_bytes: int) -> bytes:
        try:
            data = self._object.read(max_bytes)
        except ssl.SSLWantReadError:
            self._unread = False
            if self._silent > SILENT_BYTES_MAX and self._is_too_silent():
                self._break_off(TOO_SILENT)
            if not self._say_more():
                return b""
            raise BlockingIOError from None
        except ssl.SSLError as error:
            self._break_off(in_plain_words(error))
            self._say_more()
            return b""
        self._ended = not data
        spoken = len(data) + (0 if self._object.pending() else RECORD_BYTES_SPARE)
        self._silent = self._silent - spoken if self._silent > spoken else 0
        self._unread = bool(data) and bool(self._incoming.pending or self._object.pending())
        if self._unread and self._reading:
            self._wire.again()
        if self._outgoing.pending:
            self._say_more()
        return data

    def _is_too_silent(self) -> bool:
        now = self._tls.now()
        forgiven = int((now - self._silent_at) * SILENT_BYTES_PER_S)
        self._silent, self._silent_at = max(0, self._silent - forgiven), now
        return self._silent > SILENT_BYTES_MAX

    def _break_off(self, because: str) -> None:
        self._step = _Step.OVER
        self._tls.note_broken(because, self.address)

    def _say_more(self) -> bool:
        """Write what TLS has to say by itself; return False if the connection is gone, or takes none of it."""
        try:
            self._flush()
        except GONE:
            self._step = _Step.OVER
        if len(self._rest) > SEALED_BYTES_MAX:
            self._break_off("its peer does not read what it asks TLS for")
        if self._step is _Step.OVER:
            self._wire.again()  # nothing else may come, by which its peer would notice
        return self._step is not _Step.OVER

    def _flush(self) -> bool:
        """Write what is sealed; tell whether the socket has taken all."""
        if self._outgoing.pending:
            sealed = self._outgoing.read()
            self._rest = memoryview(bytes(self._rest) + sealed if self._rest else sealed)
        rest = self._rest
        if rest:
            try:
                taken = self._send(rest)
            except BlockingIOError:
                taken = 0
            self._keep(rest[taken:])
        if self._step is _Step.SHUT and not self._rest:
            self._wire.shut()
        return not self._rest

    def _keep(self, rest: memoryview) -> None:
        self._rest = rest
        self._set_writing()

    def _set_writing(self) -> None:
        self._wire.want_write(bool(self._rest) or (self._writing and self._step is _Step.OPEN))

    def _notify_close(self) -> None:
        # It is sent first; then what the peer has sent meanwhile, or not, is an error.
        with suppress(ssl.SSLError):
            self._object.unwrap()


_KINDS = {"URI": "uri", "DNS": "dns", "email": "email"}


def presented_by(end: ssl.SSLObject) -> Certificate | None:
    """Return the certificate that the other end of a connection has presented, if any; it was verified."""
    found, data = end.getpeercert(), end.getpeercert(binary_form=True)
    if not found or data is None:
        return None
    told: Mapping[str, Any] = found
    names = [(_KINDS[kind], name) for kind, name in told.get("subjectAltName", ()) if kind in _KINDS]
    names += [("cn", name) for part in told.get("subject", ()) for kind, name in part if kind == "commonName"]
    begin, end_ = (float(ssl.cert_time_to_seconds(told[name])) for name in ("notBefore", "notAfter"))
    return Certificate(sha256(data).hexdigest(), tuple(names), begin, end_)
