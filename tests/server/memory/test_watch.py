"""The watch over a node's memory: what it counts, what it refuses, which leases it ends, and what it tells."""

from __future__ import annotations

import contextlib
import json

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio_websocket import open_websocket_url

from softstate.auth.identity import NOTHING, Identity
from softstate.errors import Overloaded
from softstate.lease import Lease, LeaseTable
from softstate.lease.weight import GROUP_BYTES, MEMORY_RETRY_MS, NAME_BYTES, SESSION_BYTES
from softstate.server.bulkhead import Bulkhead
from softstate.server.memory.watch import (
    CONNECTION_BYTES,
    HELD_BYTES_MIN,
    LOOK_S,
    LOOK_SOON_S,
    SOON,
    TLS_BYTES,
    MemoryWatch,
)
from tests.kit.node_rig import node
from tests.kit.silent_sink import SilentSink

EACH = NAME_BYTES + GROUP_BYTES


class Queue:
    """A queue with 1,000 bytes."""

    pending_bytes = 1_000


class Holder:
    """A connection that holds so much of a message."""

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.told: list[Overloaded] = []

    def shed_memory(self, error: Overloaded) -> None:
        self.told.append(error)
        self.held_bytes = 0


class Rig:
    """A lease table and its watch; a test sets the resident memory, and how many connections there are."""

    def __init__(self, most: int, resident: int = 0, *, tls: bool = False) -> None:
        self.resident = resident
        self.connections = 0
        self.queues = 0
        self.holders: list[Holder] = []
        self.revoked: list[Lease] = []
        self.limited: list[str] = []
        self.table = LeaseTable(0.0)
        self.watch = MemoryWatch(
            most,
            self.table,
            lambda: self.connections,
            lambda: [Queue()] * self.queues,
            self._revoke,
            self.limited.append,
            lambda: self.resident,
            tls=tls,
            holders=lambda: self.holders,
        )

    def _revoke(self, leases: object) -> None:
        self.revoked += self.table.clear(leases)  # type: ignore[arg-type]

    def hold(self, subject: str, names: int) -> Lease:
        lease = self.table.grant(f"{subject}{len(self.table)}", 0.0, 20, "", Identity("i", subject, NOTHING))
        self.table.add(lease, [f"{lease.token}/{number}" for number in range(names)])
        self.table.attach(lease, SilentSink())
        return lease


async def test_all_that_is_held_is_counted() -> None:
    rig = Rig(10**6, resident=5_000)
    rig.hold("u", 3)
    rig.connections, rig.queues = 2, 4
    rig.holders = [Holder(20_000), Holder(1)]
    await rig.watch.look()
    assert rig.watch.parts == {
        "base": 5_000,
        "sessions": SESSION_BYTES,
        "names": 3 * NAME_BYTES,
        "groups": 3 * GROUP_BYTES,
        "connections": 2 * CONNECTION_BYTES,
        "pending": 4_000,
        "unfinished": 20_001,
    }
    assert rig.watch.pressure.used == sum(rig.watch.parts.values())
    rig.resident = 200_000
    await rig.watch.look()
    assert rig.watch.statistics() == {
        "memory_max_bytes": 10**6, "memory_used_bytes": 200_000, "memory_revoked": 0,
        "memory_shed": 0,
    }  # fmt: skip
    assert rig.table.weight_max == 900_000 - 200_000 + SESSION_BYTES + 3 * EACH


async def test_connections_with_tls_count_for_more() -> None:
    rig = Rig(10**6, tls=True)
    rig.connections = 2
    await rig.watch.look()
    assert rig.watch.parts["connections"] == 2 * (CONNECTION_BYTES + TLS_BYTES)


async def test_from_nine_tenths_on_nothing_new_is_taken_and_below_it_is_again() -> None:
    most = 10 * SESSION_BYTES
    rig = Rig(most)
    for number in range(8):
        rig.hold(f"u{number}", 0)
    await rig.watch.look()
    rig.hold("v", 0)
    with pytest.raises(Overloaded, match="memory_max"):
        rig.hold("w", 0)
    await rig.watch.look()
    assert (rig.watch.pressure.fill, rig.revoked, rig.table.retry_ms) == ("tight", [], MEMORY_RETRY_MS)
    rig.table.release(rig.table.all()[0])
    rig.hold("w", 0)
    rig.table.clear(rig.table.all()[:4])
    await rig.watch.look()
    assert (rig.watch.pressure.fill, rig.table.retry_ms) == ("easy", 0)


async def test_a_full_node_ends_leases_of_the_largest_identity_and_says_when_to_come_back() -> None:
    rig = Rig(10 * (SESSION_BYTES + 10 * EACH))
    for number in range(5):
        rig.hold(f"u{number}", 10)
    hogs = [rig.hold("hog", 25) for _ in range(3)]
    with capture_logs() as lines:
        await rig.watch.look()
    assert rig.revoked
    assert set(rig.revoked) <= set(hogs)
    assert rig.watch.statistics()["memory_revoked"] == len(rig.revoked)
    assert rig.limited == ["memory_max"]
    assert rig.table.retry_ms == MEMORY_RETRY_MS
    assert [line["event"] for line in lines] == ["memory full: leases are revoked, the largest identities first"]
    # Their names still weigh until they are reaped: nobody else ends for that.
    ended = len(rig.revoked)
    await rig.watch.look()
    assert len(rig.revoked) == ended
    while rig.table.reapable:
        rig.table.reap(10)
    with capture_logs() as lines:
        await rig.watch.look()
        await rig.watch.look()
    assert len(rig.revoked) == ended
    assert rig.watch.pressure.used < 0.9 * rig.watch.pressure.most
    assert len(lines) == 1


async def test_memory_that_leases_do_not_hold_ends_few_of_them() -> None:
    rig = Rig(100 * SESSION_BYTES, resident=0)
    for number in range(20):
        rig.hold(f"u{number}", 0)
    rig.resident = 200 * SESSION_BYTES
    await rig.watch.look()
    assert len(rig.revoked) == 10
    rig.resident += 50 * SESSION_BYTES
    with capture_logs() as lines:
        await rig.watch.look()
    assert len(rig.revoked) == 10
    assert not lines


async def test_a_full_node_closes_those_with_the_largest_messages_and_ends_no_lease() -> None:
    rig = Rig(1_000_000)
    for number in range(20):
        rig.hold(f"u{number}", 10)
    small, *large = rig.holders = [Holder(size) for size in (HELD_BYTES_MIN, 300_000, 250_000, 200_000, 250_000)]
    await rig.watch.look()
    assert [len(holder.told) for holder in large] == [1, 0, 0, 0]
    assert rig.watch.statistics()["memory_shed"] == 1
    assert rig.limited == ["memory_max"]
    assert large[0].told[0].why == "memory_max"
    rig.holders += [Holder(HELD_BYTES_MIN) for _ in range(40)]
    await rig.watch.look()
    assert [len(holder.told) for holder in large] == [1, 1, 1, 1]
    # The rest is held by nobody in particular, and what leases may hold in any case is theirs.
    assert small.told == []
    assert rig.revoked == []


async def test_while_messages_fill_much_of_the_memory_it_looks_more_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig, looks = Rig(10**6), list[float]()
    rig.watch._resident = lambda: looks.append(trio.current_time()) or 0  # type: ignore[func-returns-value]
    rig.holders = [Holder(round(SOON * 10**6) + 1)]
    with trio.move_on_after(3.5 * LOOK_SOON_S):
        await rig.watch.run(Bulkhead(strict=True))
    assert looks == [0, LOOK_SOON_S, 2 * LOOK_SOON_S, 3 * LOOK_SOON_S]


async def test_a_bug_in_a_look_is_contained(autojump_clock: trio.testing.MockClock) -> None:
    rig, looks = Rig(10**6), list[float]()

    def broken() -> list[Queue]:
        looks.append(trio.current_time())
        raise ZeroDivisionError("injected")

    rig.watch._queues = broken
    bulkhead = Bulkhead(strict=False)
    with trio.move_on_after(2.5 * LOOK_S):
        await rig.watch.run(bulkhead)
    assert looks == [0, LOOK_S, 2 * LOOK_S]
    assert bulkhead.bugs == 3


async def test_a_node_that_is_not_told_how_much_it_may_use_does_not_watch(autojump_clock: object) -> None:
    rig = Rig(0)
    await rig.watch.run(Bulkhead(strict=True))
    assert rig.watch.statistics()["memory_max_bytes"] == 0


async def test_a_session_is_told_that_its_lease_is_over_and_may_come_back() -> None:
    used = [1_000]
    parts = {"resident": lambda: used[0]}
    async with node(parts=parts, memory_max=100_000) as running:
        async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=["softstate.v1.json"]) as peer:
            for message in ({"op": "hello"}, {"op": "subscribe", "id": 1, "topics": {f"a/{n}": 0 for n in range(40)}}):
                await peer.send_message(json.dumps(message))
            assert [json.loads(await peer.get_message())["op"] for _ in range(2)] == ["welcome", "subscribed"]
            used[0] = 120_000
            await running.node.memory.look()
            told = json.loads(await peer.get_message())
            assert (told["op"], told["reason"], told["retry_ms"]) == ("revoked", "overloaded", MEMORY_RETRY_MS)
            await peer.send_message(json.dumps({"op": "subscribe", "id": 2, "replace": True, "topics": {"a/1": 0}}))
            told = json.loads(await peer.get_message())
            assert (told["op"], told["code"], told["why"]) == ("error", "overloaded", "memory_max")
            status = await running.node.status()
            assert status["memory"]["state"] == "full"
            assert status["memory_revoked"] == 1
            assert b'softstate_memory_estimated_bytes{of="connections"}' in running.node.metrics()
            used[0] = 1_000
            await running.node.memory.look()
            await peer.send_message(json.dumps({"op": "subscribe", "id": 3, "replace": True, "topics": {"a/1": 0}}))
            assert json.loads(await peer.get_message())["op"] == "subscribed"


HALF = bytes([0x82, 0xFF]) + (200_000).to_bytes(8) + bytes(4) + bytes(100_000)
"""A frame of a message, in part."""


async def test_a_full_node_closes_who_sends_half_messages_and_bodies_and_nobody_else() -> None:
    used = [1_000]
    parts = {"resident": lambda: used[0]}
    async with node(parts=parts, memory_max=1_000_000) as running:
        url, watch = f"{running.url}/v1/ws", running.node.memory
        protocols = ["softstate.v1.json"]
        async with open_websocket_url(url, subprotocols=protocols) as good, trio.open_nursery() as nursery:
            await good.send_message(json.dumps({"op": "hello"}))
            assert json.loads(await good.get_message())["op"] == "welcome"
            sockets = [await opened(running.port, UPGRADE) for _ in range(6)]
            posts = [await opened(running.port, POST) for _ in range(6)]
            for stream in (*sockets, *posts):
                nursery.start_soon(stream.send_all, HALF)
            while True:
                await watch.look()
                if watch.parts["unfinished"] >= 1_000_000 or watch.shed:
                    break
                await trio.sleep(0.01)
            assert watch.pressure.fill == "full"
            assert 1 <= watch.shed <= 4
            used[0] = 5_000_000
            await watch.look()
            assert watch.shed >= 12
            for stream in sockets:
                assert b"\x0f\xa4" in await all_of(stream)  # 4004
            for stream in posts:
                answer = await all_of(stream)
                assert b"503" in answer.splitlines()[0]
                assert b'"why":"memory_max"' in answer
            await good.ping()
            assert len(running.node.sockets) == 1
            assert sum(socket.held_bytes for socket in running.node.sockets) == 0


UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: softstate.v1.cbor\r\n\r\n"
)
POST = b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"


async def opened(port: int, head: bytes) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(head)
    return stream


async def all_of(stream: trio.SocketStream) -> bytes:
    """Return all that a connection brings until its end."""
    data = b""
    with trio.move_on_after(5), contextlib.suppress(trio.BrokenResourceError):
        async for part in stream:
            data += part
    await stream.aclose()
    return data
