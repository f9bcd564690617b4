"""Connections to etcd: HTTP/1.1 for one request at a time, a bounded pool of them, and the endpoint that is in use.

Written on h11, which softstate has anyway, and not on an HTTP client with a pool of its own, because it matters *which*
connection a write goes over. A TCP connection ends in one etcd process: as long as it lives, nobody has put an older
copy of the data in that process's place. When a client replaces a dead connection by itself, that cannot be known.
Reading a stream here may also be cancelled without losing it, which the watch needs.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import h11
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.store.etcd.messages import Header

CONNECT_S = 1.0
"""How long connecting to one endpoint may take, the TLS handshake included, in seconds."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""The longest answer, or line of a stream, that is taken."""

READ_BYTES = 64 * 1024


class Connection:
    """One connection to one endpoint. `where` names it in messages; whatever fails here, the connection is over.

    `covered` is for whoever writes: whether the lineage in force was begun after this connection was made. It is lost
    when an answer shows another cluster, another member or another term of the leader than the one before.
    """

    def __init__(self, stream: trio.abc.Stream, raw: trio.SocketStream, where: str) -> None:
        self.where = where
        self.endpoint = 0
        self.covered = False
        self._answered = False
        self._stream = stream
        self._socket = raw.socket
        self._http = h11.Connection(h11.CLIENT)
        self.source: tuple[int, int, int] | None = None

    @property
    def alive(self) -> bool:
        """Whether the connection can be used again, as far as this machine knows."""
        if self._http.states != {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}:
            return False
        if self._socket.fileno() < 0:
            return False
        # Nothing is due, so whatever can be read is the end of the connection, or the notice of it.
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def came_from(self, header: Header) -> None:
        """Note who has answered."""
        source = (header.cluster_id, header.member_id, header.raft_term)
        if self.source is not None and source != self.source:
            self.covered = False
        self.source = source

    async def ask(self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> tuple[int, bytes]:
        """Make one request; return status and body. Raises `Unavailable`. If cancelled, the connection is over."""
        with faults(self.where):
            status = await self._begin(method, path, body, headers)
            parts = bytearray()
            while True:
                event = await self._next_event()
                if isinstance(event, h11.Data):
                    parts += event.data
                    if len(parts) > ANSWER_BYTES_MAX:
                        raise Unavailable(f"{self.where} answers with more than {ANSWER_BYTES_MAX} bytes")
                elif isinstance(event, h11.EndOfMessage):
                    break
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
            return status, bytes(parts)

    async def stream(self, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Make a request whose answer does not end; return its status. `chunk` brings the answer."""
        with faults(self.where):
            return await self._begin("POST", path, body, headers)

    async def chunk(self) -> bytes:
        """Return more of a stream, b"" at its end. Raises `Unavailable`. Cancellation loses nothing."""
        with faults(self.where):
            while True:
                event = await self._next_event()
                if isinstance(event, h11.Data):
                    return bytes(event.data)
                if isinstance(event, h11.EndOfMessage):
                    return b""

    async def aclose(self) -> None:
        """Cut the connection."""
        await trio.aclose_forcefully(self._stream)

    async def _begin(self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        request = h11.Request(
            method=method, target=path, headers=[("Host", self.where), ("Content-Length", str(len(body))), *headers]
        )
        sent = [self._http.send(request), self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage())]
        await self._stream.send_all(b"".join(part for part in sent if part))
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                self._answered = True
                return event.status_code

    async def _next_event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = bytes(await self._stream.receive_some(READ_BYTES))
                if not data and not self._answered:
                    raise Unavailable(f"{self.where} closes the connection without an answer: does it want etcds://?")
                self._http.receive_data(data)
            elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
                return event
            else:
                raise Unavailable(f"{self.where} has closed the connection")


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Raise what sockets, TLS and HTTP raise as `Unavailable`, and an untrusted certificate as `StoreRefused`."""
    try:
        yield
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
        cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise StoreRefused(
                f"{where} shows a certificate that is not trusted ({cause.verify_message}): check the host name, and"
                " name the authority that signed it with ?cacert="
            ) from None
        raise Unavailable(f"{where} cannot be reached: {cause or type(cause).__name__}") from error


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """Connect to one endpoint. Raises `Unavailable` after `CONNECT_S` at the latest, or `StoreRefused`."""
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    with trio.move_on_after(CONNECT_S), faults(where):
        raw = await trio.open_tcp_stream(host, port)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is None:
            return Connection(raw, raw, where)
        secured = trio.SSLStream(raw, tls, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(raw)
            raise
        return Connection(secured, raw, where)
    raise Unavailable(f"{where} does not answer within {CONNECT_S:g} s")


class Endpoints:
    """The endpoints of one etcd, of which one is in use until it fails."""

    def __init__(self, hosts: Sequence[tuple[str, int]], tls: ssl.SSLContext | None) -> None:
        self.count = len(hosts)
        self._hosts = hosts
        self._tls = tls
        self._at = 0

    async def connect(self) -> Connection:
        """Connect to the endpoint in use, or the next one that can be reached. Raises `Unavailable` for all of them."""
        reasons: list[str] = []
        for _ in self._hosts:
            try:
                connection = await connect(*self._hosts[self._at], self._tls)
            except Unavailable as error:
                reasons.append(error.message)
                self.failed(self._at)
            else:
                connection.endpoint = self._at
                return connection
        raise Unavailable("; ".join(reasons))

    def failed(self, endpoint: int) -> None:
        """Use the next endpoint from now on, unless that is so already."""
        if endpoint == self._at:
            self._at = (self._at + 1) % len(self._hosts)


class Pool:
    """At most `limit` connections; idle ones are kept, for whoever comes next."""

    def __init__(self, endpoints: Endpoints, limit: int) -> None:
        self._endpoints = endpoints
        self._limit = trio.CapacityLimiter(limit)
        self._idle: list[Connection] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, waiting for one if `limit` are in use. Whatever the body raises, it is over then.

        If it was `Unavailable`, or the time was over, the next connection is made to the next endpoint. Raises what
        `Endpoints.connect` does.
        """
        async with self._limit:
            connection = await self._take()
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, Unavailable | trio.Cancelled):
                    self._endpoints.failed(connection.endpoint)
                await self._discard(connection)
                raise
            if self._closed or not connection.alive:
                await self._discard(connection)
            else:
                self._idle.append(connection)

    async def _take(self) -> Connection:
        if self._closed:
            raise trio.ClosedResourceError("this store was closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            await self._discard(connection)
        return await self._endpoints.connect()

    async def _discard(self, connection: Connection) -> None:
        with trio.CancelScope(shield=True), suppress(trio.BrokenResourceError):
            await connection.aclose()

    async def drop(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._discard(self._idle.pop())

    async def aclose(self) -> None:
        """Close what is idle, and what is in use once it has been given back; wait for that if it is the only one."""
        self._closed = True
        await self.drop()
        if self._limit.total_tokens == 1:
            async with self._limit:
                pass
