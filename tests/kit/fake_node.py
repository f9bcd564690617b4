"""A node for tests of its HTTP side: a memory store behind `softstate.server.services.Services`, and a client."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import trio
import trio.testing

from softstate.auth.open_authority import EVERYBODY_MAY_ALL, Authority
from softstate.errors import RequestError
from softstate.model import Durability, Page, Query
from softstate.position import Position
from softstate.server.auth.gate import NodeGate
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.edge.admission import Applicant, Kind
from softstate.server.edge.patience import Patience
from softstate.server.edge.per_address import PerAddress
from softstate.server.edge.stream_wire import StreamWire
from softstate.server.edge.wire import Wire
from softstate.server.fanout.turns import Turns
from softstate.server.http.explanations import ClientExplained, TopicExplained
from softstate.server.http.server import HttpServer
from softstate.server.http.upgrade import Handshake
from softstate.server.storage.batcher import Ticket
from softstate.server.storage.reads import StoreReads
from softstate.server.storage.writes import CommitResult
from softstate.store.base import Applied, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.wire import CBOR, encode_value

MemoryStream: TypeAlias = "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"


class MemorySocket:
    """One end of a connection in memory as a `RawSocket`. It takes `free_bytes` at most."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.free_bytes = math.inf

    def try_send(self, data: bytes | memoryview) -> int:
        data = data[: int(min(len(data), self.free_bytes))]
        self.free_bytes -= len(data)
        # As `send_all` does, without its checkpoints; the hook is a function of the pair, and does not wait.
        sending = self.stream.send_stream
        try:
            sending._outgoing.put(data)
        except trio.ClosedResourceError as error:
            raise trio.BrokenResourceError from error
        assert sending.send_all_hook is not None
        pumping = sending.send_all_hook()
        try:
            pumping.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return len(data)
        raise AssertionError

    async def wait_writable(self) -> None:
        if not self.free_bytes:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    def shut(self) -> None:
        self.stream.send_stream.close()

    async def aclose(self) -> None:
        await self.stream.aclose()


class FakeReads:
    """The reads of a node, each made at once."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    async def read(self, query: Query) -> Page:
        return await self._node.read(query)

    with_tombstone = StoreReads.with_tombstone

    async def lineage_at(self, revision: int) -> str | None:
        return await self._node.lineage_at(revision)

    def submit(self, query: Query, _asker: object, settled: Callable[[Any], None], broken: Callable[[], None]) -> None:
        async def serve() -> None:
            with self._node.bulkhead.contain("reads", broken):
                ticket: Ticket[Query, Page] = Ticket(query, settled)
                try:
                    ticket.settle(await self.read(query))
                except RequestError as error:
                    ticket.settle(error)

        trio.lowlevel.spawn_system_task(serve)


class Peer:
    """The other end of a connection to a fake node, step by step."""

    def __init__(self, node: FakeNode, nursery: trio.Nursery) -> None:
        self.stream, server = trio.testing.memory_stream_pair()
        nursery.start_soon(node.serve, server)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()

    async def answer(self) -> Answer:
        await trio.testing.wait_all_tasks_blocked()
        (answer,) = parse(bytes(await self.stream.receive_some()))
        return answer

    async def rest(self) -> list[Answer]:
        return parse(await read_all(self.stream))

    async def end(self) -> list[Answer]:
        """Send no more; return the answers that are still to come."""
        await self.stream.send_eof()
        return await self.rest()


class FakeAdmission:
    """Admits all, or none: then `shed_s` is when to come back. With `keeps`, those that ask are kept in `waiting`."""

    def __init__(self) -> None:
        self.shed_s: float | None = None
        self.draws = 0
        self.keeps = False
        self.waiting: dict[Applicant, Kind] = {}
        self.since: list[float] = []

    def ask(self, kind: Kind, applicant: Applicant, since: float, now: float) -> None:
        self.since.append(since)
        if self.keeps:
            self.waiting[applicant] = kind
        elif self.shed_s is None:
            applicant.admitted()
        else:
            applicant.shed()

    def leave(self, kind: Kind, applicant: Applicant) -> None:
        assert self.waiting.pop(applicant) is kind

    def admit_next(self) -> None:
        applicant = next(iter(self.waiting))
        del self.waiting[applicant]
        applicant.admitted()

    def retry_s(self, kind: Kind) -> float:
        """Return `shed_s` first, and longer ones for others."""
        assert self.shed_s is not None
        self.draws += 1
        return self.shed_s + self.draws - 1


class FakeNode:
    """Implements `Services` and, in one, its store access and its hub, without batches and without a feed."""

    def __init__(
        self,
        *,
        strict: bool = True,
        authority: Authority = EVERYBODY_MAY_ALL,
        failures_per_s: float = 0.0,
        **options: Any,
    ) -> None:
        self.config = ServerConfig(**options).check()
        self.gate = NodeGate(authority, trio.current_time, lambda: 0.0, auth_failures_per_s=failures_per_s)
        self.per_address = PerAddress(0)
        self.turns = Turns(self.config.turn_names_max, Bulkhead(strict=True))
        self.store = MemoryStore(MemoryDisk(Random(1)))
        self.access: Any = self
        self.reads: Any = FakeReads(self)
        self.writes: Any = self
        self.unchanged: Any = self
        self.hub: Any = self
        self.recent: Any = self
        self.heads: Any = self
        self.heard = True
        self.deaf: RequestError | None = None
        self.node_id = "fake"
        self.peer_name = "peer"
        self.durability = Durability.NONE
        self.draining = False
        self.unready: str | None = None
        self.lagging: str | None = None
        self.lag_s = 0.0
        self.fault: RequestError | None = None
        self.position = self.store.disk.image.position
        self.passed = trio.lowlevel.ParkingLot()
        self.waits = 0
        self.errors: Counter[str] = Counter()
        self.upgrades: list[tuple[Handshake, str]] = []
        self.admission = FakeAdmission()
        self.bulkhead = Bulkhead(strict=strict)
        self.patience = Patience(self.bulkhead)
        self.http = HttpServer(self, self.upgrade, self.admission)
        trio.lowlevel.spawn_system_task(self.patience.run)

    async def hear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.deaf is not None:
            raise self.deaf
        self.heard = True

    def watch_poll(self, *, again: bool) -> FakeNode:
        return self

    def next_poll_ms(self, asker: object, wait_ms: int | None = None, said: object = None) -> int:
        return self.config.poll_every_ms

    def answered(self, wait_ms: int | None = None, said: object = None) -> int:
        return self.config.poll_every_ms

    def left(self) -> None:
        pass

    def upgrade(self, wire: Wire, handshake: Handshake, peer: str, since: float) -> None:
        self.upgrades.append((handshake, peer))
        wire.try_send(b"upgraded")
        wire.close()

    async def serve(self, stream: MemoryStream | MemorySocket, refused: RequestError | None = None) -> None:
        """Serve one connection to its end."""
        sock = stream if isinstance(stream, MemorySocket) else MemorySocket(stream)
        wire = StreamWire(sock, self.peer_name, self.bulkhead)
        peer = self.http.open(wire, self.peer_name)
        if refused is not None:
            peer.refuse(refused)
        else:
            peer.readable()
        await wire.drive()

    async def read(self, query: Query) -> Page:
        if self.fault is not None:
            raise self.fault
        (page,) = await self.store.read([query])
        if isinstance(page, RequestError):
            raise page
        return Page(page.position, page.floor, page.records, page.more, page.compacted, page.restart, self.lag_s)

    def answer(self, _query: Query, _at_least: int) -> None:
        """Know nothing, so that each poll is answered by the store."""

    def knows(self, _query: Query, _at_least: int) -> bool:
        return False

    async def confirm(self, _query: Query, _at_least: int) -> None:
        """Know nothing."""

    def begin(self) -> None:
        pass

    def learn(self, *_answer: object) -> None:
        pass

    async def lineage_at(self, revision: int) -> str | None:
        (lineage,) = await self.store.lineage_at([revision])
        return lineage

    def submit(
        self, change: Write, settled: Callable[[Ticket[Write, CommitResult]], None], broken: Callable[[], None]
    ) -> None:
        ticket = Ticket(change, settled, broken)

        async def commit() -> None:
            try:
                ticket.settle(await self.publish(change))
            except RequestError as error:
                ticket.settle(error)

        trio.lowlevel.spawn_system_task(commit)

    async def publish(self, change: Write) -> tuple[Applied, Position]:
        (verdict,) = await self.publish_all([change])
        if isinstance(verdict, RequestError):
            raise verdict
        return verdict

    async def publish_all(self, changes: Sequence[Write]) -> list[tuple[Applied, Position] | RequestError]:
        if self.fault is not None:
            raise self.fault
        committed = await self.store.publish(changes)
        self.position = committed.position
        self.passed.unpark_all()
        return [
            (
                verdict,
                committed.position
                if verdict.repeated or not verdict.changed
                else committed.position.at(verdict.version),
            )
            if isinstance(verdict, Applied)
            else verdict
            for verdict in committed.verdicts
        ]

    async def reached(self, revision: int) -> None:
        while self.position.revision < revision:
            await self._wait()

    async def changed(self, topic: str, after: int) -> None:
        while self.store.disk.image.latest.get(topic, 0) <= after:
            await self._wait()

    async def _wait(self) -> None:
        self.waits += 1
        await self.passed.park()

    async def status(self) -> dict[str, Any]:
        return {"node": self.node_id, "position": str(self.position)}

    @property
    def explainer(self) -> FakeNode:
        return self

    async def client(self, name: str) -> ClientExplained:
        return ClientExplained(self.node_id, self.position, [], False)

    async def topic(self, topic: str) -> TopicExplained:
        return TopicExplained(self.node_id, self.position, topic, None, False, False, 0, {}, 0, [])

    async def scrape(self) -> bytes:
        return b"softstate_sessions 0.0\n"

    async def set(self, topic: str, value: Any) -> int:
        applied, _ = await self.publish(Write(topic, encode_value(value)))
        return applied.version

    async def delete(self, topic: str) -> int:
        applied, _ = await self.publish(Write(topic, None))
        return applied.version

    # The client's side ----------------------------------------------------------------------------------------------

    async def exchange(self, raw: bytes, *, heads: Sequence[int] = (), chunk: int = 1 << 20) -> list[Answer]:
        """Send bytes, then EOF, and return every answer; `heads` are the indices of answers to HEAD."""
        return parse(await self.converse(raw, chunk=chunk), heads)

    async def converse(self, raw: bytes, *, chunk: int = 1 << 20) -> bytes:
        """Send bytes, `chunk` at a time, then EOF, and return all that comes back."""
        client, server = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve, server)
            try:
                for at in range(0, len(raw), chunk):
                    await client.send_all(raw[at : at + chunk])
                    if chunk == 1:
                        await trio.testing.wait_all_tasks_blocked()
                await client.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            return await read_all(client)

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send one request; header names are keywords with ``_`` for ``-``; a `body` of bytes is sent as it is."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:8700"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if data:
            lines.append(f"Content-Length: {len(data)}")
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + data
        heads = [0] if method == "HEAD" else []
        client, server = trio.testing.memory_stream_pair()
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve, server)
            await client.send_all(request)
            # A peer that ends its side before it is answered is not held.
            while (more := await client.receive_some()) and not whole(received := received + more, heads):
                pass
            await client.send_eof()
            received += await read_all(client)
        (answer,) = parse(received, heads)
        return answer


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cbor(self) -> Any:
        return CBOR.loads(self.body, dict)

    @property
    def code(self) -> str:
        return str(self.json["code"])


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


def whole(received: bytes, heads: Sequence[int]) -> bool:
    """Tell whether the first answer has come whole."""
    try:
        return bool(parse(received, heads))
    except AssertionError:
        return False


def parse(received: bytes, heads: Sequence[int] = ()) -> list[Answer]:
    """Cut what a server sent into answers; fails unless it is well-formed to the last byte."""
    answers: list[Answer] = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        bodiless = status in ("100", "204", "304") or len(answers) in heads
        size = 0 if bodiless else int(headers["content-length"])
        assert len(received) >= size
        answers.append(Answer(int(status), headers, received[:size]))
        received = received[size:]
    return answers
