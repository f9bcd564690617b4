from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
import trio.testing

from softstate.errors import Rewound, StoreFault, Unavailable
from softstate.model import Query
from softstate.server import reads as reads_module
from softstate.server.config import ServerConfig
from softstate.server.reads import StoreReads
from softstate.store.base import Publish
from softstate.store.memory import MemoryDisk, MemoryStore

settled = trio.testing.wait_all_tasks_blocked


class CountingStore(MemoryStore):
    """A memory store that counts its calls, and can hold up the answers about lineages."""

    def __init__(self) -> None:
        super().__init__(MemoryDisk(Random(1)))
        self.calls: list[str] = []
        self.open = trio.Event()
        self.open.set()

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        self.calls.append("lineage_at")
        answer = await super().lineage_at(revisions)
        await self.open.wait()
        return answer


@asynccontextmanager
async def reading() -> AsyncIterator[tuple[StoreReads, CountingStore, list[StoreFault]]]:
    store = CountingStore()
    faults: list[StoreFault] = []
    reads = StoreReads(ServerConfig(), store, faults.append)
    async with trio.open_nursery() as nursery:
        for gather in reads.gathers:
            nursery.start_soon(gather.run)
        await settled()
        yield reads, store, faults
        nursery.cancel_scope.cancel()


async def test_a_read_answers_or_raises() -> None:
    async with reading() as (reads, store, _):
        committed = await store.publish([Publish("a", b"\x01")])
        page = await reads.read(Query({"a": 0}))
        assert [record.topic for record in page.records] == ["a"]
        with pytest.raises(Rewound):
            await reads.read(Query(witness=committed.position.at(99)))
        store.outage = True
        with pytest.raises(Unavailable):
            await reads.read(Query())


async def test_a_fault_of_the_store_is_handed_on_and_answered_unavailable() -> None:
    async with reading() as (reads, store, faults):
        backup = store.disk.snapshot()
        await store.publish([Publish("a", b"\x01")])
        store.disk.restore(backup)
        with pytest.raises(Unavailable):
            await reads.read(Query())
        assert len(faults) == 1


async def test_lineages_are_remembered_until_the_history_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "LINEAGES_CACHED", 2)
    async with reading() as (reads, store, _):
        await store.publish([Publish("a", b"\x01"), Publish("a", b"\x02")])
        lineage = store.disk.image.rows[0].lineage
        assert await reads.lineage_at(1) == lineage
        assert await reads.lineage_at(1) == lineage
        assert len(store.calls) == 1
        assert await reads.lineage_at(9) is None
        assert await reads.lineage_at(9) is None
        assert len(store.calls) == 3
        await reads.lineage_at(2)
        await reads.lineage_at(3)
        assert len(store.calls) == 5
        await reads.lineage_at(2)
        assert len(store.calls) == 5
        await reads.lineage_at(1)
        assert len(store.calls) == 6
        reads.forget()
        await reads.lineage_at(1)
        assert len(store.calls) == 7


async def test_a_lineage_read_while_the_history_changed_is_not_remembered() -> None:
    async with reading() as (reads, store, _), trio.open_nursery() as nursery:
        store.open = trio.Event()
        nursery.start_soon(reads.lineage_at, 1)
        await settled()
        store.disk.restore(MemoryDisk(Random(2)).image)
        now = await store.reopen()
        reads.forget()
        store.open.set()
        await settled()
        assert now.revision == 1
        assert await reads.lineage_at(1) == now.lineage
