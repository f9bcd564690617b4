"""Connections to etcd: which endpoint is in use, which connection a request goes over, and what may be relied on there.

It matters *which* connection a write goes over. A TCP connection ends in one etcd process: as long as it lives, no
older copy of the data can have been put in that process's place. When a client replaces a dead connection by itself,
that cannot be known; `softstate.http_client` leaves it to its caller.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import ConnectionBroken, ExchangeFailed, Request
from softstate.http_client.pool import IdlePool
from softstate.http_client.streams import STREAM_ERRORS, cause, open_secured, reason
from softstate.store.etcd.messages import Header

CONNECT_S = 1.0
"""How long connecting to one endpoint may take, the TLS handshake included, in seconds."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""The longest answer, or line of a stream, that is taken."""


class Connection:
    """One connection to one endpoint. `where` names it in messages; once a method has raised, it is of no use.

    `covered` is for the writer: whether the lineage in force was begun after this connection was made. It is lost when
    an answer shows another cluster, another member or another term of the leader than the one before.
    """

    peer = "etcd"
    """All endpoints serve the same data: any idle connection will do."""

    def __init__(self, http: HttpConnection, where: str) -> None:
        self.where = where
        self.endpoint = 0
        self.covered = False
        self.source: tuple[int, int, int] | None = None
        self._http = http

    @property
    def usable(self) -> bool:
        """Whether the connection can be used again, as far as this machine knows."""
        return self._http.usable

    @property
    def idle_since_s(self) -> float:
        """Since when it waits for a request."""
        return self._http.idle_since_s

    def came_from(self, header: Header) -> None:
        """Note which process has answered."""
        source = (header.cluster_id, header.member_id, header.raft_term)
        if self.source is not None and source != self.source:
            self.covered = False
        self.source = source

    async def ask(self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> tuple[int, bytes]:
        """Make one request; return status and body. Raises `Unavailable`. If cancelled, the connection is over."""
        with self._failures():
            response = await self._http.request(Request(method, self.where, path, headers, body), ANSWER_BYTES_MAX)
            return response.status, response.body

    async def stream(self, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Make a request whose answer does not end; return its status. `chunk` brings the answer."""
        with self._failures():
            return (await self._http.start(Request("POST", self.where, path, headers, body))).status

    async def chunk(self) -> bytes:
        """Return more of a stream, b"" at its end. Raises `Unavailable`. Cancellation loses nothing."""
        with self._failures():
            return await self._http.part()

    async def aclose(self) -> None:
        """Cut the connection."""
        await self._http.aclose()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except ConnectionBroken as failure:
            if failure.ended and not failure.answered and not self._http.kept:
                text = f"{self.where} closes the connection without an answer: does it want etcds://?"
                raise Unavailable(text) from failure
            raise Unavailable(f"{self.where} cannot be reached: {failure}") from failure
        except ExchangeFailed as failure:
            raise Unavailable(f"{self.where} does not answer as etcd's gateway does: {failure}") from failure


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """Connect to one endpoint. Raises `Unavailable` after `CONNECT_S` at the latest, or `StoreRefused`."""
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    with trio.move_on_after(CONNECT_S):
        try:
            stream = await open_secured(host, port, tls)
        except STREAM_ERRORS as error:
            behind = cause(error)
            if isinstance(behind, ssl.SSLCertVerificationError):
                raise StoreRefused(
                    f"{where} shows a certificate that is not trusted ({behind.verify_message}): check the host name,"
                    " and name the authority that signed it with ?cacert="
                ) from None
            raise Unavailable(f"{where} cannot be reached: {reason(error)}") from error
        return Connection(HttpConnection(stream, Connection.peer), where)
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
    """At most `limit` connections; idle ones are kept for the next request."""

    def __init__(self, endpoints: Endpoints, limit: int) -> None:
        self._endpoints = endpoints
        self._limit = trio.CapacityLimiter(limit)
        self._idle: IdlePool[Connection] = IdlePool()
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, waiting for one if `limit` are in use. If the body raises, the connection is closed.

        If it raises `Unavailable`, or runs out of time, the next connection is made to the next endpoint. Raises what
        `Endpoints.connect` does.
        """
        async with self._limit:
            if self._closed:
                raise trio.ClosedResourceError("this store was closed")
            kept = await self._idle.take(Connection.peer)
            async with self._idle.using(kept or await self._endpoints.connect()) as connection:
                try:
                    yield connection
                except (Unavailable, trio.Cancelled):
                    self._endpoints.failed(connection.endpoint)
                    raise

    async def drop(self) -> None:
        """Close what is idle."""
        await self._idle.drop()

    async def aclose(self) -> None:
        """Close what is idle, and what is in use once it has been given back; wait for that if it is the only one."""
        self._closed = True
        await self._idle.aclose()
        if self._limit.total_tokens == 1:
            async with self._limit:
                pass
