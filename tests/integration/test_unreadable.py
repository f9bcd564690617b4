"""A damaged record is refused alone: by page, poll, GET and push, in both codecs, until it is published again (S18)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, cast

import pytest
import trio
import trio.testing
import trio_websocket
from wsproto.events import BytesMessage

from softstate.model import Record
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.store import MemoryDisk, MemoryStore
from softstate.store.base import Write
from softstate.store.memory.store import Checkpoint, MemoryImage
from softstate.testing.network.network import SimNetwork
from softstate.wire import CBOR, JSON, Codec, encode_value

CODECS = [CBOR, JSON]
CONFIG = ServerConfig()

DAMAGE = {
    "marked": None,
    "no CBOR": b"\xff\xff",
    "cut off": b"\x58\x20abc",
    "tagged": b"\xd8\x23\x61(",
    "a date": b"\xc0\x74" + b"2013-03-21T20:04:00Z",
    "deep": b"\x81" * 5_000 + b"\x00",
    "huge": b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "no text": b"\x62\xff\xff",
    "a surrogate": b"\x63\xed\xa0\x80",
}
"""Values that are none; `marked` is what an engine makes of a row that does not match its checksum."""


class Rig:
    """A node in memory, strict: damage is no bug. Its store holds ``t/bad`` and ``t/good``."""

    def __init__(self, config: ServerConfig, checkpoint: Checkpoint | None) -> None:
        self.network = SimNetwork(Random("network"))
        self.store = MemoryStore(MemoryDisk(Random("disk")), checkpoint=checkpoint)
        self.other = MemoryStore(self.store.disk)
        position = self.store.disk.image.position
        self.node = Node(config, self.store, position, jitter=Random("node"), bulkhead=Bulkhead(strict=True))

    async def put(self, topic: str, value: object = 0, **fields: Any) -> Any:
        (verdict,) = (await self.other.publish([Write(topic, encode_value(value), **fields)])).verdicts
        return verdict

    def damage(self, topic: str, cbor: bytes | None = None) -> None:
        image: MemoryImage = self.store.disk.image
        image.damage(topic)
        if cbor is not None:
            image.records[image.latest[topic]] = Record(topic, image.latest[topic], cbor)

    async def request(self, codec: Codec, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        stream = await self.network.open_stream("curl", "localhost", 80)
        data = b"" if body is None else JSON.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: {codec.content_type}\r\n"
        await stream.send_all(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b""
        while received := await stream.receive_some():
            answer += received
        await stream.aclose()
        start, _, rest = answer.partition(b"\r\n\r\n")
        return int(start.split()[1]), codec.loads(rest, object)


@asynccontextmanager
async def running(config: ServerConfig = CONFIG, checkpoint: Checkpoint | None = None) -> AsyncIterator[Rig]:
    rig = Rig(config, checkpoint)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        await nursery.start(_run, rig)
        await rig.put("t/bad")
        await rig.put("t/good", "value")
        await trio.sleep(0.1)
        yield rig
        nursery.cancel_scope.cancel()


async def _run(rig: Rig, task_status: trio.TaskStatus[None]) -> None:
    await rig.node.run([rig.network.listen("localhost", 80)], started=task_status.started)


def topics_of(answer: Any) -> tuple[list[str], list[str]]:
    return [change["topic"] for change in answer.get("changes", [])], answer.get("unreadable", [])


# In CBOR a value goes as it is stored: only a record that its engine marks is known to be damaged.
CASES = [(JSON, name) for name in DAMAGE] + [(CBOR, "marked")]


@pytest.mark.parametrize(("codec", "name"), CASES, ids=lambda given: given if isinstance(given, str) else given.name)
async def test_over_http_it_alone_is_refused(codec: Codec, name: str, autojump_clock: trio.testing.MockClock) -> None:
    async with running() as rig:
        rig.damage("t/bad", DAMAGE[name])
        status, answer = await rig.request(codec, "/v1/topics/t%2Fbad")
        assert (status, answer["code"]) == (500, "unreadable")
        assert await rig.request(codec, "/v1/topics/t%2Fgood") == (200, "value")
        for asked in ({"topics": {"t/bad": 0, "t/good": 0}}, {"prefixes": {"/": 0}}):
            status, answer = await rig.request(codec, "/v1/poll", "POST", asked)
            assert (status, topics_of(answer)) == (200, (["t/good"], ["t/bad"]))
        status, answer = await rig.request(codec, "/v1/poll", "POST", {"topics": {"t/bad": 0}})
        assert (status, topics_of(answer)) == (200, ([], ["t/bad"])), "a page of nothing else is a page"
        status, answer = await rig.request(codec, "/v1/topics?prefix=t/")
        assert (status, topics_of(answer)) == (200, (["t/good"], ["t/bad"]))
        assert (await rig.request(codec, "/readyz"))[0] == 200
        # Any publish heals it.
        status, _ = await rig.request(codec, "/v1/topics/t%2Fbad", "PUT", "new")
        assert status == 200
        assert await rig.request(codec, "/v1/topics/t%2Fbad") == (200, "new")


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
async def test_pages_add_up_whatever_is_damaged(codec: Codec, autojump_clock: trio.testing.MockClock) -> None:
    async with running() as rig:
        for number in range(9):
            await rig.put(f"u/{number}")
        for number in (0, 3, 4, 8):
            rig.damage(f"u/{number}")
        found: list[str] = []
        unreadable: list[str] = []
        cursor = ""
        while True:
            status, answer = await rig.request(codec, f"/v1/topics?prefix=u/&limit=1{cursor}")
            assert status == 200
            changes, damaged = topics_of(answer)
            found += changes
            unreadable += damaged
            if not answer.get("more"):
                break
            cursor = f"&cursor={answer['cursor']}"
        assert found == [f"u/{number}" for number in (1, 2, 5, 6, 7)]
        assert unreadable == [f"u/{number}" for number in (0, 3, 4, 8)]


class Peer:
    """A client of the protocol without any of ours."""

    def __init__(self, socket: trio_websocket.WebSocketConnection, codec: Codec) -> None:
        self._socket = socket
        self._codec = codec

    async def send(self, message: dict[str, Any]) -> None:
        await self._socket.send_message(json.dumps(message) if self._codec.text else self._codec.dumps(message))

    async def send_together(self, messages: Iterable[dict[str, Any]]) -> None:
        """Send messages in one write."""
        frames = [self._socket._wsproto.send(BytesMessage(self._codec.dumps(message))) for message in messages]
        await self._socket._stream.send_all(b"".join(frames))

    async def receive(self, op: str = "") -> dict[str, Any]:
        while True:
            message = self._codec.loads(await self._socket.get_message(), dict)
            if op in ("", message["op"]):
                return message


@asynccontextmanager
async def connected(rig: Rig, codec: Codec) -> AsyncIterator[Peer]:
    stream = await rig.network.open_stream("peer", "localhost", 80)
    async with trio.open_nursery() as nursery:
        socket = await trio_websocket.wrap_client_stream(
            nursery, cast("trio.SocketStream", stream), "localhost", "/v1/ws", subprotocols=[codec.protocol]
        )
        peer = Peer(socket, codec)
        await peer.send({"op": "hello"})
        await peer.receive("welcome")
        yield peer
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("codec", "name"), CASES, ids=lambda given: given if isinstance(given, str) else given.name)
async def test_over_websocket_it_alone_is_refused(
    codec: Codec, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as rig, connected(rig, codec) as peer:
        rig.damage("t/bad", DAMAGE[name])
        await peer.send({"op": "subscribe", "id": 1, "prefixes": {"t/": 0}, "topics": {}})
        assert topics_of(await peer.receive("subscribed")) == (["t/good"], ["t/bad"])
        await peer.send({"op": "poll", "id": 2, "prefixes": {}, "topics": {"t/bad": 0}})
        assert topics_of(await peer.receive("polled")) == ([], ["t/bad"])
        # One that is damaged before it is pushed is pushed as unknown: its poll names it.
        await rig.put("t/next")
        rig.damage("t/next", DAMAGE[name])
        pushed = await peer.receive("notify")
        assert (pushed["topic"], pushed.get("unknown"), "value" in pushed) == ("t/next", True, False)
        await rig.put("t/last", 1)
        assert (await peer.receive("notify"))["topic"] == "t/last"
        # The certificate of the set goes on, and a publish heals.
        await rig.put("t/bad", "new")
        healed = await peer.receive("notify")
        assert (healed["topic"], healed["value"]) == ("t/bad", "new")
        await peer.send({"op": "renew", "id": 3, "digest": "0" * 16, "count": 1})
        await peer.receive("renewed")
    assert rig.node.bulkhead.bugs == 0
