"""A whole node in this process, and connections to it in memory: for tests in which time passes by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from softstate.server import Node, ServerConfig
from softstate.store import MemoryDisk, MemoryStore
from softstate.store.base import Write
from softstate.wire import encode_value
from tests.kit.fake_node import Answer, MemorySocket, MemoryStream, parse, read_all, whole


class MemoryNode:
    """A node, and requests to it."""

    def __init__(self, node: Node, store: MemoryStore, nursery: trio.Nursery) -> None:
        self.node = node
        self.store = store
        self.nursery = nursery

    def connect(self) -> MemoryStream:
        """Open a connection; return its other end."""
        peer, server = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.node.serve_stream, MemorySocket(server))
        return peer

    async def set(self, topic: str, value: Any) -> int:
        """Publish; return the version."""
        applied, _ = await self.node.access.writes.publish(Write(topic, encode_value(value)))
        return applied.version

    async def delete(self, topic: str) -> int:
        applied, _ = await self.node.access.writes.publish(Write(topic, None))
        return applied.version

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; header names are keywords with ``_`` for ``-``."""
        peer = self.connect()
        await peer.send_all(request(method, target, body, **headers))
        received = b""
        while (more := await peer.receive_some()) and not whole(received := received + more, ()):
            pass
        await peer.send_eof()
        (answer,) = parse(received + await read_all(peer))
        return answer


def request(method: str, target: str, body: Any = None, **headers: str) -> bytes:
    """Write a request."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:8700"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if data:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


@asynccontextmanager
async def memory_node(*, parts: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[MemoryNode]:
    """Run a node for the length of a block; `parts` are given to `Node`, `options` to its configuration."""
    store = MemoryStore(MemoryDisk())
    async with trio.open_nursery() as nursery:
        node = Node(ServerConfig(**options).check(), store, await store.head(), **(parts or {}))
        await node.start(nursery)
        yield MemoryNode(node, store, nursery)
        nursery.cancel_scope.cancel()
