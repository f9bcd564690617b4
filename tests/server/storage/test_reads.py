from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from random import Random

import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from softstate.errors import Rewound, Unavailable
from softstate.model import Page, Query, SharedRecords
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.storage import reads as reads_module
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.level import Level
from softstate.server.storage.reads import FAILING_QUIET_S, StoreReads
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.hub_rig import HubRig

settled = trio.testing.wait_all_tasks_blocked


class CountingStore(MemoryStore):
    """A memory store that counts its calls about lineages, and can hold up its answers."""

    def __init__(self) -> None:
        super().__init__(MemoryDisk(Random(1)))
        self.calls: list[str] = []
        self.open = trio.Event()
        self.open.set()
        self.groups: list[Sequence[Query]] = []
        self.answered = 999

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        self.groups.append(group)
        answers = (await super().read(group))[: self.answered]
        await self.open.wait()
        return answers

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        self.calls.append("lineage_at")
        answer = await super().lineage_at(revisions)
        await self.open.wait()
        return answer


@asynccontextmanager
async def reading(
    told: Callable[[Position], None] = lambda _position: None,
) -> AsyncIterator[tuple[StoreReads, CountingStore, StoreGuard]]:
    store, guard = CountingStore(), StoreGuard(lambda _fault: None)
    level = Level(HubRig(store.disk.image.position).hub, guard, trio.current_time, lambda: 0)
    reads = StoreReads(ServerConfig(), store, guard, Bulkhead(strict=True), Damage(), level, told)
    async with trio.open_nursery() as nursery:
        for batcher in reads.batchers:
            nursery.start_soon(batcher.run)
        await settled()
        yield reads, store, guard
        nursery.cancel_scope.cancel()


async def test_a_read_answers_or_raises() -> None:
    async with reading() as (reads, store, _):
        committed = await store.publish([Write("a", b"\x01")])
        page = await reads.read(Query({"a": 0}))
        assert [record.topic for record in page.records] == ["a"]
        with pytest.raises(Rewound):
            await reads.read(Query(witness=committed.position.at(99)))
        store.outage = True
        with pytest.raises(Unavailable):
            await reads.read(Query())


@settings(max_examples=100, deadline=None)
@given(kinds=st.lists(st.integers(0, 8), min_size=1, max_size=12), answered=st.integers(1, 5))
async def test_equal_reads_of_a_batch_are_asked_once_and_get_what_each_would_get_alone(
    kinds: list[int], answered: int
) -> None:
    async with reading() as (reads, store, _):
        committed = await store.publish([Write("a", b"\x01"), Write("b/1", b"\x02")])
        queries = [
            Query({"a": 0, "b/1": 0}), Query(prefixes={"b/": 0}), Query({"a": 1}),
            Query(witness=committed.position.at(99)), Query(prefixes={"b/": 0}, limit=1),
            # Those of a herd: what they have seen differs.
            Query(prefixes={"b/": 0}, witness=committed.position), Query({"a": 1}, witness=committed.position),
            Query(prefixes={"b/": 0}, witness=committed.position.at(2)),
            Query(prefixes={"b/": 0}, witness=committed.position.at(99)),
        ]  # fmt: skip
        alone = (await store.read(queries[:])) if answered else []
        store.answered = answered
        store.groups.clear()
        got: dict[int, Page | Rewound] = {}

        async def ask(number: int, kind: int) -> None:
            try:
                turned = dict(sorted(queries[kind].topics.items(), reverse=True))
                got[number] = await reads.read(replace(queries[kind], topics=turned))
            except Rewound as error:
                got[number] = error

        async with trio.open_nursery() as nursery:
            for number, kind in enumerate(kinds):
                nursery.start_soon(ask, number, kind)
        for number, kind in enumerate(kinds):
            expected, page = alone[kind], got[number]
            if isinstance(page, Page):
                assert page == expected
            else:
                assert str(page) == str(expected)
        for group in store.groups:
            named = [(repr(query.topics), repr(query.prefixes), query.limit) for query in group]
            asked = [each for each in named if each[:2] != ("{}", "{}")]
            assert len(set(asked)) == len(asked)
            assert len(group) <= 9


async def test_a_page_of_several_is_one_and_the_page_of_one_is_not_kept() -> None:
    async with reading() as (reads, store, _), trio.open_nursery() as nursery:
        await store.publish([Write("a", b"\x01")])
        pages: list[Page] = []

        async def ask(query: Query) -> None:
            pages.append(await reads.read(query))

        for query in (Query({"a": 0}), Query({"a": 0}), Query(prefixes={"/": 0})):
            nursery.start_soon(ask, query)
        await settled()
        shared = [page.records for page in pages if isinstance(page.records, SharedRecords)]
        assert len(pages) == 3
        assert len(shared) == 2
        assert shared[0] is shared[1]


async def test_a_herd_whose_members_have_seen_different_positions_shares_a_page() -> None:
    """Each position is looked at beside it, and one that is off the history spoils no other."""
    async with reading() as (reads, store, _), trio.open_nursery() as nursery:
        await store.publish([Write("a", b"\x01"), Write("b", b"\x01")])
        position = store.disk.image.position
        got: dict[int, Page | Rewound] = {}

        async def ask(revision: int) -> None:
            try:
                got[revision] = await reads.read(Query({"a": 0}, witness=position.at(revision) if revision else None))
            except Rewound as error:
                got[revision] = error

        store.open = trio.Event()
        nursery.start_soon(ask, 0)
        await settled()
        for revision in (99, 1, 2, 3, 98):
            nursery.start_soon(ask, revision)
        await settled()
        store.open.set()
        await settled()
        assert {revision: type(answer) for revision, answer in got.items()} == {
            0: Page, 1: Page, 2: Page, 3: Page, 98: Rewound, 99: Rewound,
        }  # fmt: skip
        shared = [page.records for page in got.values() if isinstance(page, Page)]
        assert len([records for records in shared if isinstance(records, SharedRecords)]) == 3
        assert len({id(records) for records in shared}) == 2
        asked = [sum(bool(query.topics) for query in group) for group in store.groups]
        assert sum(asked) <= 3


async def test_a_read_that_comes_while_an_equal_one_is_made_is_made_itself() -> None:
    async with reading() as (reads, store, _), trio.open_nursery() as nursery:
        pages: list[Page] = []

        async def ask() -> None:
            pages.append(await reads.read(Query({"a": 0})))

        store.open = trio.Event()
        nursery.start_soon(ask)
        await settled()
        await store.publish([Write("a", b"\x01")])
        nursery.start_soon(ask)
        await settled()
        store.open.set()
        await settled()
        assert [len(page.records) for page in pages] == [0, 1]


async def test_a_rewound_store_answers_unavailable() -> None:
    async with reading() as (reads, store, _):
        backup = store.disk.snapshot()
        await store.publish([Write("a", b"\x01")])
        store.disk.restore(backup)
        with pytest.raises(Unavailable):
            await reads.read(Query())
        with pytest.raises(Unavailable):
            await reads.lineage_at(1)


async def test_lineages_are_remembered_until_the_store_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "LINEAGES_CACHED", 2)
    async with reading() as (reads, store, guard):
        await store.publish([Write("a", b"\x01"), Write("a", b"\x02")])
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
        guard.generation = 1
        await reads.lineage_at(1)
        assert len(store.calls) == 7


@pytest.mark.parametrize("numbers", [(0, 1), (0, None), (None, 1)])
async def test_a_lineage_read_while_the_store_was_reopened_is_not_remembered(
    numbers: tuple[int | None, int | None],
) -> None:
    async with reading() as (reads, store, guard), trio.open_nursery() as nursery:
        guard.generation = numbers[0]
        store.open = trio.Event()

        async def ask_and_fail() -> None:
            with pytest.raises(Unavailable):
                await reads.lineage_at(1)

        nursery.start_soon(ask_and_fail)
        await settled()
        store.disk.restore(MemoryDisk(Random(2)).image)
        now = await store.reopen()
        guard.generation = numbers[1]
        store.open.set()
        await settled()
        guard.generation = 1
        assert now.revision == 1
        assert await reads.lineage_at(1) == now.lineage


@pytest.mark.parametrize(("began", "ended", "told"), [(0, 0, True), (0, 1, False), (None, None, False)])
async def test_a_position_that_a_client_is_told_is_noted(began: int | None, ended: int | None, *, told: bool) -> None:
    noted = list[Position]()
    async with reading(noted.append) as (reads, store, guard), trio.open_nursery() as nursery:
        committed = await store.publish([Write("a", b"\x01")])
        guard.generation = began
        store.open = trio.Event()

        async def ask() -> None:
            with nullcontext() if told else pytest.raises(Unavailable):
                await reads.read(Query({"a": 0}))

        nursery.start_soon(ask)
        await settled()
        guard.generation = ended
        store.open.set()
        await settled()
    assert noted == ([committed.position] if told else [])


async def test_reads_that_fail_are_one_line_of_the_log_and_one_when_they_succeed_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Also where some fail and others do not, as on a file of which some pages are damaged."""
    async with reading() as (reads, store, _):
        read = store.read

        async def read_damaged(group: Sequence[Query]) -> Sequence[Page | Rewound]:
            if any(query.prefixes for query in group):
                raise Unavailable("memory: database disk image is malformed")
            return await read(group)

        monkeypatch.setattr(store, "read", read_damaged)
        with structlog.testing.capture_logs() as logs:
            for _ in range(20):
                with pytest.raises(Unavailable, match="malformed"):
                    await reads.read(Query(prefixes={"/": 0}))
                await reads.read(Query({"a": 0}))
            assert [(line["event"], line["because"]) for line in logs] == [
                ("reads fail", "memory: database disk image is malformed")
            ]
            await trio.sleep(FAILING_QUIET_S)
            await reads.lineage_at(1)
            await reads.read(Query({"a": 0}))
        assert [(line["event"], line.get("failures")) for line in logs[1:]] == [("reads succeed again", 20)]
        store.outage = True
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await reads.lineage_at(7)
        assert [line["event"] for line in logs] == ["reads fail"]


async def test_the_widest_prefix_does_not_list_what_only_a_name_of_its_own_reaches() -> None:
    """S13: a right to read ``/`` is none to these; page by page, too, though a page may hold nothing else."""
    async with reading() as (reads, store, _guard):
        for topic in ("$a/x", "a", "$softstate/x", "$b/x", "b", "$a/y"):
            await store.publish([Write(topic, b"\x00")])

        async def listed(query: Query) -> list[str]:
            found: list[str] = []
            while True:
                page = await reads.read(query)
                found += [record.topic for record in page.records]
                if not page.more:
                    return found
                assert page.next_after > query.after
                query = replace(query, after=page.next_after, listed=page.position.revision)

        for limit in (1, 2, 100):
            assert await listed(Query(prefixes={"/": 0}, limit=limit)) == ["a", "b"]
            asked = Query({"$a/y": 0}, {"/": 0, "$b/": 0}, limit=limit)
            assert await listed(asked) == ["a", "$b/x", "b", "$a/y"]
