from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.errors import Conflict, Unavailable
from softstate.lease import LeaseTable
from softstate.model import Query
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.storage.access import FAILING_S, StoreAccess
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore

settled = trio.testing.wait_all_tasks_blocked


class Rig:
    """Access to a memory store whose publishes wait for `held`, if it is given."""

    def __init__(self) -> None:
        self.held: trio.Event | None = None
        self.full = False
        self.store = MemoryStore(MemoryDisk(Random(1)), checkpoint=self._pass)
        self.bulkhead = Bulkhead(strict=True)
        self.hub = Hub(
            LeaseTable(0), self.store.disk.image.position, self.bulkhead, lambda _leases: None, (), lambda: 0
        )
        self.rewound: list[Position] = []
        self.access = StoreAccess(
            ServerConfig(),
            self.store,
            self.hub,
            trio.current_time,
            self.bulkhead,
            rewound=self._rewound,
            skipped=lambda: None,
        )

    async def _rewound(self, position: Position) -> None:
        self.rewound.append(position)

    def unready(self) -> str | None:
        return self.access.unready

    def writable(self) -> int:
        return self.access.statistics()["store_writable"]

    async def _pass(self, checkpoint: str) -> None:
        if checkpoint == "publish.before_commit" and self.full:
            raise Unavailable("no space left on device")
        if checkpoint == "publish.before_commit" and self.held is not None:
            await self.held.wait()


@asynccontextmanager
async def accessing() -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        rig.access.start(nursery)
        await settled()
        yield rig
        nursery.cancel_scope.cancel()


async def test_parts_share_a_store_a_hub_and_their_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with accessing() as rig:
        _, position = await rig.access.writes.publish(Write("a", b"\x01"))
        assert rig.hub.position == position
        page = await rig.access.reads.read(Query({"a": 0}))
        heads: list[object] = []
        assert rig.access.heads.renewal_lag_s() is not None, "the level is young"
        rig.access.heads.submit(lambda ticket: heads.append(ticket.outcome()))
        await settled()
        assert heads == [position] == [page.position]
        counts = rig.access.statistics()
        assert {name: counts[name] for name in ("commits", "publishes", "reads", "renewals", "store_up")} == {
            "commits": 1, "publishes": 1, "reads": 1, "renewals": 1, "store_up": 1,
        }  # fmt: skip


async def test_it_is_ready_unless_the_store_is_down_or_a_call_is_stuck(autojump_clock: trio.testing.MockClock) -> None:
    async with accessing() as rig:
        ready = [rig.access.unready is None]
        rig.held = trio.Event()
        with pytest.raises(Unavailable):
            await rig.access.writes.publish(Write("a", b"\x01"))
        ready.append(rig.access.unready is None)
        rig.held.set()
        await settled()
        ready.append(rig.access.unready is None)
        rig.store.outage = True
        await settled()
        ready.append(rig.access.unready is None)
        assert (ready, rig.access.statistics()["store_up"]) == ([True, False, True, False], 0)


async def test_publishes_that_fail_are_two_lines_of_the_log_and_make_it_unready(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with accessing() as rig:
        with structlog.testing.capture_logs() as logs:
            rig.full = True
            for _ in range(305):
                with pytest.raises(Unavailable):
                    await rig.access.writes.publish(Write("a", b"\x01"))
            reasons = [rig.access.unready]
            assert rig.access.statistics()["store_writable"] == 0
            await rig.access.reads.read(Query({"a": 0}))
            await trio.sleep(FAILING_S)
            # Nothing is tried: it may be this that keeps publishers away.
            reasons.append(rig.access.unready)
            assert rig.access.statistics()["store_writable"] == 0
            with pytest.raises(Unavailable):
                await rig.access.writes.publish(Write("a", b"\x01"))
            reasons.append(rig.access.unready)
            rig.full = False
            with pytest.raises(Conflict):
                await rig.access.writes.publish(Write("a", b"\x01", expect=3))
            reasons.append(rig.access.unready)  # a conflict writes nothing
            await rig.access.writes.publish(Write("a", b"\x01"))
            reasons.append(rig.access.unready)
            assert rig.access.statistics()["store_writable"] == 1
        full = "publishes fail: no space left on device"
        assert reasons == [full, None, full, full, None]
        events = [(line["event"], line.get("because"), line.get("failures")) for line in logs]
        assert events == [("publishes fail", "no space left on device", None), ("publishes succeed again", None, 306)]


async def test_a_start_that_could_write_nothing_is_said_once_and_not_ready_until_something_is_written(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    rig.store.unwritten = "disk is full: make room"

    async def compact(**_: int) -> int:
        if rig.full:
            raise Unavailable("disk is full")
        return 0

    monkeypatch.setattr(rig.store, "compact", compact)
    rig.full = True
    said = "nothing could be written when the store was opened: disk is full: make room"
    async with trio.open_nursery() as nursery:
        with structlog.testing.capture_logs() as logs:
            rig.access.start(nursery)
            assert rig.unready() == f"publishes fail: {said}"
            assert rig.writable() == 0
            for _ in range(50):
                await trio.sleep(2.9)
                assert rig.unready() == f"publishes fail: {said}"
            page = await rig.access.reads.read(Query({"a": 0}))
            assert page.records == []
            rig.full = False
            await trio.sleep(2 * FAILING_S)
            # Something can be written again, but this engine leaves the row to a publish, which has to come here.
            assert rig.unready() is None
            assert rig.writable() == 0
            rig.store.unwritten = ""
            await trio.sleep(FAILING_S)
            assert rig.writable() == 1
        events = [(line["event"], line.get("because")) for line in logs if line["event"].startswith("publishes")]
        assert events == [("publishes fail", said), ("publishes succeed again", None)]
        nursery.cancel_scope.cancel()


async def test_the_first_publish_ends_what_a_start_that_could_write_nothing_began(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig()
    rig.store.unwritten = "disk is full: make room"
    async with trio.open_nursery() as nursery:
        rig.access.start(nursery)
        await settled()
        assert rig.unready() is not None
        rig.store.unwritten = ""
        await rig.access.writes.publish(Write("a", b"\x01"))
        assert rig.unready() is None
        nursery.cancel_scope.cancel()


async def test_an_unreadable_record_is_one_line_of_the_log_and_is_counted_until_it_is_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with accessing() as rig:
        access, image, other = rig.access, rig.store.disk.image, MemoryStore(rig.store.disk)
        for topic in ("a", "b", "c"):
            await access.writes.publish(Write(topic, b"\x01"))
        with structlog.testing.capture_logs() as logs:
            for topic in ("a", "b", "c"):
                image.damage(topic)
            for _ in range(3):
                await access.reads.read(Query({"a": 0}))
                await access.reads.read(Query(prefixes={"/": 0}))
            assert access.statistics()["unreadable"] == 3
            await access.writes.publish(Write("a", b"\x02"))
            await other.publish([Write("b", None)])
            await settled()
            assert access.statistics()["unreadable"] == 1
            backup = rig.store.disk.snapshot()
            await access.writes.publish(Write("d", b"\x01"))
            rig.store.disk.restore(backup)
            await trio.sleep(5)
            assert (access.statistics()["store_rewinds"], access.statistics()["unreadable"]) == (1, 0)
        told = [(line["event"], line["topic"]) for line in logs if line["event"].startswith("record ")]
        assert told == [
            *[("record is unreadable", topic) for topic in ("a", "b", "c")],
            *[("record is readable again", topic) for topic in ("a", "b")],
        ]  # fmt: skip


async def test_after_a_rewind_renewals_go_on_in_the_new_history(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Also one that waited for a head of the old history, which the hub never reaches now."""
    async with accessing() as rig:
        backup = rig.store.disk.snapshot()
        await rig.access.writes.publish(Write("a", b"\x01"))
        waited_for, reached = trio.Event(), rig.hub.reached

        async def not_reached_at_first(revision: int) -> None:
            if not waited_for.is_set():
                waited_for.set()
                await trio.sleep_forever()
            await reached(revision)

        monkeypatch.setattr(rig.hub, "reached", not_reached_at_first)
        heads: list[object] = []
        rig.access.heads.submit(lambda ticket: heads.append(ticket.outcome()))
        await waited_for.wait()
        rig.store.disk.restore(backup)
        with pytest.raises(Unavailable):
            await rig.access.reads.read(Query())
        await trio.sleep(1)
        assert rig.rewound == [rig.hub.position]
        assert heads == [rig.hub.position]
