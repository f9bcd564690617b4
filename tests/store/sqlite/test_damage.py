"""Rows that a disk, a person with SQL or another program has damaged: their topics are refused, nothing else is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from softstate.errors import Conflict, StoreRefused, Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.store.base import EXISTS, Applied, Number, Write
from softstate.store.rules.checksum import checksum, row_checksum
from softstate.store.rules.dump import pages
from softstate.store.sqlite import compaction as sqlite_compaction
from softstate.store.sqlite.schema import _SCHEMA
from softstate.store.sqlite.state import seal
from softstate.store.sqlite.store import SqliteStore

TOPICS = [f"t/{number}" for number in range(70)]
STORES, DAMAGES = 10, 20
"""So many stores, and in each so many rows are damaged, each in a way of its own: 200 together."""

WHOLE = Query(limit=1000, limit_bytes=2**30)

Damage = Callable[[sqlite3.Connection, str], object]


def sql(statement: str) -> Damage:
    """Return what runs a statement with one parameter, the topic."""
    return lambda connection, topic: connection.execute(statement, (topic,))


def without_name(connection: sqlite3.Connection, topic: str) -> None:
    """Set a name to NULL, which the table forbids."""
    for schema, change in (
        (
            _SCHEMA["record"].replace("topic TEXT NOT NULL", "topic TEXT"),
            "UPDATE record SET topic = NULL WHERE topic = ?",
        ),
        (_SCHEMA["record"], "SELECT ?"),
    ):
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'record'", (schema,))
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute(change, (topic,))


UNREADABLE: dict[str, Damage] = {
    "another value": sql("UPDATE record SET value = x'02' WHERE topic = ?"),
    "the value of another topic": sql(
        "UPDATE record SET (value, checksum) = (SELECT value, checksum FROM record WHERE topic = 't/69')"
        " WHERE topic = ?"
    ),
    "truncated": sql("UPDATE record SET value = substr(value, 1, length(value) - 1) WHERE topic = ?"),
    "longer": sql("UPDATE record SET value = CAST(value || x'00' AS BLOB) WHERE topic = ?"),
    "no value": sql("UPDATE record SET value = NULL WHERE topic = ?"),
    "an empty value": sql("UPDATE record SET value = x'' WHERE topic = ?"),
    "text": sql("UPDATE record SET value = 'text' WHERE topic = ?"),
    "the same value as text": sql("UPDATE record SET value = CAST(value AS TEXT) WHERE topic = ?"),
    "text that is no UTF-8": sql("UPDATE record SET value = CAST(x'ff80' AS TEXT) WHERE topic = ?"),
    "an integer": sql("UPDATE record SET value = 5 WHERE topic = ?"),
    "a float": sql("UPDATE record SET value = 1e400 WHERE topic = ?"),
    "ffff": sql("UPDATE record SET value = x'ffff' WHERE topic = ?"),
    "tag 35": sql("UPDATE record SET value = x'd8236128' WHERE topic = ?"),
    "deep": sql("UPDATE record SET value = CAST(replace(hex(zeroblob(3000)), '00', char(1)) AS BLOB) WHERE topic = ?"),
    "long": sql("UPDATE record SET value = zeroblob(70000) WHERE topic = ?"),
    "another checksum": sql("UPDATE record SET checksum = ~checksum WHERE topic = ?"),
    "no checksum": sql("UPDATE record SET checksum = NULL WHERE topic = ?"),
    "a checksum of bytes": sql("UPDATE record SET checksum = x'0102' WHERE topic = ?"),
    "a checksum of text": sql("UPDATE record SET checksum = 'sum' WHERE topic = ?"),
    "a float as checksum": sql("UPDATE record SET checksum = 1.5 WHERE topic = ?"),
    "a version below all": sql("UPDATE record SET version = -version WHERE topic = ?"),
    "a version above all": sql("UPDATE record SET version = version + 1000000 WHERE topic = ?"),
    "the next version": sql("UPDATE record SET version = (SELECT head + 1 FROM state) WHERE topic = ?"),
    "the highest integer": sql("UPDATE record SET version = 9223372036854775807 WHERE topic = ?"),
    "the lowest integer": sql("UPDATE record SET version = -9223372036854775808 WHERE topic = ?"),
    "an older version": sql("UPDATE record SET version = 1 WHERE topic = ?"),
}
VANISHED: dict[str, Damage] = {
    "no name": without_name,
    "a name of bytes": sql("UPDATE record SET topic = x'61' WHERE topic = ?"),
    "a name that is no UTF-8": sql("UPDATE record SET topic = CAST(x'61ff' AS TEXT) WHERE topic = ?"),
    "a name that is none": sql("UPDATE record SET topic = 'a//b' WHERE topic = ?"),
    "an empty name": sql("UPDATE record SET topic = '' WHERE topic = ?"),
    "a name with a zero": sql("UPDATE record SET topic = CAST(x'742f363900' AS TEXT) WHERE topic = ?"),
    "no row": sql("DELETE FROM record WHERE topic = ?"),
}
"""Damage after which no row has the topic's name."""


def run(path: Path, *damages: tuple[Damage, str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for damage, topic in damages:
            damage(connection, topic)


async def filled(path: Path) -> tuple[SqliteStore, dict[str, Record]]:
    """Fill a store, and return it with its records by topic."""
    store = await SqliteStore.open(str(path))
    values = [b"\x18" + bytes([number % 200]) + bytes(number % 7) for number in range(len(TOPICS))]
    done = await store.publish([Write(topic, value) for topic, value in zip(TOPICS, values, strict=True)])
    return store, {record.topic: record for record in done.records}


async def page_of(store: SqliteStore, query: Query) -> Sequence[Record]:
    (page,) = await store.read([query])
    assert isinstance(page, Page)
    assert not page.more
    return page.records


def told(records: Sequence[Record]) -> tuple[set[Record], set[str]]:
    """Return the records that can be read, and the topics of the others."""
    assert all(record.cbor is None and not record.deleted for record in records if record.unreadable)
    readable = {record for record in records if not record.unreadable}
    unreadable = {record.topic for record in records if record.unreadable}
    assert {record.topic for record in readable} & unreadable == set()
    return readable, unreadable


@pytest.mark.parametrize("seed", range(STORES))
async def test_damaged_rows_are_refused_alone(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    path = tmp_path / "softstate.db"
    store, records = await filled(path)
    chosen = random.sample(TOPICS[:-1], DAMAGES)
    ways = random.sample([*UNREADABLE.items(), *VANISHED.items()], DAMAGES)
    run(path, *[(damage, topic) for topic, (_, damage) in zip(chosen, ways, strict=True)])
    damaged = {topic: way for topic, (way, _) in zip(chosen, ways, strict=True)}
    refused = {topic for topic, way in damaged.items() if way in UNREADABLE}
    # A row at the next version is in no one's way: the commit that gets that version moves it aside.
    head = await store.head()
    await store.publish([Write("u/0", b"\x01"), Write("u/1", b"\x01")])
    intact = {record for topic, record in records.items() if topic not in damaged}

    for reopened in (False, True):
        if reopened:
            await store.aclose()
            store = await SqliteStore.open(str(path))
        assert told(await page_of(store, replace(WHOLE, prefixes={"t/": 0}))) == (intact, refused)
        assert told([r for r in await page_of(store, replace(WHOLE, prefixes={ALL: 0})) if r.topic[0] == "t"]) == (
            intact,
            refused,
        )
        assert told(await page_of(store, replace(WHOLE, topics=dict.fromkeys(TOPICS, 0)))) == (intact, refused)
        held = {topic: record.version for topic, record in records.items() if topic in refused}
        later = told(await page_of(store, replace(WHOLE, topics=held)))
        assert later[0] == set()
        assert later[1] <= refused
        for topic in random.sample(TOPICS, 10):
            wanted = ({records[topic]}, set()) if records[topic] in intact else (set(), {topic} & refused)
            assert told(await page_of(store, replace(WHOLE, topics={topic: 0}))) == wanted, damaged.get(topic)
        copied = [record async for page in pages(store) for record in page.records if record.topic[0] == "t"]
        assert told(copied) == (intact, refused)
        assert {record.topic for record in (await store.feed(head)).records} == {"u/0", "u/1"}

    faults = await store.audit()
    for topic in refused:
        assert f"the record of {topic!r} is unreadable: publish it without expect, or restore a backup" in faults
    for topic in refused:
        await conflicts(store, topic)
    verdicts = (await store.publish([Write(topic, b"\x09") for topic in chosen])).verdicts
    assert all(isinstance(verdict, Applied) for verdict in verdicts), "any publish without expect heals"
    readable, unreadable = told(await page_of(store, replace(WHOLE, prefixes={"t/": 0})))
    assert {record.topic for record in readable} == set(TOPICS)
    assert unreadable == set()
    await store.aclose()


async def conflicts(store: SqliteStore, topic: str) -> None:
    """Check that the topic counts as existing, at a version that no one knows."""
    group = [Write(topic, b"\x01", expect=0), Write(topic, b"\x01", expect=2), Write(topic, None, expect=2)]
    for verdict in (await store.publish(group)).verdicts:
        assert isinstance(verdict, Conflict)
        assert verdict.current is None


@pytest.mark.parametrize("way", UNREADABLE)
@pytest.mark.parametrize("heals", ["publish", "delete", "if it exists"])
async def test_a_damaged_row_is_replaced_by_the_next_publish(way: str, heals: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    run(path, (UNREADABLE[way], "t/5"))
    cbor = None if heals == "delete" else b"\x07"
    write = Write("t/5", cbor, expect=EXISTS if heals == "if it exists" else None)
    done = await store.publish([write])
    assert list(done.records) == [Record("t/5", done.position.revision, cbor)]
    (page,) = await store.read([Query(topics={"t/5": 1})])
    assert isinstance(page, Page)
    assert page.records == done.records
    faults = await store.audit()
    assert not any("unreadable" in fault or "vanished" in fault for fault in faults)
    await store.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_damage_while_pages_are_taken(seed: int, tmp_path: Path) -> None:
    """In small pages, whichever road they take, a page after the first brings neither a stop nor a topic twice."""
    random = Random(seed)
    path = tmp_path / "softstate.db"
    store, records = await filled(path)
    ways = random.sample(sorted(UNREADABLE), 8)
    chosen = random.sample(TOPICS[:-1], 8)
    run(path, *[(UNREADABLE[way], topic) for way, topic in zip(ways, chosen, strict=True)])
    for query in (Query(prefixes={"t/": 0}, limit=3), Query(topics=dict.fromkeys(TOPICS, 0), limit=3)):
        found: list[Record] = []
        more, listed = True, None
        while more:
            (page,) = await store.read([replace(query, after=found[-1].version if found else 0, listed=listed)])
            assert isinstance(page, Page)
            found += page.records
            more, listed = page.more, listed or page.position.revision
        assert told(found) == ({r for topic, r in records.items() if topic not in chosen}, set(chosen))
        assert len(found) == len(TOPICS)
    await store.aclose()


@pytest.mark.parametrize("name", [b"s/\xff1", b"s/31"], ids=["no text", "text"])
async def test_a_name_out_of_order_in_the_index_is_none_that_was_asked_for(name: bytes, tmp_path: Path) -> None:
    """Damage to the file: beside the entry of the topic asked for stands one that sorts before it, of no such name.

    SQLite's loop over an index takes it for one more match.
    """
    path = tmp_path / "softstate.db"
    store, records = await filled(path)
    await store.aclose()
    topics = {topic: records[topic].version for topic in ("t/21", "t/22")}
    # An entry: the bytes of its header, the types of its two fields, the name, and the version in one byte.
    damaged = bytes([3, 12 + 2 * len(b"t/22") + 1, 1]) + b"t/22" + bytes([topics["t/22"]])
    data = path.read_bytes()
    assert data.count(damaged) == 1
    path.write_bytes(data.replace(damaged, damaged[:3] + name + damaged[7:]))
    store = await SqliteStore.open(str(path))
    found = await page_of(store, replace(WHOLE, topics=dict.fromkeys(topics, 0)))
    assert [record for record in found if not record.unreadable] == [records["t/21"]]
    done = await store.publish([Write(topic, b"\x01", expect=topics["t/21"]) for topic in ("t/21", "t/30")])
    assert isinstance(done.verdicts[0], Applied)
    assert isinstance(done.verdicts[1], Conflict)
    await store.aclose()


# Rows that look like tombstones --------------------------------------------------------------------------------------


async def test_a_value_that_is_lost_is_no_deletion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose value was set to NULL is not swept, not forgotten by compaction, and does not hold that up."""
    monkeypatch.setattr(sqlite_compaction, "COMPACT_ROWS", 2)
    path = tmp_path / "softstate.db"
    store, records = await filled(path)
    run(path, *[(UNREADABLE["no value"], topic) for topic in TOPICS[:5]])
    deleted = (await store.publish([Write(topic, None) for topic in TOPICS[5:9]])).position.revision
    assert await store.compact(tombstones=deleted, keys=0) == deleted
    assert (await store.info()).tombstones == 5, "the deletions are forgotten, the damaged rows stay"
    held = {topic: records[topic].version for topic in TOPICS[:9]}
    readable, unreadable = told(await page_of(store, replace(WHOLE, prefixes={ALL: 0})))
    assert {record.topic for record in readable} == set(TOPICS[9:])
    assert unreadable == set(TOPICS[:5])
    gone = await page_of(store, replace(WHOLE, topics=held))
    assert {record.topic for record in gone if record.deleted} == set(TOPICS[5:9])
    await store.aclose()


# Other rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE used_key SET digest = x'00'",
        "UPDATE used_key SET digest = 'text'",
        "UPDATE used_key SET version = version + 500",
        "UPDATE used_key SET version = (SELECT head + 1 FROM state)",
        "UPDATE used_key SET checksum = NULL",
        "UPDATE used_key SET key = CAST(x'ff' AS TEXT)",
        "UPDATE publisher SET uses = x'00'",
        "UPDATE publisher SET uses = 5",
        "UPDATE publisher SET settled = 'x'",
        "UPDATE publisher SET touched = 1.5",
        "UPDATE publisher SET checksum = 'x'",
        "UPDATE publisher SET publisher = x'ff'",
    ],
)
async def test_what_is_remembered_of_a_request_counts_as_forgotten(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    keyed = Write("a", b"\x01", key="k", digest=b"d" * 16)
    numbered = Write("b", b"\x01", number=Number("p", 1, 0), digest=b"d" * 16)
    first = await store.publish([keyed, numbered])
    repeated = await store.publish([keyed, numbered])
    assert [verdict.repeated for verdict in repeated.verdicts if isinstance(verdict, Applied)] == [True, True]
    run(path, (lambda connection, _: connection.execute(damage), ""))
    again = await store.publish([keyed, numbered])
    forgotten = "used_key" in damage
    assert [verdict.repeated for verdict in again.verdicts if isinstance(verdict, Applied)] == [
        not forgotten,
        forgotten,
    ]
    assert again.position.revision == first.position.revision + 1
    last = await store.publish([keyed, numbered])
    assert [verdict.repeated for verdict in last.verdicts if isinstance(verdict, Applied)] == [True, True]
    assert [page async for page in pages(store)]
    await store.compact(tombstones=9, keys=9)
    await store.aclose()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE state SET head = head + 5",
        "UPDATE state SET head = 'x'",
        "UPDATE state SET floor = NULL",
        "UPDATE state SET epoch = x'ff'",
        "UPDATE state SET epoch = CAST(x'ff' AS TEXT)",
        "UPDATE state SET lineage = 'x'",
        "UPDATE state SET total = 9223372036854775807",
        "UPDATE state SET records = 1.5",
        "UPDATE state SET checksum = NULL",
        "DELETE FROM state",
        "UPDATE history SET nonce = 'x'",
        "UPDATE history SET nonce = 5",
        "UPDATE history SET checksum = x'00'",
        "UPDATE history SET start = start + 1",
        "DELETE FROM history",
        "DELETE FROM history WHERE start = 1",
    ],
)
async def test_damage_beside_topics_is_told_with_what_to_do(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    await store.reopen()
    head = await store.head()
    run(path, (lambda connection, _: connection.execute(damage), ""))
    if "state" in damage:
        for call in (store.head, lambda: store.publish([Write("a", b"\x01")]), store.info):
            with pytest.raises(Unavailable, match="it is damaged: stop every node, and restore a backup"):
                await call()
    else:
        with pytest.raises(Unavailable, match="it is damaged") if "DELETE" not in damage else closing_nothing():
            await store.lineage_at(range(1, head.revision))
    assert await store.audit()
    await store.aclose()
    for read_only in (False, True):
        with pytest.raises(StoreRefused, match="it is damaged: stop every node, move it away, and restore a backup"):
            await SqliteStore.open(str(path), read_only=read_only)


class closing_nothing:  # noqa: N801 - a context manager
    """Do nothing: a row that is gone shows at the next opening, and resets clients until then."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE record",
        "DROP TABLE used_key",
        "ALTER TABLE record RENAME COLUMN value TO walue",
        "DROP INDEX record_topic",
    ],
)
async def test_tables_that_are_not_ours_are_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    run(path, (lambda connection, _: connection.execute(damage), ""))
    if "record" in damage:
        with pytest.raises(Unavailable, match="damaged"):
            await store.publish([Write("a", b"\x01")])
    await store.aclose()
    with pytest.raises(StoreRefused, match="the definition of its tables is not ours: it is damaged"):
        await SqliteStore.open(str(path))


# Found by the check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM record WHERE version % 10 = 5", "7 records have vanished, of 70"),
        ("UPDATE record SET topic = 'a//b' WHERE version = 9", "1 records have lost their names"),
        ("UPDATE record SET version = -1 WHERE version = 9", "the record of 't/7' is unreadable"),
        ("INSERT INTO record VALUES (1, 'new', 0, x'00')", "1 records are there that no publish left"),
        ("UPDATE used_key SET digest = x'07'", "1 idempotency keys are damaged"),
        ("UPDATE publisher SET settled = 7", "1 publishers are damaged"),
    ],
)
async def test_the_audit_finds_it(damage: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    await store.publish([Write("t/0", b"\x01", key="k", digest=b"d", number=Number("p", 1, 0))])
    assert await store.audit() == []
    run(path, (lambda connection, _: connection.execute(damage), ""))
    assert any(found.startswith(fault) for found in await store.audit())
    await store.aclose()


async def test_the_audit_finds_an_older_row_in_place_of_a_newer(tmp_path: Path) -> None:
    """Each by itself is intact."""
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        older = connection.execute("SELECT * FROM record WHERE topic = 't/3'").fetchone()
        await store.publish([Write("t/3", b"\x05")])
        connection.execute(
            "UPDATE record SET (version, topic, checksum, value) = (?, ?, ?, ?) WHERE topic = 't/3'", older
        )
        connection.commit()
    (fault,) = await store.audit()
    assert fault.startswith("the sum of all checksums is not the one that publishes left")
    await store.aclose()


@pytest.mark.parametrize("seed", range(4))
async def test_count_and_sum_are_kept_by_every_write(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    for number in range(40):
        group = [
            Write(
                f"t/{random.randrange(12)}",
                random.choice([None, random.randbytes(4)]),
                expect=random.choice([None, None, 0]),
                number=random.choice([None, Number(f"p{random.randrange(3)}", number + 1, number)]),
            )
            for _ in range(random.randrange(1, 9))
        ]
        done = await store.publish(group)
        if random.random() < 0.2:
            await store.compact(tombstones=done.position.revision - 3, keys=done.position.revision - 9)
        if random.random() < 0.1:
            await store.reopen()
    assert await store.audit() == []
    copy = await SqliteStore.open(str(tmp_path / "copy.db"))
    await copy.adopt(pages(store), replace=True)
    assert await copy.audit() == []
    await store.aclose()
    await copy.aclose()


@pytest.mark.parametrize("cbor", [None, b"", b"\x01", bytes(70_000)])
@pytest.mark.parametrize("topic", ["a", "é/ü", "x" * 255])
def test_checksums_are_those_of_the_rules(topic: str, cbor: bytes | None) -> None:
    """The engine computes them by hand, for speed."""
    for version in (1, 2**31, 2**53 - 1):
        assert seal(topic, version, cbor).to_bytes(8, "big", signed=True) == checksum(topic, version, cbor)


async def test_the_checksum_of_the_state_is_that_of_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store, _ = await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        _, *fields, stored = connection.execute("SELECT * FROM state").fetchone()
    assert stored.to_bytes(8, "big", signed=True) == row_checksum(*fields)
    await store.aclose()
