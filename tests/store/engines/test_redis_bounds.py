"""Bounds: what one call of the library does at most, and numbers at the edge of what Lua can count."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import trio

from softstate.model import Page, Query
from softstate.names import ALL
from softstate.position import REVISION_MAX
from softstate.store.base import Applied, Write
from softstate.store.redis.snapshot import NAMES_MAX
from softstate.store.redis.store import RedisStore
from softstate.store.rules.dump import pages
from tests.store.engines.redis_rig import RedisRig

RECORDS_MAX = 8192
"""As in lua/read.lua: how many records the pages of one group hold at most, if there are no more queries."""

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisRig]:
    rig = RedisRig(tmp_path_factory.mktemp("redis"), appendfsync="no")
    try:
        trio.run(rig.start)
        yield rig
    finally:
        trio.run(rig.aclose)


@pytest.fixture
def rig(server: RedisRig) -> RedisRig:
    server.namespace = f"bounds{next(_numbers)}"
    return server


async def fill(store: RedisStore, topics: Sequence[str], cbor: bytes = b"\x01") -> None:
    for batch in range(0, len(topics), 500):
        await store.publish([Write(topic, cbor) for topic in topics[batch : batch + 500]])


async def all_pages(store: RedisStore, query: Query) -> list[Page]:
    found: list[Page] = []
    while not found or found[-1].more:
        (page,) = await store.read([query])
        assert isinstance(page, Page)
        assert page.records or not page.more
        found.append(page)
        query = replace(query, after=page.records[-1].version if page.records else 0, listed=page.position.revision)
    return found


async def test_large_group_shares_the_bounds(rig: RedisRig) -> None:
    """512 queries that each want a full page get shorter ones, which say that there is more, and join."""
    store = await rig.open()
    topics = [f"t/{number}" for number in range(1500)]
    await fill(store, topics)
    answers = await store.read([Query(prefixes={"t/": 0})] * 512)
    sizes = [len(page.records) for page in answers if isinstance(page, Page)]
    assert len(sizes) == 512
    assert min(sizes) >= 1
    assert sum(sizes) <= RECORDS_MAX
    assert all(isinstance(page, Page) and page.more for page in answers)
    assert len({page.position for page in answers if isinstance(page, Page)}) == 1, "one snapshot"
    first = answers[0]
    assert isinstance(first, Page)
    rest = await all_pages(
        store, Query(prefixes={"t/": 0}, after=first.records[-1].version, listed=first.position.revision)
    )
    assert [record.topic for page in [first, *rest] for record in page.records] == topics
    few = await store.read([Query(prefixes={"t/": 0}), *[Query(topics={"t/1": 0})] * 7])
    assert isinstance(few[0], Page)
    assert len(few[0].records) == 1024, "who asks beside others that want little has a full page"
    await store.aclose()


async def test_group_with_very_many_names(rig: RedisRig) -> None:
    """It is answered in several calls, in order."""
    store = await rig.open()
    topics = [f"t/{number}" for number in range(100)]
    await fill(store, topics)
    group = [Query(topics=dict.fromkeys([topic, *(f"x/{n}" for n in range(NAMES_MAX // 10))], 0)) for topic in topics]
    answers = await store.read(group)
    assert [[record.topic for record in page.records] for page in answers if isinstance(page, Page)] == [
        [topic] for topic in topics
    ]
    assert list(await store.read([])) == []
    await store.aclose()


async def test_large_values_share_the_bytes(rig: RedisRig) -> None:
    store = await rig.open()
    await fill(store, [f"t/{number}" for number in range(300)], bytes(60_000))
    answers = await store.read([Query(prefixes={"t/": 0})] * 64)
    sizes = [sum(len(record.cbor or b"") for record in page.records) for page in answers if isinstance(page, Page)]
    assert sum(sizes) <= 4 * 1024 * 1024 + 64 * 60_000
    assert all(isinstance(page, Page) and page.more and page.records for page in answers)
    await store.aclose()


@pytest.mark.parametrize("limit", [1024, 100])
@pytest.mark.parametrize("by_prefix", [False, True])
async def test_many_prefixes(rig: RedisRig, limit: int, by_prefix: bool) -> None:
    """A query of many prefixes brings everything, in order, once, on full pages; however versions lie in them."""
    store = await rig.open()
    topics = [f"p{number % 700}/{number}" for number in range(2800)]
    if by_prefix:
        topics.sort()
    await fill(store, topics)
    deleted = {topic for topic in topics if topic.endswith("7")}
    await store.publish([Write(topic, None) for topic in deleted])
    prefixes = dict.fromkeys([*([ALL] if by_prefix else []), *(f"p{number}/" for number in range(1500))], 0)
    found = await all_pages(store, Query(prefixes=prefixes, limit=limit))
    versions = [record.version for page in found for record in page.records]
    assert versions == sorted(set(versions))
    assert [record.topic for page in found for record in page.records if not record.deleted] == [
        topic for topic in topics if topic not in deleted
    ]
    assert all(len(page.records) == limit for page in found[:-1])
    await store.aclose()


async def test_many_topics_in_one_query(rig: RedisRig) -> None:
    store = await rig.open()
    topics = [f"t/{number}" for number in range(9000)]
    await fill(store, topics)
    found = await all_pages(store, Query(topics=dict.fromkeys([*topics, *(f"x/{n}" for n in range(3000))], 0)))
    assert [record.topic for page in found for record in page.records] == topics
    assert max(len(page.records) for page in found) == 1024
    await store.aclose()


async def test_compacting_in_steps(rig: RedisRig) -> None:
    store = await rig.open()
    topics = [f"a/{number % 7}/{number}" for number in range(2500)]
    for batch in (topics[:1250], topics[1250:]):
        await store.publish([Write(topic, b"\x01", key="k") for topic in batch])
        await store.publish([Write(topic, None) for topic in batch])
    head = await store.head()
    assert await store.compact(tombstones=head.revision, keys=head.revision) == head.revision
    info = await store.info()
    assert (info.topics, info.tombstones, info.keys) == (0, 0, 0)
    await store.aclose()


async def test_compaction_leaves_no_keys_behind(rig: RedisRig) -> None:
    """Indexes of prefixes go with the last topic below them."""
    store = await rig.open()
    await store.publish([Write("a/b/c", b"\x01", key="k"), Write("a/b/c", None)])
    await store.compact(tombstones=9, keys=9)
    keys = sorted(line for line in (await rig.ask("KEYS", f"{{{rig.namespace}}}:*")).splitlines() if b"}" in line)
    assert [key.rpartition(b":")[2] for key in keys] == [b"lineage", b"meta"]
    await store.aclose()


async def test_revisions_are_exact_to_the_end(rig: RedisRig) -> None:
    """Beyond 10^14, where Lua writes numbers with an exponent, and up to 2^53 - 1."""
    store = await rig.open()
    for near in (10**15 - 3, REVISION_MAX - 12):
        await rig.move_head(near)
        row = await store.reopen()
        assert row.revision == near + 1
        done = await store.publish([Write("a/b", bytes([n]), key=str(n), digest=b"d") for n in range(4)])
        assert list(done.verdicts) == [Applied(near + 2 + n) for n in range(4)]
        again = await store.publish([Write("a/b", b"\x03", key="3", digest=b"d"), Write("c", b"\x01")])
        assert list(again.verdicts) == [Applied(near + 5, repeated=True), Applied(near + 6)]
        (page,) = await store.read([Query(topics={"a/b": near + 4, "c": near}, prefixes={"a/": near + 4})])
        assert isinstance(page, Page)
        assert [(record.topic, record.version) for record in page.records] == [("a/b", near + 5), ("c", near + 6)]
        feed = await store.feed(row, limit=1)
        assert (feed.upto.revision, feed.more) == (near + 5, True)
        dump = [page async for page in pages(store, limit=1)]
        assert dump[-1].records[-1].version == near + 6
        assert list(await store.lineage_at([near + 1, near + 6, near + 7])) == [row.lineage, row.lineage, None]
        await store.compact(tombstones=near + 6, keys=near + 5)
    await store.aclose()
