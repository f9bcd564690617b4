"""News for all connections is told in turns: a lineage row, the end of all leases, a rewind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bench.trials.fuzz.streams import frame, frames_in
from softstate.errors import NoLease, Unavailable
from softstate.lease import Lease
from softstate.model import Query
from softstate.server import Node, ServerConfig
from softstate.server.node import TOLD_PER_TURN
from softstate.server.websocket.connection import Connection
from softstate.session import MeasuredRequest
from softstate.store import MemoryDisk, MemoryStore
from softstate.store.base import Write
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Farewell, Hello, Message, PositionMoved, Reason
from tests.kit.fake_wire import FakeWire
from tests.kit.node_rig import until
from tests.kit.silent_sink import SilentSink

SESSIONS = 5 * TOLD_PER_TURN


class Told(SilentSink):
    """Stands for a connection, and notes what the node tells it."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.told: list[str] = []

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        self._note(reason)

    def leave(self, reason: Farewell) -> None:
        self._note(reason)

    def _note(self, reason: str) -> None:
        self.told.append(reason)
        self.watch.turns[-1] += 1
        self.watch.check()

    def fail(self) -> None:
        raise AssertionError


class Watch(trio.abc.Instrument):
    """Counts how many connections are told in each pass of the loop, and checks something with each."""

    def __init__(self) -> None:
        self.turns = [0]
        self.check: Callable[[], None] = lambda: None

    def after_io_wait(self, timeout: float) -> None:
        self.turns.append(0)

    @property
    def told(self) -> int:
        return sum(self.turns)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Node, MemoryStore, Watch, list[Lease]]]:
    store = MemoryStore(MemoryDisk())
    node = Node(ServerConfig(ttl_ms=60_000), store, await store.head())
    watch = Watch()
    leases = []
    for number in range(SESSIONS):
        lease = node.leases.grant(f"t{number}", node.now(), 60.0)
        node.leases.add(lease, ["a", f"b{number}"])
        sink: Any = Told(watch)
        node.sockets[sink] = None
        node.leases.attach(lease, sink)
        leases.append(lease)
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(watch)
        yield node, store, watch, leases
        trio.lowlevel.remove_instrument(watch)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("some", [False, True])
async def test_leases_that_are_revoked_are_over_at_once_and_told_in_turns(
    autojump_clock: MockClock, *, some: bool
) -> None:
    async with serving() as (node, _, watch, leases):
        revoked = leases[: 3 * TOLD_PER_TURN] if some else leases
        # One whose connection has another lease by the time that it would be told.
        moved = revoked[-1]
        sink = moved.sink
        node._revoke(list(revoked) if some else None)
        assert sink is not None
        moved.sink = None
        node.leases.attach(node.leases.grant("new", node.now(), 60.0), sink)
        assert watch.told == 0
        for lease in revoked:
            with pytest.raises(NoLease):
                node.leases.extend(lease, node.now())
        await until(lambda: watch.told == len(revoked) - 1)
        assert max(watch.turns) == TOLD_PER_TURN
        assert all(lease.sink.told == ["overloaded"] for lease in revoked[:-1])  # type: ignore[union-attr]
        assert sink.told == []  # type: ignore[attr-defined]
        await trio.sleep(2)
        assert len(node.leases) == 1 + SESSIONS - len(revoked)
        assert node.leases.statistics().subscriptions == 2 * (SESSIONS - len(revoked)), "the sweep has reaped the names"


async def test_a_rewind_is_told_in_turns_and_before_anything_of_the_new_history(autojump_clock: MockClock) -> None:
    async with serving() as (node, store, watch, _):
        backup = store.disk.snapshot()
        other = MemoryStore(store.disk)
        await other.publish([Write("a", b"\x01")])
        await trio.testing.wait_all_tasks_blocked()
        old = node.hub.position
        generation = node.access.follower.guard.generation

        def no_answer() -> None:
            assert node.hub.position == old
            assert node.access.follower.guard.generation is None
            assert len(node.leases) == 0

        watch.check = no_answer
        store.disk.restore(backup)
        with pytest.raises(Unavailable):
            await node.access.reads.read(Query())
        await trio.sleep(1)
        assert watch.told == SESSIONS
        assert max(watch.turns) == TOLD_PER_TURN
        assert all(sink.told == ["rewound"] for sink in node.sockets)  # type: ignore[attr-defined]
        assert node.access.follower.guard.generation != generation
        assert not node.hub.position.same_lineage(old)


async def test_a_lineage_row_is_encoded_once_for_each_codec(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Codec] = []
    encode = Codec.encode

    def noting(codec: Codec, message: Message, *rest: Any) -> bytes:
        if isinstance(message, PositionMoved):
            encoded.append(codec)
        return encode(codec, message, *rest)

    monkeypatch.setattr(Codec, "encode", noting)
    async with serving() as (node, store, _, _):
        node.sockets.clear()
        wires = [FakeWire() for _ in range(6)]
        for wire, codec in zip(wires, [CBOR, JSON] * 3, strict=True):
            connection = Connection(node._parts, codec, wire, MeasuredRequest(node.handshakes), node._connection_over)
            wire.attach(connection)
            node.sockets[connection] = None
            wire.arrive(frame(1 if codec.text else 2, codec.encode(Hello()), masked=True))
        await trio.sleep(1)
        row = await store.reopen()
        await trio.sleep(1)
        assert node.hub.position == row
        for wire, codec in zip(wires, [CBOR, JSON] * 3, strict=True):
            *_, (_, told) = frames_in(bytes(wire.taken))
            assert codec.server_message(told) == PositionMoved(row)
        assert encoded == [CBOR, JSON]
        for connection in tuple(node.sockets):
            connection.end()
