"""One interface to two nodes, so that the same tests of a client run against both: the scripted one and a real one.

The scripted node says what a test wants to hear, and may be kinder than a real one. Tests that need no script run
against both; then the script cannot drift from the real thing.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import trio

from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.shell.clock import TrioClock
from softstate.model import Change
from softstate.names import covers
from softstate.testing import memory_node
from softstate.testing.in_memory import MemoryNode
from softstate.wire import CBOR, JSON, Codec, encode_value
from softstate.wire.messages import Batch, BatchResult, BatchResults, Poll, Polled
from tests.kit.push_node import URL, PushNode
from tests.kit.scripted_node import Answer, HttpRequest, ScriptedNode


class EitherNode(ABC):
    """A node with a store, and clients that publish to it."""

    @abstractmethod
    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect a client."""

    @abstractmethod
    def damage(self, topic: str) -> None:
        """Make the stored record of a topic unreadable."""


class RealNode(EitherNode):
    """`softstate.testing.memory_node`."""

    def __init__(self, node: MemoryNode) -> None:
        self.node = node

    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect a client."""
        return self.node.connect(**options)

    def damage(self, topic: str) -> None:
        """Make the stored record of a topic unreadable."""
        self.node.disk.image.damage(topic)


class StoringNode(EitherNode):
    """A scripted node over HTTP and WebSocket, with one small store behind both."""

    def __init__(self, push: PushNode) -> None:
        self.push = push
        self.damaged: set[str] = set()
        push.node.http = self.answer

    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect a client."""
        random_ = random.Random(1)
        return connect(URL, open_stream=self.push.node.open_stream, random=random_, clock=TrioClock(), **options)

    def damage(self, topic: str) -> None:
        """Make the stored record of a topic unreadable."""
        self.damaged.add(topic)

    async def answer(self, asked: HttpRequest) -> Answer:
        """Answer a request as a real node does."""
        await trio.lowlevel.checkpoint()
        url = urlsplit(asked.target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        codec = JSON if "json" in asked.headers.get("accept", "") else CBOR
        body_codec = JSON if "json" in asked.headers.get("content-type", "") else CBOR
        match asked.method, url.path:
            case "POST", "/v1/poll":
                poll = body_codec.loads(asked.body, Poll)
                return self._polled({**poll.topics, **poll.prefixes}, codec)
            case "POST", "/v1/publish":
                batch = body_codec.loads(asked.body, Batch)
                results = [self._publish(change.topic, change) for change in batch.changes]
                return Answer.of(BatchResults(results), codec)
            case "GET", "/v1/topics":
                return self._polled({query["prefix"]: 0}, codec)
            case "GET", "/v1/status":
                return Answer.of({"node": "n"}, JSON)
            case _:
                return self._topic(unquote(url.path.removeprefix("/v1/topics/")), query, codec)

    def _topic(self, topic: str, query: dict[str, str], codec: Codec) -> Answer:
        known = self.push.topics.get(topic)
        if int(query.get("at_least", 0)) > self.push.revision:
            return Answer.of({"code": "behind", "message": "wait", "retry_ms": 100}, codec, status=503)
        if topic in self.damaged:
            return Answer.of({"code": "unreadable", "message": "damaged"}, codec, status=500)
        tag: Any = {} if known is None else {"ETag": f'"e.l.{known.version}"'}
        if known is None or known.deleted:
            return Answer.of({"code": "not_found", "message": "no such topic"}, codec, status=404, **tag)
        return Answer(200, codec.value(encode_value(known.value)), [("Content-Type", codec.content_type), *tag.items()])

    def _polled(self, since: dict[str, int], codec: Codec) -> Answer:
        changes, damaged = [], []
        for topic, change in self.push.topics.items():
            known = [number for name, number in since.items() if covers(name, topic)]
            if not known or change.version <= min(known) or (change.deleted and min(known) == 0):
                continue
            damaged.append(topic) if topic in self.damaged else changes.append(change)
        page = Polled(0, self.push.position, sorted(changes, key=_version), next_ms=15_000, unreadable=damaged)
        return Answer.of(page, codec)

    def _publish(self, topic: str, change: Any) -> BatchResult:
        known = self.push.topics.get(topic)
        live = known is not None and not known.deleted
        current = known.version if known is not None and live else 0
        if change.expect is not None and change.expect != current:
            return BatchResult(topic, code="conflict", message="lost", current=current)
        if change.deleted and not live:
            return BatchResult(topic, known.version if known else 0, self.push.position)
        self.damaged.discard(topic)
        made = self.push.put(topic, None if change.deleted else change.value, deleted=change.deleted)
        return BatchResult(topic, made.version, self.push.position)


def _version(change: Change) -> int:
    return change.version


@asynccontextmanager
async def either_node(kind: str) -> AsyncIterator[EitherNode]:
    """Run a node, ``scripted`` or ``real``, for the length of a block."""
    if kind == "real":
        async with memory_node() as node:
            yield RealNode(node)
        return
    async with trio.open_nursery() as nursery:
        push = PushNode(ScriptedNode(nursery))
        push.node.websocket = push.serve
        yield StoringNode(push)
        nursery.cancel_scope.cancel()
