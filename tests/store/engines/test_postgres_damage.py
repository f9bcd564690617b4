"""Damaged rows in PostgreSQL: that topic alone cannot be read, all others are served, and nothing raises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import psycopg
import pytest
import trio

from softstate.errors import Conflict, KeyReused, StoreRefused, Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL, check_topic
from softstate.position import Position
from softstate.store.base import EXISTS, Applied, Number, Write
from softstate.store.postgres.store import PostgresStore
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put
from softstate.wire import encode_value
from tests.store.engines.outage_rig import following, node_on
from tests.store.engines.postgres_rig import DATABASE, PostgresBackend, PostgresServer, running_server

SCHEMAS = count()

TOPICS, DAMAGED = 420, 200

FREED = "ALTER TABLE SCHEMA.topic ALTER COLUMN checksum DROP NOT NULL, ALTER COLUMN topic DROP NOT NULL"
"""So that rows can be damaged in ways that constraints would forbid."""

DAMAGES = (
    "value = '\\xffff'",
    "value = ''",
    "value = NULL",
    "value = substring(value FOR octet_length(value) - 1)",
    "value = value || '\\x00'",
    "value = '\\xd8236128'",
    "value = '\\x7b2261223a317d'",
    "value = decode(repeat('81', 20000) || '01', 'hex')",
    "value = set_byte(value, 1, (get_byte(value, 1) + 1) % 256)",
    "value = (SELECT value FROM SCHEMA.topic AS other WHERE other.topic = 'whole')",
    "checksum = ''",
    "checksum = NULL",
    "checksum = set_byte(checksum, 3, (get_byte(checksum, 3) + 1) % 256)",
    "checksum = checksum || '\\x00'",
    "version = -version",
    "version = version + 1000000",
    "version = version + 100000, value = NULL",
    "version = 0 - version - 500000, checksum = NULL",
    "topic = topic || '/renamed'",
    "topic = 'elsewhere/' || topic, value = NULL",
    "topic = topic || '//'",
    "topic = '/' || topic",
    "topic = topic || chr(7)",
    "topic = repeat(topic, 50)",
    "topic = NULL",
)
"""All that SQL can do to a row; each is done to several topics."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture
async def backend(server: PostgresServer) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(server, f"damage_{next(SCHEMAS)}")
    yield backend
    await backend.close_stores()


def tell(backend: PostgresBackend, statement: str) -> Sequence[tuple[Any, ...]]:
    return backend.server.execute(statement.replace("SCHEMA", backend.schema), database=DATABASE)


def name(number: int) -> str:
    return f"t/{number:04}"


async def filled(backend: PostgresBackend) -> PostgresStore:
    """Fill a store: every seventh topic is deleted."""
    store = await backend.open()
    for first in range(0, TOPICS, 60):
        await store.publish([Write(name(n), encode_value(f"value {n}")) for n in range(first, first + 60)])
    await store.publish([Write(name(n), None) for n in range(0, TOPICS, 7)])
    await put(store, "whole", encode_value("whole"))
    return store


def damage(backend: PostgresBackend, random: Random) -> set[str]:
    """Damage rows of both kinds, each in its own way; return the topics that these rows were of."""
    tell(backend, FREED)
    chosen = random.sample(range(TOPICS), DAMAGED)
    for place, number in enumerate(chosen):
        how = DAMAGES[place % len(DAMAGES)]
        if number % 7 == 0 and how.startswith("value = "):
            # A tombstone has no value to be spoilt but by getting one.
            how = "value = '\\x01'"
        if number % 7 == 0 and "value = NULL" in how:
            how = "checksum = ''"
        assert tell(backend, f"UPDATE SCHEMA.topic SET {how} WHERE topic = '{name(number)}' RETURNING 1") == [(1,)]
    return {name(number) for number in chosen}


async def listed(store: PostgresStore, prefix: str, since: int = 0) -> dict[str, Record]:
    """List a prefix, page by page: later pages have tombstones, too."""
    found: dict[str, Record] = {}
    query = Query(prefixes={prefix: since}, limit=37)
    while True:
        (page,) = await store.read([query])
        assert isinstance(page, Page)
        assert not page.restart
        for record in page.records:
            found.pop(record.topic, None)
            if not record.deleted:
                found[record.topic] = record
        if not page.more:
            return found
        listed_at = query.listed or page.position.revision
        query = Query(prefixes={prefix: since}, after=page.next_after, listed=listed_at, limit=37)


class Damage:
    """A store with damaged rows: its readable topics, its tombstones, and the topics that rows were damaged of."""

    def __init__(self, backend: PostgresBackend, whole: dict[str, Record]) -> None:
        self.backend = backend
        self.whole = whole
        self.dead = {name(number) for number in range(0, TOPICS, 7)}
        self.damaged: set[str] = set()

    @property
    def right(self) -> set[Record]:
        """The records of topics that were not damaged."""
        return {record for topic, record in self.whole.items() if topic not in self.damaged}

    @property
    def present(self) -> set[str]:
        """The damaged topics that have their rows still; those of others have got another name."""
        rows = tell(self.backend, "SELECT topic FROM SCHEMA.topic")
        return self.damaged & {topic for (topic,) in rows}


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_damaged_rows(backend: PostgresBackend, seed: int) -> None:
    store = await filled(backend)
    case = Damage(backend, await listed(store, ALL))
    assert len(case.whole) == TOPICS - len(case.dead) + 1
    before = await store.head()
    case.damaged = damage(backend, Random(seed))
    for opened in (store, await backend.open()):
        await lists_serve_the_rest(opened, case)
        await reads_serve_the_rest(opened, case)
    found = await store.audit()
    assert sum("is unreadable: publish it without expect" in sentence for sentence in found) >= len(case.present)
    assert [sentence for sentence in found if "rows of topic have a name that is no topic" in sentence]
    await others_are_published_and_followed(store, case, before)
    await damage_is_healed(store, case)


async def lists_serve_the_rest(store: PostgresStore, case: Damage) -> None:
    """Nothing that is damaged has a value, or passes for deleted."""
    for prefix in (ALL, "t/"):
        found = await listed(store, prefix)
        assert {record for record in found.values() if not record.unreadable} == {
            record for record in case.right if prefix == ALL or record.topic.startswith(prefix)
        }
        unreadable = {topic for topic, record in found.items() if record.unreadable}
        assert unreadable >= case.present
        assert not unreadable & (case.whole.keys() | case.dead) - case.damaged
        assert all(check_topic(topic) for topic in found)
        assert all(record.cbor is None for record in found.values() if record.unreadable)
    assert (await listed(store, ALL, since=max(record.version for record in case.right) - 1)).keys() == {"whole"}


async def reads_serve_the_rest(store: PostgresStore, case: Damage) -> None:
    present = case.present
    for topic in sorted(case.whole.keys() | case.dead):
        (page,) = await store.read([Query(topics={topic: 0})])
        assert isinstance(page, Page)
        if topic in present:
            assert [(record.topic, record.unreadable) for record in page.records] == [(topic, True)]
        else:
            assert page.records == ([case.whole[topic]] if topic in case.whole.keys() - case.damaged else [])
    (page,) = await store.read([Query(topics=dict.fromkeys(case.whole, 0), limit=10_000)])
    assert isinstance(page, Page)
    assert {record for record in page.records if not record.unreadable} == case.right
    head = await store.head()
    (page,) = await store.read([Query(topics=dict.fromkeys(present, head.revision))])
    assert isinstance(page, Page), "a version in a damaged row is no evidence of another history"


async def others_are_published_and_followed(store: PostgresStore, case: Damage, before: Position) -> None:
    with trio.fail_after(20):
        await store.wait(0)
    feed = await store.feed(before.at(before.revision - 1))
    assert [record.topic for record in feed.records] == ["whole"]
    case.whole["new"] = Record("new", await put(store, "new"), b"\x01")
    await case.backend.send("sent", "1")
    case.whole["sent"] = Record("sent", await put(store, "new") - 1, b"\x01")
    case.whole["new"] = Record("new", case.whole["sent"].version + 1, b"\x01")
    records = [record for page in [page async for page in pages(store, limit=50)] for record in page.records]
    assert {record for record in records if not record.unreadable and not record.deleted} == case.right
    assert {record.topic for record in records if record.deleted} == case.dead - case.damaged
    info = await store.info()
    assert info.topics + info.tombstones == TOPICS + 3
    await store.compact(tombstones=10**9, keys=10**9)
    found = await listed(store, ALL)
    assert {record for record in found.values() if not record.unreadable} == case.right
    assert {topic for topic, record in found.items() if record.unreadable} >= case.present


async def damage_is_healed(store: PostgresStore, case: Damage) -> None:
    """A publish without a condition replaces the row; one with a version or without existence loses."""
    for topic in sorted(case.present):
        group = [Write(topic, b"\x01", expect=0), Write(topic, None, expect=5), Write(topic, b"\x01", expect=10**6)]
        verdicts = (await store.publish(group)).verdicts
        assert [type(verdict) for verdict in verdicts] == [Conflict] * 3
        assert {verdict.current for verdict in verdicts if isinstance(verdict, Conflict)} == {None}
    for place, topic in enumerate(sorted(case.damaged)):
        expect = EXISTS if topic in case.present and place % 2 else None
        (verdict,) = (await store.publish([Write(topic, encode_value(place), expect=expect)])).verdicts
        assert isinstance(verdict, Applied)
        case.whole[topic] = Record(topic, verdict.version, encode_value(place))
    found = await listed(store, ALL)
    assert {record for record in found.values() if not record.unreadable} == set(case.whole.values())


async def test_a_damaged_topic_can_be_deleted_and_published_from_sql(backend: PostgresBackend) -> None:
    store = await backend.open()
    for topic in ("a", "b", "c", "d"):
        await put(store, topic)
    tell(backend, "UPDATE SCHEMA.topic SET value = NULL")
    with pytest.raises(psycopg.DatabaseError, match="topic a was damaged and cannot be read: publish it without"):
        backend.call("publish_now", "a", "1", 0)
    backend.call("publish_now", "a", "1")
    backend.call("delete_now", "b")
    await backend.send("c", "2")
    await backend.send("d", None)
    await put(store, "e")
    found = {record.topic: record.cbor for record in (await store.feed(await first(store))).records}
    assert found == {"a": b"\x01", "b": None, "c": b"\x02", "d": None, "e": b"\x01"}


async def first(store: PostgresStore) -> Position:
    """Return the position of the first lineage row."""
    head = await store.head()
    (lineage,) = await store.lineage_at([1])
    assert lineage is not None
    return Position(head.epoch, lineage, 1)


async def test_clients_of_a_node_get_all_that_is_whole(backend: PostgresBackend) -> None:
    """By push, list and GET, while the damage is there and after it was healed."""
    store = await backend.open()
    for number in range(6):
        await put(store, f"a/{number}")
    tell(backend, "UPDATE SCHEMA.topic SET value = '\\xffff' WHERE topic = 'a/2'")
    tell(backend, "UPDATE SCHEMA.topic SET version = version + 1000 WHERE topic = 'a/3'")
    async with node_on(backend.url) as served:
        for number in range(6):
            reply = await served.ask("GET", f"/v1/topics/a/{number}")
            assert (reply.status == 200) == (number not in (2, 3)), "never a value that was not published there"
        assert (await served.ask("GET", "/v1/topics")).status == 200
        for number in (2, 3):
            assert (await served.put(f"a/{number}", "healed")).status == 200
        async with following(served.url, "/") as follower:
            await follower.shows({f"a/{number}": "healed" if number in (2, 3) else 1 for number in range(6)})


# Other rows ----------------------------------------------------------------------------------------------------------

META = ("epoch = 'other'", "revision = revision - 1", "floor = 2", "keys = 5", "publishers = 3", "incarnation = 'x'",
        "checksum = ''", "layout = 2, revision = 0")  # fmt: skip


@pytest.mark.parametrize("how", META)
async def test_damaged_meta(backend: PostgresBackend, how: str) -> None:
    """Nothing can be told from a store whose own row is damaged, and nothing may be written to it."""
    store = await backend.open()
    await put(store, "a")
    tell(backend, f"UPDATE SCHEMA.meta SET {how}")
    rows = tell(backend, "TABLE SCHEMA.meta")
    for call in (store.head, lambda: put(store, "b"), lambda: store.compact(tombstones=9, keys=9), store.info):
        with pytest.raises(Unavailable, match="row of meta is damaged: stop every node, and restore a backup"):
            await call()
    for refused in (backend.open, store.reopen):
        with pytest.raises(StoreRefused, match="row of meta is damaged: stop every node, and restore a backup"):
            await refused()
    with pytest.raises(psycopg.DatabaseError, match="row of meta is damaged or missing"):
        backend.call("publish_now", "a", "1")
    assert tell(backend, "TABLE SCHEMA.meta") == rows


@pytest.mark.parametrize("how", ["nonce = 'other'", "start = start + 1", "checksum = ''", "start = 10000"])
async def test_damaged_lineage(backend: PostgresBackend, how: str) -> None:
    """The newest row is asked for by every call; any row is looked at when the store is opened."""
    store = await backend.open()
    await put(store, "a")
    await store.reopen()
    await put(store, "b")
    tell(backend, f"UPDATE SCHEMA.lineage SET {how} WHERE start = 1")
    with pytest.raises(StoreRefused, match="table lineage is damaged: stop every node, and restore a backup"):
        await backend.open()
    if how != "start = 10000":
        with pytest.raises(Unavailable, match="table lineage is damaged: stop every node, and restore a backup"):
            await store.lineage_at([2])


async def test_a_damaged_row_of_a_key_or_publisher_counts_as_absent(backend: PostgresBackend) -> None:
    store = await backend.open()
    numbered = Write("a", b"\x01", number=Number("p", 1, 0), digest=b"1" * 16)
    keyed = Write("b", b"\x01", key="k", digest=b"1" * 16)
    (first_numbered, first_keyed) = (await store.publish([numbered, keyed])).verdicts
    assert isinstance(first_numbered, Applied)
    assert isinstance(first_keyed, Applied)
    tell(backend, "UPDATE SCHEMA.publisher SET uses = uses || uses, settled = 7")
    tell(backend, "UPDATE SCHEMA.idempotency SET version = version + 1000")
    found = await store.audit()
    assert [sentence.partition(" are ")[0] for sentence in found] == ["1 rows of idempotency", "1 rows of publisher"]
    head = await store.head()
    assert [(page.keys, page.publishers) for page in [await store.dump(0)]] == [([], [])]
    again = (await store.publish([numbered, keyed])).verdicts
    assert again == [Applied(head.revision + 1), Applied(head.revision + 2)]
    assert (await store.publish([numbered, keyed])).verdicts == [
        Applied(head.revision + 1, repeated=True), Applied(head.revision + 2, repeated=True),
    ]  # fmt: skip
    reused = (await store.publish([Write("a", b"\x02", number=Number("p", 1, 0), digest=b"2" * 16)])).verdicts
    assert [type(verdict) for verdict in reused] == [KeyReused]
    tell(backend, "UPDATE SCHEMA.publisher SET touched = touched + 10000")
    await store.compact(tombstones=0, keys=1)
    assert tell(backend, "SELECT count(*) FROM SCHEMA.publisher") == [(0,)], "a damaged row does not stay"
