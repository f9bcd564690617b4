from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import UNSET

from softstate.errors import (
    Conflict,
    Invalid,
    Overloaded,
    RequestError,
    StoreFault,
    StoreRewound,
    TooLarge,
    Unavailable,
)
from softstate.server.config import ServerConfig
from softstate.server.storage.batcher import BATCH_MAX, Ticket
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.writes import CommitResult, StoreWrites, change_of, number_of
from softstate.store.base import Applied, Number, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.wire import CBOR, JSON, messages
from tests.kit.hub_rig import HubRig

settled = trio.testing.wait_all_tasks_blocked


class Rig(HubRig):
    """Writes to a memory store, whose commits wait for `held` if it is given, and a subscriber to everything."""

    def __init__(self, **options: Any) -> None:
        self.held: trio.Event | None = None
        self.store = MemoryStore(MemoryDisk(Random(1)), checkpoint=self._pass)
        super().__init__(self.store.disk.image.position)
        self.faults: list[StoreFault] = []
        self.pushed, _ = self.lease("/")
        del self.sinks[self.pushed]  # lineage rows are left out here
        self.guard = StoreGuard(self.faults.append)
        self.writes = StoreWrites(ServerConfig(**options), self.store, self.hub, self.guard, self.bulkhead, Damage())

    async def _pass(self, checkpoint: str) -> None:
        if checkpoint == "publish.before_commit" and self.held is not None:
            await self.held.wait()


@asynccontextmanager
async def publishing(**options: Any) -> AsyncIterator[Rig]:
    rig = Rig(**options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.writes.batcher.run)
        await settled()
        yield rig
        nursery.cancel_scope.cancel()


def put(topic: str, **fields: Any) -> Write:
    return Write(topic, b"\x01", **fields)


def codes(results: list[CommitResult | RequestError]) -> list[int | str]:
    return [result.code if isinstance(result, RequestError) else result[0].version for result in results]


async def test_a_publish_is_committed_pushed_and_answered_in_this_order() -> None:
    async with publishing() as rig:
        applied, position = await rig.writes.publish(put("a"))
        assert applied == Applied(2)
        assert position == rig.hub.position == rig.store.disk.image.position
        assert rig.pushed == ["a@2"]

        def settle(ticket: Ticket[Write, CommitResult]) -> None:
            rig.pushed.append("answered")

        rig.writes.submit(put("b"), settle)
        await settled()
        assert rig.pushed == ["a@2", "b@3", "answered"]


async def test_a_commit_that_the_hub_must_leave_to_the_feed_has_that_read() -> None:
    async with publishing() as rig:
        behind: list[int] = []
        rig.writes.behind = lambda: behind.append(rig.hub.position.revision)
        await rig.writes.publish(put("a"))
        assert behind == []
        await rig.store.publish([put("b")])
        await rig.writes.publish(put("c"))
        assert behind == [2], "the commit of another node lies in between"


async def test_queued_publishes_share_a_commit_and_each_has_its_own_verdict() -> None:
    async with publishing() as rig:
        results = await rig.writes.publish_all(
            [put("a"), put("a", expect=0), put("a", expect=2), put("b", key="k", digest=b"x"), put("c")]
        )
        assert codes(results) == [2, "conflict", 3, 4, 5]
        positions = [result[1].revision for result in results if not isinstance(result, RequestError)]
        assert positions == [2, 3, 4, 5]
        assert rig.writes.batcher.calls == 1
        assert rig.pushed == ["a@3", "b@4", "c@5"]
        assert await rig.writes.publish_all([]) == []


async def test_a_retry_gets_the_first_success_and_pushes_nothing() -> None:
    async with publishing() as rig:
        await rig.writes.publish(put("a", key="k", digest=b"x"))
        await rig.writes.publish(put("b"))
        applied, position = await rig.writes.publish(put("a", key="k", digest=b"x"))
        assert applied == Applied(2, repeated=True)
        assert (position, rig.writes.repeated, len(rig.pushed)) == (rig.hub.position, 1, 2)
        with pytest.raises(Conflict):
            await rig.writes.publish(put("a", expect=1))


async def test_commits_of_another_node_in_between_are_left_to_the_feed() -> None:
    async with publishing() as rig:
        other = MemoryStore(rig.store.disk)
        await rig.writes.publish(put("a"))
        assert rig.pushed == []
        feed = await other.feed(rig.hub.position)
        await rig.hub.apply(feed.records, feed.lineages, feed.upto)
        assert rig.pushed == ["a@3"]


async def test_a_failed_commit_fails_all_that_waits() -> None:
    async with publishing() as rig:
        rig.held = trio.Event()
        log: list[int | str] = []

        def settle(ticket: Ticket[Write, CommitResult]) -> None:
            log.extend(codes([ticket.outcome()]))

        rig.writes.submit(put("a"), settle)
        await settled()
        rig.writes.submit(put("b"), settle)
        rig.store.outage = True
        rig.held.set()
        await settled()
        assert log == ["unavailable"] * 2
        rig.store.outage = False
        rig.writes.submit(put("c"), settle)
        await settled()
        assert (log[2:], rig.pushed) == ([2], ["c@2"])


async def test_a_publish_on_a_rewound_store_is_reported() -> None:
    async with publishing() as rig:
        backup = rig.store.disk.snapshot()
        await rig.writes.publish(put("a"))
        rig.store.disk.restore(backup)
        with pytest.raises(Unavailable):
            await rig.writes.publish(put("b"))
        assert [type(fault) for fault in rig.faults] == [StoreRewound]


async def test_a_commit_that_comes_back_late_is_pushed_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    async with publishing(store_s_max=5.0) as rig:
        rig.held = trio.Event()
        with pytest.raises(Unavailable):
            await rig.writes.publish(put("a"))
        assert 5 <= trio.current_time() <= 6.25
        with pytest.raises(Unavailable):
            await rig.writes.publish(put("b"))
        rig.held.set()
        await settled()
        assert rig.pushed == ["a@2"]


async def test_once_refused_a_batch_is_refused_to_its_end() -> None:
    async with publishing(publishes_waiting_max=4) as rig:
        results = await rig.writes.publish_all([put(topic) for topic in "abcde"])
        assert codes(results) == [2, 3, 4, "overloaded", "overloaded"]
        rig.held = trio.Event()
        rig.writes.submit(put("a"), lambda _ticket: None)
        await settled()
        for topic in "bcde":
            rig.writes.submit(put(topic), lambda _ticket: None)
        with pytest.raises(Overloaded):
            rig.writes.submit(put("f"), lambda _ticket: None)
        assert codes(await rig.writes.publish_all([put("f"), put("g")])) == ["overloaded"] * 2


async def test_a_batch_longer_than_a_commit_stays_in_order() -> None:
    async with publishing() as rig:
        results = await rig.writes.publish_all([put(f"t{number}") for number in range(BATCH_MAX + 10)])
        assert codes(results) == list(range(2, BATCH_MAX + 12))
        assert rig.writes.batcher.calls == 2


async def test_a_cancelled_batch_is_applied_all_the_same() -> None:
    async with publishing() as rig:
        rig.held = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.writes.publish_all, [put("a"), put("b")])
                await settled()
                scope.cancel()
        rig.held.set()
        await settled()
        assert rig.pushed == ["a@2", "b@3"]


def test_a_change_is_checked_before_it_is_queued() -> None:
    config = ServerConfig(value_bytes_max=100, value_items_max=16)
    setting = change_of(messages.Publish(1, "a", value=1, expect=3, key="k"), config, CBOR)
    assert (setting.topic, setting.cbor, setting.expect, setting.key) == ("a", b"\x01", 3, "k")
    deleting = change_of(messages.BatchChange("a", value=UNSET, deleted=True), config, CBOR)
    assert deleting.cbor is None
    assert deleting.digest != setting.digest != b""
    with pytest.raises(Invalid):
        change_of(messages.Publish(1, "a//b", value=1), config, CBOR)
    with pytest.raises(TooLarge, match=r"value_bytes_max|value_bytes"):
        change_of(messages.Publish(1, "a", value="x" * 100), config, CBOR)
    change_of(messages.Publish(1, "a", value=[0] * 16), config, CBOR)
    with pytest.raises(TooLarge, match=r"the limit \(value_items_max\), 16"):
        change_of(messages.Publish(1, "a", value=[0] * 17), config, CBOR)


def test_a_value_is_what_its_codec_means_by_it() -> None:
    wrapped = messages.Publish(1, "a", value={"$bytes": "YQ=="})
    assert change_of(wrapped, ServerConfig(), JSON).cbor == b"\x41a"
    with pytest.raises(Invalid, match="bytes"):
        change_of(wrapped, ServerConfig(), CBOR)


def test_numbers_are_checked_at_the_door() -> None:
    assert number_of(messages.Publish(1, "a", value=1), 4) is None
    assert number_of(messages.Publish(1, "a", value=1, publisher="p", seq=9, settled=5), 4) == Number("p", 9, 5)
    with pytest.raises(TooLarge, match="inflight"):
        number_of(messages.Publish(1, "a", value=1, publisher="p", seq=10, settled=5), 4)
    with pytest.raises(Invalid, match="seq must be above settled"):
        number_of(messages.Publish(1, "a", value=1, publisher="p", seq=5, settled=5), 4)
    with pytest.raises(Invalid, match="need a publisher"):
        number_of(messages.Publish(1, "a", value=1, seq=5), 4)


def test_the_changes_of_a_batch_count_as_in_flight() -> None:
    changes = [messages.BatchChange("a", value=1)] * 3
    assert number_of(messages.Batch(changes, "p", 3, 1), 4) == Number("p", 3, 1)
    with pytest.raises(TooLarge, match="5 publishes of this publisher"):
        number_of(messages.Batch(changes, "p", 4, 1), 4)
