"""Reading from a real etcd: groups of queries, how many calls they take, and that each answer is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from softstate.errors import Rewound
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Write
from softstate.store.etcd import demand, query_demand, snapshot
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import TXN_OPS_MAX, Op, TxnAnswer
from softstate.store.etcd.store import EtcdStore
from softstate.store.memory.store import MemoryStore
from softstate.testing.conformance.stage import next_query, read_page
from tests.store.engines.etcd_rig import EtcdBackend


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of operations of each transaction that reads."""
    made: list[int] = []
    txn = Gateway.txn

    async def counted(gateway: Gateway, connection: Connection, ops: Sequence[Op]) -> TxnAnswer:
        made.append(len(ops))
        return await txn(gateway, connection, ops)

    monkeypatch.setattr(Gateway, "txn", counted)
    return made


async def pages_of(store: EtcdStore | MemoryStore, group: Sequence[Query]) -> list[Page]:
    return [page for page in await store.read(group) if isinstance(page, Page)]


async def filled(backend: EtcdBackend, topics: Sequence[str], size: int = 8) -> EtcdStore:
    store = await backend.open()
    await store.publish([Write(topic, bytes([0x58, size]) + bytes(size)) for topic in topics])
    return store


async def test_equal_queries_cost_what_one_does(backend: EtcdBackend, calls: list[int]) -> None:
    store = await filled(backend, [f"t/{number}" for number in range(20)])
    for query in (Query(topics={"t/1": 0}), Query(prefixes={"t/": 0}), Query(prefixes={ALL: 0})):
        calls.clear()
        pages = await pages_of(store, [query] * 400)
        assert len(pages) == 400
        assert [record.topic for record in pages[399].records][:1] == ["t/1" if query.topics else "t/0"]
        assert len(calls) <= 3, query
    await store.aclose()


async def test_different_topics_cost_as_few_calls_as_etcd_takes(backend: EtcdBackend, calls: list[int]) -> None:
    """400 queries of a topic each: their states, then their records."""
    topics = [f"t/{number}" for number in range(400)]
    store = await filled(backend, topics)
    calls.clear()
    pages = await pages_of(store, [Query(topics={topic: 0}) for topic in topics])
    assert [record.topic for page in pages for record in page.records] == topics
    assert max(calls) <= TXN_OPS_MAX
    assert len(calls) <= 4 + 3, "402 operations, then 32 records, to learn their size, then the others"
    await store.aclose()


async def test_nested_prefixes_are_read_once(backend: EtcdBackend, calls: list[int]) -> None:
    """Prefixes within each other, and topics below them, of many clients: each record crosses the wire once."""
    names = [f"a/{b}/{c}/{d}" for b in range(5) for c in range(5) for d in range(4)]
    store = await filled(backend, names + [f"other/{number}" for number in range(300)])
    prefixes = ["a/", *(f"a/{b}/" for b in range(5)), *(f"a/{b}/{c}/" for b in range(5) for c in range(5))]
    group = [Query(prefixes={prefix: 0}) for prefix in prefixes]
    group += [Query(prefixes={"a/": 0, "a/1/": 0}, topics={"a/1/1/1": 0, "other/1": 0})]
    calls.clear()
    pages = await pages_of(store, group)
    for query, page in zip(group, pages, strict=True):
        wanted = [
            name for name in [*names, "other/1"] if name in query.topics or name.startswith(tuple(query.prefixes))
        ]
        assert [record.topic for record in page.records] == wanted
    assert sum(calls) <= 1 + 1 + 2 + len(prefixes) + 1 + 101, "head, lineage, topics, counts, one range, records"
    assert len(calls) <= 4
    await store.aclose()


async def test_clients_that_come_back_share_the_log(backend: EtcdBackend, calls: list[int]) -> None:
    """Each knows all up to a revision of its own near the head, and has a witness of its own."""
    store = await filled(backend, [f"a/{number}" for number in range(20)])
    head = await store.head()
    heads = [head, *[(await store.publish([Write(f"b/{number}", b"\x01")])).position for number in range(100)]]
    group = [
        Query(prefixes={prefix: known.revision}, witness=known) for known in heads for prefix in ("a/", "b/", ALL, "c/")
    ]
    calls.clear()
    pages = await pages_of(store, group)
    for query, page in zip(group, pages, strict=True):
        ((prefix, since),) = query.prefixes.items()
        count = heads[-1].revision - since if prefix in ("b/", ALL) else 0
        assert [record.version for record in page.records] == [since + 1 + number for number in range(count)]
    assert len(calls) <= 3
    await store.aclose()


async def test_many_witnesses_of_many_lineages(backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LINEAGES_MAX", 3)
    store, heads = await backend.open(), list[Position]()
    for number in range(9):
        heads.append(await store.reopen())
        heads.append((await store.publish([Write(f"t/{number}", b"\x01")])).position)
    answers = await store.read([Query(witness=head) for head in heads])
    assert all(isinstance(answer, Page) for answer in answers)
    wrong = [replaced(head, "0123456789abcdef") for head in heads]
    answers = await store.read([Query(witness=witness) for witness in (*heads, *wrong)])
    assert [type(answer) for answer in answers] == [Page] * len(heads) + [Rewound] * len(wrong)
    await store.aclose()


def replaced(position: Position, lineage: str) -> Position:
    return Position(position.epoch, lineage, position.revision)


async def test_each_asker_gets_an_error_of_its_own(backend: EtcdBackend) -> None:
    store = await backend.open()
    answers = await store.read([Query(prefixes={ALL: 99})] * 3)
    assert len({id(answer) for answer in answers if isinstance(answer, Rewound)}) == 3
    await store.aclose()


async def test_a_group_with_more_names_than_a_snapshot_takes(
    backend: EtcdBackend, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "NAMES_MAX", 10)
    store = await filled(backend, [f"t/{number}" for number in range(40)])
    group = [Query(topics={f"t/{4 * number + at}": 0 for at in range(4)}) for number in range(10)]
    group += [Query(topics={f"t/{number}": 0 for number in range(40)})]
    calls.clear()
    pages = await pages_of(store, group)
    assert [len(page.records) for page in pages] == [4] * 10 + [40]
    assert max(calls) <= 42
    await store.aclose()


async def test_a_group_with_more_bytes_than_are_held(
    backend: EtcdBackend, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete answers are given, the rest come from later snapshots: another publish in between is seen there."""
    monkeypatch.setattr(demand, "HELD_BYTES_MAX", 1_000)
    monkeypatch.setattr(demand, "ROUND_BYTES", 1_000)
    store = await filled(backend, [f"t/{number}" for number in range(100)], size=200)
    group = [Query(topics={f"t/{number}": 0}) for number in range(100)]
    calls.clear()
    pages = await pages_of(store, group)
    assert [page.records[0].topic for page in pages] == [f"t/{number}" for number in range(100)]
    assert len(calls) > 4
    await store.aclose()


async def test_a_group_with_more_under_prefixes_than_is_looked_at(
    backend: EtcdBackend, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query alone is answered too: from the log then."""
    monkeypatch.setattr(demand, "ENTRIES_MAX", 50)
    monkeypatch.setattr(demand, "NEAR_HEAD", 10)
    names = [f"{first}/{number}" for first in "abcdef" for number in range(20)]
    store = await filled(backend, names)
    group = [Query(prefixes={f"{first}/": 0}) for first in "abcdef"] + [
        Query(prefixes={f"{first}/": 0 for first in "abcdef"})
    ]
    pages = await pages_of(store, group)
    assert [len(page.records) for page in pages] == [20] * 6 + [120]
    assert [record.topic for record in pages[6].records] == names
    await store.aclose()


async def test_a_page_of_many_prefixes_is_not_fetched_of_each(backend: EtcdBackend, calls: list[int]) -> None:
    """Sixty prefixes, and a page of ten records: what is fetched is a page, not a page of every prefix."""
    names = [f"p{number % 60}/{number}" for number in range(600)]
    store = await filled(backend, names)
    query = Query(prefixes={f"p{number}/": 0 for number in range(60)}, limit=10)
    calls.clear()
    page = await read_page(store, query)
    assert ([record.topic for record in page.records], page.more) == (names[:10], True)
    assert sum(calls) <= 2 + 60 + 60 + 11
    calls.clear()
    found = [record.topic for page in await all_records(store, query) for record in page.records]
    assert found == names
    await store.aclose()


async def all_records(store: EtcdStore, query: Query) -> list[Page]:
    pages = [await read_page(store, query)]
    while pages[-1].more:
        listed = pages[0].position.revision
        query = replace(query, after=pages[-1].next_after, listed=listed)
        pages.append(await read_page(store, query))
    return pages


def without_lineage(found: object) -> object:
    if not isinstance(found, Page):
        return type(found)
    return found.position.revision, found.floor, found.records, found.more, found.compacted, found.restart


LIMITS: Sequence[dict[str, Any]] = [
    {},
    {"PREFIX_TOPICS_MAX": 3},
    {"HELD_BYTES_MAX": 500, "ROUND_BYTES": 300},
    {"NAMES_MAX": 5, "ENTRIES_MAX": 12, "LOG_RANGES_MAX": 1},
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
async def test_answers_are_those_of_the_store_in_memory(
    backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    """The same random story, and the same random groups of questions, with every way to look for a prefix."""
    for name, value in ({"NEAR_HEAD": 20} | limits).items():
        monkeypatch.setattr(demand, name, value)
    for module in (demand, query_demand, snapshot):
        monkeypatch.setattr(module, "FIRST_FETCH", 3)
    random = Random(5)
    stores: list[EtcdStore | MemoryStore] = [await backend.open(), MemoryStore()]
    names = [f"{a}/{b}" for a in "abc" for b in range(9)] + ["a", "d", "a/b/c/d", "a/b/e", "a0", "a-/b"]
    for _ in range(12):
        group = [
            Write(name, None if random.random() < 0.3 else bytes([0x58, size]) + bytes(size))
            for name, size in ((random.choice(names), random.randrange(24, 200)) for _ in range(random.randrange(9)))
        ]
        heads = [(await store.publish(group)).position.revision for store in stores]
        assert heads[0] == heads[1]
        if random.random() < 0.2:
            floors = [await store.compact(tombstones=heads[0] - 20, keys=0) for store in stores]
            assert floors[0] == floors[1]

    def question() -> Query:
        prefixes = random.sample(["a/", "b/", "c/", ALL, "none/", "a/b/", "a/b/c/"], random.randrange(4))
        return Query(
            topics={name: random.randrange(4) for name in random.sample(names, random.randrange(9))},
            prefixes={prefix: random.choice([0, random.randrange(heads[0] + 1)]) for prefix in prefixes},
            limit=random.choice([1, 2, 7, 100]),
            limit_bytes=random.choice([1, 300, 100_000]),
        )

    for _ in range(20):
        queries = [question() for _ in range(random.choice([1, 2, 12]))]
        while queries:
            answers = [await store.read(queries) for store in stores]
            for query, found, wanted in zip(queries, *answers, strict=True):
                assert without_lineage(found) == without_lineage(wanted), query
            found_pages = zip(queries, answers[0], strict=True)
            queries = [next_query(query, page) for query, page in found_pages if isinstance(page, Page) and page.more]
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize("names_max", [0, 5, 10_000])
@pytest.mark.parametrize("limit_cost", [1, 2, 7, 40])
async def test_pages_that_end_by_their_cost_add_up(
    backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch, names_max: int, limit_cost: int
) -> None:
    """Also where most of what is looked at is not wanted: tombstones, and topics of other prefixes."""
    monkeypatch.setattr(demand, "PREFIX_TOPICS_MAX", names_max)
    monkeypatch.setattr(demand, "NEAR_HEAD", 3)
    monkeypatch.setattr(demand, "FIRST_FETCH", 2)
    names = [f"{first}/{number}" for number in range(30) for first in "ab"] + ["c/1"]
    store = await filled(backend, names)
    await store.publish([Write(name, None) for name in names[5:40]])
    head = await store.head()
    living = [name for name in names if name not in names[5:40]]
    for prefixes in (["b/"], ["a/", "c/"], [ALL], ["c/", "none/"]):
        query = Query(prefixes=dict.fromkeys(prefixes, 0), limit_cost=limit_cost)
        pages = await all_records(store, query)
        found = [record.topic for page in pages for record in page.records if not record.deleted]
        assert found == [name for name in living if name.startswith(tuple(p.removeprefix(ALL) for p in prefixes))]
        assert len(pages) <= head.revision
        if limit_cost > 2:
            assert max(page.cost for page in pages) <= limit_cost + 2 * demand.ROUND_RECORDS_MAX
    await store.aclose()


async def test_a_group_is_answered_as_far_as_a_call_may_cost(backend: EtcdBackend) -> None:
    """The first is always answered, and the others when they are asked for again."""
    store = await filled(backend, [f"t/{number}" for number in range(50)])
    group = [Query(topics={f"t/{number + at}": 0 for number in range(40)}, limit_cost=60) for at in range(4)]
    for answered in range(len(group)):
        (page,) = await pages_of(store, group[answered:])
        assert [record.topic for record in page.records] == list(group[answered].topics)
    assert await store.read([]) == []
    await store.aclose()


async def test_more_topics_than_one_request_takes(backend: EtcdBackend) -> None:
    store = await backend.open()
    topics = [f"t/{number}" for number in range(700)]
    await store.publish([Write(topic, b"\x01") for topic in topics])
    page = await read_page(store, Query(topics=dict.fromkeys(topics, 0)))
    assert [record.topic for record in page.records] == topics
    later = await read_page(store, replace(Query(topics=dict.fromkeys(topics, 0)), after=page.records[400].version))
    assert [record.topic for record in later.records] == topics[401:]
    lineages = await store.lineage_at(range(300))
    assert lineages[1:] == [(await store.head()).lineage] * 299
    await store.aclose()
