"""Nodes on a real engine, with real clients, in this process, observed during faults of the engine."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import trio

import softstate
from softstate import Change, Reset
from softstate.client.api.client import Client
from softstate.client.api.updates import Updates
from softstate.client.requests.reply import Reply
from softstate.client.shell.http import HttpClient
from softstate.client.url import parse_url
from softstate.http_client.streams import open_tcp
from softstate.model import Mode, Value
from softstate.position import Position
from softstate.server import Node, ServerConfig
from softstate.server.serving import serve
from softstate.wire import JSON

CONFIG = ServerConfig(
    port=0, ttl_ms=3_000, timeout_ms=800, store_s_max=1.0, poll_every_ms=100, recover_base_ms=20, recover_cap_ms=200
)
"""Short terms, so that a lease ends soon unless it is renewed; `store_s_max` well below any engine's own patience."""

LEASE_S = CONFIG.ttl_ms * 1.1 / 1000
"""TTL and grace: a lease that still holds after that was extended without the store."""

AGE_S_MAX = (1.2 * CONFIG.ttl_ms / 3 + CONFIG.timeout_ms) / 1000
"""Promise B, for a client that is live: how old its knowledge gets between renewals that reach the store."""

REFUSAL_S_MAX = 2.5
"""By when a store that does not answer has to be told from one that is slow: less than the 3 s of a call to one."""

WAIT_S = 50.0
"""How long a test may take in all."""

POLL_S = 0.01
"""How often a condition without an event is polled."""

SIGNAL_S = 0.05
"""How long the system may take to deliver a signal."""


async def until(check: Callable[[], bool]) -> None:
    """Poll until a condition holds. The bound is that of the test, `WAIT_S`."""
    while not check():
        await trio.sleep(POLL_S)


class Served:
    """One node in its place: `softstate serve` without the process. It can be killed, and started on the same port."""

    def __init__(self, nursery: trio.Nursery, store: str) -> None:
        self.config = replace(CONFIG, store=store)
        self.node: Node
        self._nursery = nursery
        self._http = HttpClient(open_tcp, JSON)
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.config.port}"

    async def start(self) -> None:
        """Start it, and return once it listens."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self.node = await self._nursery.start(self._run)
        self.config = replace(self.config, port=int(self.node.addresses[0].rpartition(":")[2]))

    async def _run(self, task_status: trio.TaskStatus[Node]) -> None:
        with self._scope:
            await serve(self.config, task_status=task_status)
        self._ended.set()

    async def kill(self) -> None:
        """End it without a farewell."""
        self._scope.cancel()
        await self._ended.wait()

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Make one HTTP request, with a JSON body."""
        return await self._http.request(parse_url(self.url), method, path, body=body, timeout_s=REFUSAL_S_MAX)

    async def put(self, topic: str, value: str) -> Reply:
        """Publish some text over HTTP."""
        return await self.ask("PUT", f"/v1/topics/{topic}", JSON.dumps(value))

    async def aclose(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def node_on(store: str) -> AsyncIterator[Served]:
    """Run a node on a store for the length of a block, which may take `WAIT_S`."""
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            served = Served(nursery, store)
            await served.start()
            yield served
            await served.aclose()
            nursery.cancel_scope.cancel()


class Follower:
    """An application that follows some names. Fails if it is told what no application may be told (S1, S8, S9)."""

    def __init__(self, client: Client, updates: Updates, best: Mode) -> None:
        self.client = client
        self.updates = updates
        self.values: dict[str, Value] = {}
        self.resets = 0
        self.best = best
        self._versions: dict[str, int] = {}
        self._unconfirmed: set[str] = set()
        """Topics of an earlier history, of which the new one has not been heard."""

    async def run(self) -> None:
        async for event in self.updates.events():
            if isinstance(event, Reset):
                self.resets += 1
                self._unconfirmed |= self._versions.keys()
                self._versions.clear()
            elif isinstance(event, Change):
                self._take(event)

    def _take(self, change: Change) -> None:
        known = self._versions.get(change.topic, 0)
        assert change.version > known or change.deleted, f"{change} follows version {known}"
        self._versions[change.topic] = max(change.version, known)
        self._unconfirmed.discard(change.topic)
        if change.deleted:
            self.values.pop(change.topic, None)
        else:
            self.values[change.topic] = change.value

    async def shows(self, values: dict[str, Value]) -> None:
        """Wait until it knows just this, all of it of the present history, and is as well connected as can be."""
        await until(lambda: self.values == values and not self._unconfirmed and self.client.mode == self.best)

    def knows(self, topic: str) -> Value:
        """Return what its client knows of a topic at this moment, before the application has been told."""
        return next((change.value for change in self.client._machine.known(topic)), None)

    async def honest_until(self, check: Callable[[], bool], since: float) -> None:
        """Wait; meanwhile the reported age must say that nothing is known of what happened after `since` (S5)."""
        while not check():
            assert self.updates.age >= trio.current_time() - since
            await trio.sleep(POLL_S)


@asynccontextmanager
async def following(url: str, *names: str, push: bool = True, **options: Any) -> AsyncIterator[Follower]:
    """Run an application for the length of a block, from when it is live; or, without `push`, polls."""
    async with softstate.connect(url, push=push, **options) as client, client.subscribe(*names) as updates:
        async with trio.open_nursery() as nursery:
            follower = Follower(client, updates, "live" if push else "polling")
            nursery.start_soon(follower.run)
            await until(lambda: client.mode == follower.best)
            await updates.synced()
            yield follower
            nursery.cancel_scope.cancel()


def undisturbed(served: Served, *followers: Follower) -> None:
    """Fail if any lease, connection or history was lost, or anything had to be repaired."""
    assert served.node.repairs == {}, served.node.repairs
    assert served.node.access.follower.rewinds == 0
    for follower in followers:
        counts = follower.client.statistics()
        harmless = {
            "connects": 1,
            "welcomes": 1,
            "polls": counts.polls,
            "publishes_repeated": counts.publishes_repeated,
        }
        assert counts == type(counts)(**harmless), counts
        assert follower.resets == 0


class Line:
    """Opens a client's streams, so that it can be cut off from every node."""

    def __init__(self) -> None:
        self._cut = False
        self._sockets: list[trio.socket.SocketType] = []

    async def open(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        if self._cut:
            raise OSError("the line is cut")
        stream = await open_tcp(host, port, tls)
        assert isinstance(stream, trio.SocketStream)
        self._sockets.append(stream.socket)
        return stream

    def cut(self) -> None:
        """Cut every stream, and let none be opened."""
        self._cut = True
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def mend(self) -> None:
        self._cut = False


def port_of(url: str) -> int:
    """Return the port of a server on this host from a store's URL."""
    found = re.search(r"127\.0\.0\.1:(\d+)", url)
    assert found is not None
    return int(found[1])


def through(url: str, port: int) -> str:
    """Return a store's URL that leads over another port of this host."""
    return url.replace(f":{port_of(url)}", f":{port}")


def position_of(follower: Follower) -> Position:
    """Return how far a client has got."""
    position = follower.client.position
    assert position is not None
    return position
