"""Pages that end by their cost: they add up, however the records are found, and what a page costs is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from softstate.model import PAGE_RECORDS_MAX, READ_COST_MAX, Page, Query, Record
from softstate.store.base import Store, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.store.rules import prefix_scan
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.paging import cost_of_names, within_cost
from softstate.store.rules.prefix_scan import LISTED_COST, LOG_ROWS_MIN, without_nested
from softstate.store.sqlite.store import SqliteStore

PREFIXES = ["/", "a/", "a/a/", "a/b/", "b/", "c/", "c/c/", "d/"]


async def page_of(store: Store, query: Query) -> Page:
    (page,) = await store.read([query])
    assert isinstance(page, Page)
    return page


async def walk(store: Store, query: Query, pages_max: int = 10_000) -> tuple[list[Record], list[Page]]:
    """Read an answer to its end; return all records, and the pages."""
    records: list[Record] = []
    pages: list[Page] = []
    while True:
        page = await page_of(store, query)
        records += page.records
        pages.append(page)
        if not page.more:
            return records, pages
        assert page.next_after > query.after, "no page may stand still"
        assert len(pages) < pages_max
        listed = query.listed or page.position.revision
        query = replace(query, after=page.next_after, listed=listed)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    yield store
    await store.aclose()


async def fill(store: Store, names: list[str], repeat: int = 1) -> None:
    for _ in range(repeat):
        for begin in range(0, len(names), 10_000):
            await store.publish([Write(name, b"\x01") for name in names[begin : begin + 10_000]])


# Adding up -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_pages_cut_by_cost_add_up_to_what_one_page_would_say(
    seed: int, sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    for name, choices in {
        "NEAR_HEAD": [-1, 3], "SMALL_TOPICS_MAX": [0, 2, 9], "LISTED_TOPICS_MAX": [3, 12, 100], "LOG_ROWS_MIN": [1, 3],
        "LOG_ROWS_MAX": [2, 8], "SPARSE_ROWS": [1, 4, 50], "FRESH_ROWS_MAX": [0, 5], "LOADED_MIN": [1, 4],
        "PROBED_MAX": [0, 16],
    }.items():  # fmt: skip
        monkeypatch.setattr(prefix_scan, name, random.choice(choices))
    memory = MemoryStore(MemoryDisk(Random(seed)))
    for _ in range(40):
        topics = [f"{random.choice(['ab/', 'cc', 'd', 'a/a', 'c'])}/{random.randint(0, 5)}".replace("//", "/")
                  for _ in range(random.randint(1, 6))]  # fmt: skip
        group = [Write(topic, None if random.random() < 0.3 else b"\x01") for topic in topics]
        versions = [await store.publish(group) for store in (memory, sqlite)]
        assert versions[0].position.revision == versions[1].position.revision
        prefixes = {
            prefix: random.choice([0, 0, random.randint(0, versions[0].position.revision)])
            for prefix in random.sample(PREFIXES, random.randint(1, 4))
        }
        singles = dict.fromkeys(random.sample(topics, random.randint(0, len(set(topics)) // 2)), 0)
        query = Query(singles, prefixes, limit_cost=random.choice([0, 1, 7, 20, READ_COST_MAX]))
        whole, _ = await walk(memory, replace(query, limit_cost=READ_COST_MAX))
        for store in (memory, sqlite):
            found, pages = await walk(store, replace(query, limit=random.choice([1, 3, 1024])))
            assert [record.version for record in found] == sorted({record.version for record in found})
            if len(pages) == 1:
                assert [record.topic for record in found] == [record.topic for record in whole]
            else:
                # Pages after the first include tombstones.
                living = [record.topic for record in found if not record.deleted]
                assert living == [record.topic for record in whole if not record.deleted]
                assert {record.topic for record in whole} <= {record.topic for record in found}


def test_a_prefix_within_another_is_scanned_once() -> None:
    wanted = without_nested([("a/", 0, False), ("a/b/", 0, False), ("a/b/c/", 0, False), ("b/", 0, False)])
    assert wanted == {"a/": (0, False), "b/": (0, False)}
    nested = [("a/", 5, True), ("a/b/", 3, True), ("a/b/c/", 7, True), ("a/c/", 0, False)]
    assert list(without_nested(nested)) == ["a/", "a/b/", "a/c/"]
    assert list(without_nested([("/", 0, False), ("a/", 0, False)])) == ["/"]


async def test_a_hundred_nested_prefixes_cost_what_the_widest_costs(sqlite: SqliteStore) -> None:
    await fill(sqlite, [f"{'a/' * 98}{number}" for number in range(3_000)])
    one = await page_of(sqlite, Query(prefixes={"a/": 0}))
    all_of_them = await page_of(sqlite, Query(prefixes={"a/" * depth: 0 for depth in range(1, 98)}))
    assert [record.topic for record in all_of_them.records] == [record.topic for record in one.records]
    assert all_of_them.cost <= one.cost + 97 + 3_000


# The cost of a page --------------------------------------------------------------------------------------------------


async def test_a_page_of_many_large_prefixes_is_within_the_cost_and_the_answer_in_few_pages(
    sqlite: SqliteStore,
) -> None:
    await fill(sqlite, [f"p{number % 30:02}/{number}" for number in range(90_000)])
    query = Query(prefixes={f"p{number:02}/": 0 for number in range(29)})
    records, pages = await walk(sqlite, query)
    assert len(records) == 29 * 3_000
    assert max(page.cost for page in pages) <= READ_COST_MAX + LOG_ROWS_MIN
    assert len(pages) <= len(records) / PAGE_RECORDS_MAX + 2
    # Nothing is looked at for every page: less than twice all that there is, and what it took to find out the sizes.
    assert sum(page.cost for page in pages) < 2 * 90_000 + 29 * (2_048 + LISTED_COST + 100)


async def test_tombstones_are_passed_over_within_the_cost(sqlite: SqliteStore) -> None:
    names = [f"a/{number}" for number in range(60_000)]
    for begin in range(0, len(names), 10_000):
        for cbor in (b"\x01", None):
            await sqlite.publish([Write(name, cbor) for name in names[begin : begin + 10_000]])
    await sqlite.publish([Write("a/last", b"\x01")])
    for prefix in ("/", "a/"):
        query = Query(prefixes={prefix: 0}, limit_cost=1_000)
        page = await page_of(sqlite, query)
        assert (page.records, page.more) == ([], True)
        assert page.cost <= 1_000 + 256
        records, pages = await walk(sqlite, replace(query, limit_cost=READ_COST_MAX))
        assert records[-1].topic == "a/last"
        assert max(page.cost for page in pages) <= READ_COST_MAX + 256


async def test_a_prefix_spread_thinly_is_listed_once_and_paged_by_name(sqlite: SqliteStore) -> None:
    names = [f"{'thin' if number % 50 == 0 else 'thick'}/{number}" for number in range(150_000)]
    await fill(sqlite, names)
    records, pages = await walk(sqlite, Query(prefixes={"thin/": 0}))
    assert len(records) == 3_000
    assert len(pages) == 3
    # Found out to be large, walked, listed by name; then loaded.
    assert sum(page.cost for page in pages) < 2_048 + 3 * 4_096 + 3_000 + 3_000 + 200
    again, pages = await walk(sqlite, Query(prefixes={"thin/": 0}))
    assert again == records
    assert sum(page.cost for page in pages) <= 3_000 + 3 + 200


async def test_versions_are_sorted_once_though_others_publish_between_the_pages(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(sqlite, [f"{'a' if number % 100 == 0 else 'z'}/{number}" for number in range(100_000)])
    query = Query(prefixes={"a/": 0}, limit=50)
    page = await page_of(sqlite, query)
    costs = []
    topics = {record.topic for record in page.records}
    number = 0
    while page.more:
        number += 1
        await sqlite.publish([Write(f"a/{number * 100}", b"\x02"), Write(f"z/{number}", b"\x02")])
        query = replace(query, after=page.next_after, listed=query.listed or page.position.revision)
        page = await page_of(sqlite, query)
        costs.append(page.cost)
        topics |= {record.topic for record in page.records}
    assert topics == {f"a/{number}" for number in range(0, 100_000, 100)}
    assert max(costs) <= 50 + 256 + 100


# A group -------------------------------------------------------------------------------------------------------------


async def test_a_group_is_answered_as_far_as_one_call_may_cost(sqlite: SqliteStore) -> None:
    await fill(sqlite, [f"p{number % 10}/{number}" for number in range(100_000)])
    group = [Query(prefixes={f"p{number}/": 0}) for number in range(10)]
    answered = 0
    costs = []
    while answered < len(group):
        pages = await sqlite.read(group[answered:])
        assert 1 <= len(pages) <= len(group) - answered
        costs.append(sum(page.cost for page in pages if isinstance(page, Page)))
        answered += len(pages)
    assert max(costs) <= READ_COST_MAX + LOG_ROWS_MIN
    cheap = await sqlite.read([Query({"p0/0": 0})] * 512)
    assert len(cheap) == 512


async def test_names_alone_are_bounded_in_a_call(sqlite: SqliteStore) -> None:
    names = dict.fromkeys((f"t/{number}" for number in range(10_000)), 0)
    group = [Query(names)] * 9
    assert [cost_of_names(query) for query in within_cost(group)] == [10_000] * 5
    assert len(await sqlite.read(group)) < 6
    (alone,) = within_cost([Query(names, limit_cost=10)] * 3)
    assert len(await sqlite.read([alone])) == 1


def test_a_cost_knows_the_lowest_revision_at_which_a_scan_ended() -> None:
    cost = ReadCost(10)
    cost.add(7)
    assert (cost.left, cost.upto) == (3, None)
    cost.add(7)
    assert cost.left == 0
    for revision in (9, 5, 7):
        cost.end_at(revision)
    assert cost.upto == 5
