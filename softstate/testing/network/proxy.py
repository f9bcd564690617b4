"""A reverse proxy in a simulated network: it cuts idle connections, as many do after 60 s, and may be a cache.

A WebSocket passes as bytes. Other requests do too, unless the proxy caches: then each request is read, and forwarded
over a connection of its own. The cache follows RFC 9111 (sections 3, 4 and 5.2) as far as a node's replies need it; or
it is stubborn, and repeats its answers for a while regardless of their headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import h11
import trio

from softstate.testing.network.network import SimNetwork
from softstate.testing.network.stream import RECEIVE_BYTES, SimStream

PORT = 8700

PROXY_NAME = "proxy"
"""Host name of a proxy that the nodes of a `softstate.testing.World` answer to: it passes on the Host that it got."""
IDLE_S = 60.0
"""Default seconds without a byte after which a connection is cut: the default of nginx and others."""

Cut: TypeAlias = Literal["end", "reset", "swallow"]
"""The end of an idle connection: in order, with a reset, or unnoticed by either end."""

WEBSOCKET = b"GET /v1/ws"
_HOP = (b"connection", b"keep-alive", b"transfer-encoding")


@final
@dataclass(frozen=True, slots=True)
class _Stored:
    """A reply, kept since `at_s`."""

    at_s: float
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key == name), b"")

    def with_header(self, name: bytes, value: bytes) -> _Stored:
        kept = [(key, other) for key, other in self.headers if key != name]
        return replace(self, headers=[*kept, (name, value)])

    @property
    def fresh_s(self) -> float:
        """Seconds for which it may be used without revalidation."""
        directives = [part.strip() for part in self.header(b"cache-control").split(b",")]
        if b"no-cache" in directives or b"no-store" in directives:
            return 0.0
        return next((float(part[8:]) for part in directives if part.startswith(b"max-age=")), 0.0)


@final
class HttpCache:
    """The replies that a caching proxy keeps. `stubborn_s`: it repeats each for so long, answers to POST included.

    One that is stubborn looks at no body: those of polls differ by the age that their client tells.

    `shared`: its clients share it, so that it keeps nothing ``private``.

    `counts`: replies that were ``forwarded``, ``revalidated`` (the node said 304) and ``reused`` (without asking).
    """

    def __init__(self, stubborn_s: float = 0.0, *, shared: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self._stubborn_s = stubborn_s
        self._forbidden = (b"no-store", b"private") if shared else (b"no-store",)
        self._kept: dict[tuple[bytes, ...], _Stored] = {}

    def key(self, request: h11.Request, body: bytes) -> tuple[bytes, ...]:
        """Return the key of a reply: the request, and everything that a node's ``Vary`` names."""
        headers = dict(request.headers)
        varies = (headers.get(name, b"") for name in (b"accept", b"authorization", b"origin"))
        return request.method, request.target, *varies, b"" if self._stubborn_s else body

    def usable(self, key: tuple[bytes, ...]) -> _Stored | None:
        """Return a reply that may be used without revalidation, with its ``Age``; None if there is none."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age_s = trio.current_time() - kept.at_s
        if age_s >= max(kept.fresh_s, self._stubborn_s):
            return None
        self.counts["reused"] += 1
        return kept.with_header(b"age", str(int(age_s)).encode())

    def validator(self, key: tuple[bytes, ...]) -> bytes:
        """Return the ETag of the kept reply, to revalidate it with; empty if there is none."""
        return self._kept[key].header(b"etag") if key in self._kept else b""

    def take(self, key: tuple[bytes, ...], reply: _Stored, *, asked: bool) -> _Stored:
        """Take a node's reply; return the client's reply. `asked`: the request carried our ETag."""
        if reply.status == 304 and asked:
            self.counts["revalidated"] += 1
            kept = self._kept[key]
            for name, value in reply.headers:
                if name != b"content-length":
                    kept = kept.with_header(name, value)
            reply = replace(kept, at_s=reply.at_s)
        else:
            self.counts["forwarded"] += 1
        control = reply.header(b"cache-control")
        keeps = key[0] == b"GET" and not any(word in control for word in self._forbidden)
        if reply.status == 200 and (keeps or self._stubborn_s):
            self._kept[key] = reply
        else:
            self._kept.pop(key, None)
        return reply


@final
class SimProxy:
    """Listens at `name` for the node at `to` while `run` runs. `cuts` counts the idle connections it cut, by kind."""

    def __init__(
        self, network: SimNetwork, name: str, to: str, *,
        idle_s: float = IDLE_S, cut: Cut = "end", cache: HttpCache | None = None,
    ) -> None:  # fmt: skip
        self.url = f"ws://{name}:{PORT}"
        self.cuts: Counter[str] = Counter()
        self._network = network
        self._name = name
        self._to = to
        self._idle_s = idle_s
        self._cut: Cut = cut
        self._cache = cache

    async def run(self) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(self._serve, [self._network.listen(self._name, PORT)])

    async def _serve(self, client: SimStream) -> None:
        try:
            first = await client.receive_some()
            if self._cache is None or first.startswith(WEBSOCKET):
                await self._tunnel(client, first)
            else:
                await self._converse(client, first, self._cache)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # one of the two ends broke; the other will notice by itself
        finally:
            client.close()

    # Bytes -----------------------------------------------------------------------------------------------------------

    async def _tunnel(self, client: SimStream, first: bytes) -> None:
        node = await self._network.open_stream(self._name, self._to, PORT)
        with suppress(trio.BrokenResourceError):
            await node.send_all(first)
        tunnel = _Tunnel(client, node)
        kind = "websocket" if first.startswith(WEBSOCKET) else "http"
        async with trio.open_nursery() as nursery:
            for source, sink in ((client, node), (node, client)):
                nursery.start_soon(tunnel.pump, source, sink)
            nursery.start_soon(self._cut_when_idle, tunnel, kind)
            await tunnel.over.wait()
            nursery.cancel_scope.cancel()
        node.close()

    async def _cut_when_idle(self, tunnel: _Tunnel, kind: str) -> None:
        while True:
            left_s = tunnel.used_s + self._idle_s - trio.current_time()
            if left_s <= 0:
                break
            await trio.sleep(left_s)
        self.cuts[kind] += 1
        if self._cut == "swallow":
            tunnel.swallows = True
            return
        if self._cut == "reset":
            tunnel.client.reset()
            tunnel.node.reset()
        tunnel.over.set()

    # Requests --------------------------------------------------------------------------------------------------------

    async def _converse(self, client: SimStream, first: bytes, cache: HttpCache) -> None:
        server = h11.Connection(h11.SERVER)
        server.receive_data(first)
        while True:
            with trio.move_on_after(self._idle_s) as idle:
                found = await _read(server, client)
            if idle.cancelled_caught or found is None:
                self.cuts["http"] += idle.cancelled_caught
                return
            request, body = found
            assert isinstance(request, h11.Request)
            reply = await self._reply(request, body, cache)
            head = h11.Response(status_code=reply.status, headers=list(reply.headers))
            parts = [server.send(event) for event in (head, h11.Data(data=reply.body), h11.EndOfMessage())]
            await client.send_all(b"".join(part for part in parts if part))
            if server.our_state is not h11.DONE:
                return
            server.start_next_cycle()

    async def _reply(self, request: h11.Request, body: bytes, cache: HttpCache) -> _Stored:
        key = cache.key(request, body)
        if (usable := cache.usable(key)) is not None:
            return usable
        headers = [(name, value) for name, value in request.headers if name not in _HOP]
        tag = b"" if b"if-none-match" in dict(headers) else cache.validator(key)
        if tag:
            headers.append((b"if-none-match", tag))
        asked = h11.Request(method=request.method, target=request.target, headers=[*headers, (b"connection", b"close")])
        return cache.take(key, await self._forward(asked, body), asked=bool(tag))

    async def _forward(self, request: h11.Request, body: bytes) -> _Stored:
        at_s = trio.current_time()
        upstream = h11.Connection(h11.CLIENT)
        try:
            node = await self._network.open_stream(self._name, self._to, PORT)
        except OSError:
            return _Stored(at_s, 502, [(b"content-length", b"0")], b"")
        try:
            parts = [upstream.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
            await node.send_all(b"".join(part for part in parts if part))
            found = await _read(upstream, node)
        finally:
            node.close()
        if found is None:
            return _Stored(at_s, 502, [(b"content-length", b"0")], b"")
        head, content = found
        assert isinstance(head, h11.Response)
        return _Stored(at_s, head.status_code, [pair for pair in head.headers if pair[0] not in _HOP], content)


@final
class _Tunnel:
    """Both ends of a connection that passes as bytes. `used_s` is when a byte last came; `swallows`: none passes."""

    def __init__(self, client: SimStream, node: SimStream) -> None:
        self.client = client
        self.node = node
        self.used_s = trio.current_time()
        self.swallows = False
        self.over = trio.Event()
        self._ended = 0

    async def pump(self, source: SimStream, sink: SimStream) -> None:
        """Pass on the bytes from one end until it closes."""
        try:
            while data := await source.receive_some():
                self.used_s = trio.current_time()
                if not self.swallows:
                    await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._ended += 1
        if not self.swallows or self._ended == 2:
            self.over.set()


async def _read(connection: h11.Connection, stream: SimStream) -> tuple[h11.Request | h11.Response, bytes] | None:
    """Read one message; None if the stream ends instead."""
    head: h11.Request | h11.Response | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head, bytes(body)
        else:
            return None
