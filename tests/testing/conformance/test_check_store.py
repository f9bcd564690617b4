"""The conformance test: the memory and SQLite stores pass it, and a store that breaks a rule fails."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from softstate.errors import Rewound
from softstate.model import PAGE_RECORDS_MAX, READ_COST_MAX, Page, Query, Record
from softstate.position import Position
from softstate.store.base import KEYS_MAX, Applied, Committed, Dump, Store, Write
from softstate.store.memory.store import MemoryDisk, MemoryImage, MemoryStore
from softstate.store.sqlite.store import SqliteStore
from softstate.testing import STORE_CHECKS, Backend, Rewindable, StoreCheck, check_store, run_check
from softstate.testing.simulation.disk import SequencedImage


class MemoryBackend:
    store: type[MemoryStore] = MemoryStore

    def __init__(self) -> None:
        self.disk = MemoryDisk(Random(1))

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        return self.store(self.disk, keys_max=keys_max)

    async def snapshot(self) -> MemoryImage:
        return self.disk.snapshot()

    async def restore(self, snapshot: Any) -> None:
        self.disk.restore(snapshot)


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "softstate.db"

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        return await SqliteStore.open(str(self.path), keys_max=keys_max)

    async def open_to_read(self) -> Store:
        return await SqliteStore.open(str(self.path), read_only=True)

    async def snapshot(self) -> sqlite3.Connection:
        backup = sqlite3.connect(":memory:")
        self._copy(backup, into_file=False)
        return backup

    async def restore(self, snapshot: Any) -> None:
        self._copy(snapshot, into_file=True)

    def _copy(self, other: sqlite3.Connection, *, into_file: bool) -> None:
        connection = sqlite3.connect(self.path)
        try:
            source, target = (other, connection) if into_file else (connection, other)
            source.backup(target)
        finally:
            connection.close()


def check_name(check: StoreCheck) -> str:
    return getattr(check, "__name__", "?")


@pytest.mark.parametrize("check", STORE_CHECKS, ids=check_name)
async def test_memory_store(check: StoreCheck) -> None:
    await run_check(check, MemoryBackend())


@pytest.mark.parametrize("check", STORE_CHECKS, ids=check_name)
async def test_sqlite_store(check: StoreCheck, tmp_path: Path) -> None:
    await run_check(check, SqliteBackend(tmp_path))


def test_both_backends_can_be_rewound(tmp_path: Path) -> None:
    assert isinstance(MemoryBackend(), Rewindable)
    assert isinstance(SqliteBackend(tmp_path), Rewindable)


class ForgetsTombstones(MemoryStore):
    async def publish(self, group: Sequence[Write]) -> Committed:
        done = await super().publish(group)
        self.disk.image.compact(tombstones=done.position.revision, keys=0)
        self.disk.image.floor = 0
        return done


class KeepsTombstonesBack(MemoryStore):
    async def read(self, group: Sequence[Query]) -> Sequence[Page | Any]:
        def alive(page: Page | Any) -> Page | Any:
            if not isinstance(page, Page):
                return page
            records: list[Record] = [record for record in page.records if not record.deleted]
            return Page(page.position, page.floor, records, page.more, page.compacted, page.restart)

        return [alive(page) for page in await super().read(group)]


class IgnoresKeys(MemoryStore):
    async def publish(self, group: Sequence[Write]) -> Committed:
        return await super().publish([Write(p.topic, p.cbor, p.expect, p.witness) for p in group])


class NeverWakes(MemoryStore):
    async def wait(self, after: int) -> None:
        raise AssertionError(f"waits without end after {after}")


class TrustsAnyHistory(MemoryStore):
    def _image(self) -> MemoryImage:
        self._seen = self.disk.image.position
        return super()._image()


class KeepsLineageRows(MemoryStore):
    async def compact(self, *, tombstones: int, keys: int) -> int:
        rows = list(self.disk.image.rows)
        floor = await super().compact(tombstones=tombstones, keys=keys)
        self.disk.image.rows[:] = rows
        return floor


class CountsNoCost(MemoryStore):
    async def read(self, group: Sequence[Query]) -> Sequence[Page | Any]:
        return await super().read([replace(query, limit_cost=READ_COST_MAX) for query in group])


class StaysWhereItEnded(MemoryStore):
    async def read(self, group: Sequence[Query]) -> Sequence[Page | Any]:
        pages = await super().read(group)
        return [
            page if isinstance(page, Rewound) or page.upto is None else replace(page, upto=query.after)
            for query, page in zip(group, pages, strict=False)
        ]


class ForgetsWhatIsInFlight(MemoryStore):
    async def publish(self, group: Sequence[Write]) -> Committed:
        done = await super().publish(group)
        publishers = self.disk.image.publishers
        publishers.update({name: replace(known, uses={}) for name, known in publishers.items()})
        return done


class CutsNames(MemoryStore):
    """Takes a name of a publisher to end at U+0000, as SQLite's functions for JSON do."""

    async def publish(self, group: Sequence[Write]) -> Committed:
        return await super().publish([_cut(write) for write in group])


def _cut(write: Write) -> Write:
    number = write.number
    if number is not None:
        number = replace(number, publisher=number.publisher.partition("\0")[0])
    return replace(write, number=number)


class ForgetsWhatWasSettled(MemoryStore):
    async def publish(self, group: Sequence[Write]) -> Committed:
        done = await super().publish(group)
        publishers = self.disk.image.publishers
        publishers.update({name: replace(known, settled=0) for name, known in publishers.items()})
        return done


class DumpsNoTombstones(MemoryStore):
    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        page = await super().dump(after, limit)
        return replace(page, records=[record for record in page.records if not record.deleted])


class CopiesNoKeys(MemoryStore):
    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        position = await super().adopt(pages, replace=replace)
        self.disk.image.keys.clear()
        return position


class KeepsItsEpoch(MemoryStore):
    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        image, epoch = self.disk.image, self.disk.image.epoch
        await super().adopt(pages, replace=replace)
        assert self.disk.image is not image
        self.disk.image.epoch = epoch
        self.disk.image.rows[:] = [Position(epoch, row.lineage, row.revision) for row in self.disk.image.rows]
        self._seen = self.disk.image.position
        return self._seen


class OverwritesWhatWasPublished(MemoryStore):
    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        return await super().adopt(pages, replace=True)


class EmptiesItselfFirst(MemoryStore):
    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        if replace:
            self.disk.image.records.clear()
            self.disk.image.latest.clear()
        return await super().adopt(pages, replace=replace)


class OnlyClosesWhenDestroyed(MemoryStore):
    async def destroy(self) -> None:
        await self.aclose()


class DrawsRevisionsFirst(MemoryStore):
    """Draws a revision as from a sequence, and commits later: commits become visible out of order."""

    def _open(self) -> Position:
        if not isinstance(self.disk.image, SequencedImage):
            self.disk.image = SequencedImage(self.disk.image.epoch)
        return super()._open()

    async def publish(self, group: Sequence[Write]) -> Committed:
        image = self._image()
        if len(group) != 1 or group[0] != Write(group[0].topic, group[0].cbor) or group[0].cbor is None:
            return await super().publish(group)
        assert isinstance(image, SequencedImage)
        before, revision = image.head, image.draw()
        for _ in range(revision % 3):
            await trio.lowlevel.checkpoint()
        record = image.commit_drawn(group[0], revision)
        self.disk.ring()
        return Committed([Applied(revision)], before, [record], image.position)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (ForgetsTombstones, "compare and set compares"),
        (KeepsTombstonesBack, "page holds the differences"),
        (IgnoresKeys, "key returns the first success"),
        (NeverWakes, "wait ends with the next commit"),
        (TrustsAnyHistory, "rewinding is noticed"),
        (DrawsRevisionsFirst, "commits become visible in order"),
        (KeepsLineageRows, "lineage rows are compacted"),
        (CountsNoCost, "pages end by their cost"),
        (StaysWhereItEnded, "pages end by their cost"),
        (ForgetsWhatIsInFlight, "number returns the first success"),
        (ForgetsWhatWasSettled, "settled number never comes back"),
        (CutsNames, "names of clients may hold any text"),
        (DumpsNoTombstones, "dump is complete"),
        (CopiesNoKeys, "copy is complete"),
        (KeepsItsEpoch, "copy is complete"),
        (OverwritesWhatWasPublished, "copy overwrites nothing published"),
        (EmptiesItselfFirst, "broken copy changes nothing"),
        (OnlyClosesWhenDestroyed, "destroyed store is gone"),
    ],
)
async def test_a_store_that_breaks_a_rule_fails_its_check(broken: type[MemoryStore], complaint: str) -> None:
    class BrokenBackend(MemoryBackend):
        store = broken

    async def fresh() -> Backend:
        return BrokenBackend()

    with pytest.raises(AssertionError, match=f"^{complaint}"):
        await check_store(fresh)


async def test_check_store_runs_every_check() -> None:
    made: list[Backend] = []

    async def fresh() -> Backend:
        made.append(MemoryBackend())
        return made[-1]

    await check_store(fresh)
    assert len(made) == len(STORE_CHECKS)
