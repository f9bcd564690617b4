"""Damaged rows in PostgreSQL: that topic alone cannot be read, all others are served, and nothing raises."""

from __future__ import annotations

from random import Random

import psycopg
import pytest
import trio

from softstate.errors import KeyReused, StoreRefused, Unavailable
from softstate.model import Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Number, Write
from softstate.store.postgres.store import PostgresStore
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put, read_page
from softstate.wire import encode_value
from tests.store.engines.damage_check import Damaged, check_others_are_served, check_publishing_heals, everything
from tests.store.engines.outage_rig import following, node_on
from tests.store.engines.postgres_rig import PostgresBackend

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
    backend.tell(FREED)
    chosen = random.sample(range(TOPICS), DAMAGED)
    for place, number in enumerate(chosen):
        how = DAMAGES[place % len(DAMAGES)]
        if number % 7 == 0 and how.startswith("value = "):
            # A tombstone has no value to be spoilt but by getting one.
            how = "value = '\\x01'"
        if number % 7 == 0 and "value = NULL" in how:
            how = "checksum = ''"
        assert backend.tell(f"UPDATE SCHEMA.topic SET {how} WHERE topic = '{name(number)}' RETURNING 1") == [(1,)]
    return {name(number) for number in chosen}


class Damage(Damaged):
    """A store with damaged rows: a damaged topic has vanished if its row has got another name."""

    def __init__(self, backend: PostgresBackend, written: dict[str, Record], topics: set[str]) -> None:
        names = {name for (name,) in backend.tell("SELECT topic FROM SCHEMA.topic")}
        super().__init__(written, topics, topics - names)
        self.backend = backend

    @property
    def right(self) -> set[Record]:
        """The records of topics that were not damaged, without tombstones."""
        return {self.written[topic] for topic in self.healthy if not self.written[topic].deleted}

    @property
    def dead(self) -> set[str]:
        """The topics of tombstones that were not damaged."""
        return {topic for topic in self.healthy if self.written[topic].deleted}


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_damaged_rows(backend: PostgresBackend, seed: int) -> None:
    store = await filled(backend)
    written = {record.topic: record async for page in pages(store) for record in page.records}
    assert len(written) == TOPICS + 1
    before = await store.head()
    case = Damage(backend, written, damage(backend, Random(seed)))
    for opened in (store, await backend.open()):
        await check_others_are_served(opened, case, ["t/"])
        await lists_serve_the_rest(opened, case)
    found = await store.audit()
    assert sum("is unreadable: publish it without expect" in sentence for sentence in found) >= len(case.present)
    assert [sentence for sentence in found if "rows of topic have a name that is no topic" in sentence]
    await others_are_published_and_followed(store, case, before)
    await check_publishing_heals(store, case)


async def lists_serve_the_rest(store: PostgresStore, case: Damage) -> None:
    """Lists from later revisions, and one of all topics by name."""
    late = max(record.version for record in case.right) - 1
    assert (await everything(store, Query(prefixes={ALL: late}, limit=37))).keys() == {"whole"}
    page = await read_page(store, Query(topics=dict.fromkeys(case.written, 0), limit=10_000))
    assert {record for record in page.records if not record.unreadable} == case.right


async def others_are_published_and_followed(store: PostgresStore, case: Damage, before: Position) -> None:
    with trio.fail_after(20):
        await store.wait(0)
    feed = await store.feed(before.at(before.revision - 1))
    assert [record.topic for record in feed.records] == ["whole"]
    case.written["new"] = Record("new", await put(store, "new"), b"\x01")
    await case.backend.send("sent", "1")
    case.written["sent"] = Record("sent", await put(store, "new") - 1, b"\x01")
    case.written["new"] = Record("new", case.written["sent"].version + 1, b"\x01")
    records = [record for page in [page async for page in pages(store, limit=50)] for record in page.records]
    assert {record for record in records if not record.unreadable and not record.deleted} == case.right
    assert {record.topic for record in records if record.deleted} == case.dead
    info = await store.info()
    assert info.topics + info.tombstones == TOPICS + 3
    await store.compact(tombstones=10**9, keys=10**9)
    case.check(await everything(store, Query(prefixes={ALL: 0}, limit=37)))


async def test_a_damaged_topic_can_be_deleted_and_published_from_sql(backend: PostgresBackend) -> None:
    store = await backend.open()
    for topic in ("a", "b", "c", "d"):
        await put(store, topic)
    backend.tell("UPDATE SCHEMA.topic SET value = NULL")
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
    backend.tell("UPDATE SCHEMA.topic SET value = '\\xffff' WHERE topic = 'a/2'")
    backend.tell("UPDATE SCHEMA.topic SET version = version + 1000 WHERE topic = 'a/3'")
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
    backend.tell(f"UPDATE SCHEMA.meta SET {how}")
    rows = backend.tell("TABLE SCHEMA.meta")
    for call in (store.head, lambda: put(store, "b"), lambda: store.compact(tombstones=9, keys=9), store.info):
        with pytest.raises(Unavailable, match="row of meta is damaged: stop every node, and restore a backup"):
            await call()
    for refused in (backend.open, store.reopen):
        with pytest.raises(StoreRefused, match="row of meta is damaged: stop every node, and restore a backup"):
            await refused()
    with pytest.raises(psycopg.DatabaseError, match="row of meta is damaged or missing"):
        backend.call("publish_now", "a", "1")
    assert backend.tell("TABLE SCHEMA.meta") == rows


@pytest.mark.parametrize("how", ["nonce = 'other'", "start = start + 1", "checksum = ''", "start = 10000"])
async def test_damaged_lineage(backend: PostgresBackend, how: str) -> None:
    """The newest row is asked for by every call; any row is looked at when the store is opened."""
    store = await backend.open()
    await put(store, "a")
    await store.reopen()
    await put(store, "b")
    backend.tell(f"UPDATE SCHEMA.lineage SET {how} WHERE start = 1")
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
    backend.tell("UPDATE SCHEMA.publisher SET uses = uses || uses, settled = 7")
    backend.tell("UPDATE SCHEMA.idempotency SET version = version + 1000")
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
    backend.tell("UPDATE SCHEMA.publisher SET touched = touched + 10000")
    await store.compact(tombstones=0, keys=1)
    assert backend.tell("SELECT count(*) FROM SCHEMA.publisher") == [(0,)], "a damaged row does not stay"
