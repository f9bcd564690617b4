"""The SQLite store does as the memory store does, by whichever road it takes to the rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from softstate.errors import RequestError, SoftstateError
from softstate.model import Query
from softstate.names import ALL
from softstate.store.base import Store, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.store.rules import prefix_scan
from softstate.store.sqlite import compaction as sqlite_compaction
from softstate.store.sqlite.store import SqliteStore

TOPICS = ["a", "a/a", "a/b", "a/b/c", "a0", "b/a", "b/é", "c"]
PREFIXES = [ALL, "a/", "a/b/", "b/", "x/"]
STEPS = 120


async def outcome(store: Store, step: tuple[str, Any]) -> object:
    """Do one thing to a store, and return what came of it in a form that can be compared."""
    what, argument = step
    try:
        match what:
            case "publish":
                done = await store.publish(argument)
                return [*map(plain, done.verdicts), done.before, list(done.records), done.position]
            case "read":
                return [plain(page) for page in await store.read(argument)]
            case "compact":
                return await store.compact(tombstones=argument, keys=argument)
            case "feed":
                feed = await store.feed(*argument)
                return [list(feed.records), list(feed.lineages), feed.upto, feed.more]
            case "lineage_at":
                return list(await store.lineage_at(argument))
            case "info":
                return replace(await store.info(), size_bytes=0)
            case _:
                return await store.reopen()
    except SoftstateError as error:
        return plain(error)


def plain(found: object) -> object:
    if isinstance(found, RequestError):
        return type(found), str(found), found.current, found.position
    if isinstance(found, SoftstateError):
        return type(found), str(found)
    return found


def random_step(random: Random, positions: list[Any], floor: int) -> tuple[str, Any]:
    head = positions[-1].revision

    def revision() -> int:
        return random.choice([0, random.randint(0, head), head, head + 1]) if random.random() < 0.5 else 0

    def publish() -> Write:
        return Write(
            random.choice(TOPICS),
            random.choice([None, random.randbytes(random.randint(0, 40))]),
            expect=random.choice([None, None, 0, revision()]),
            witness=random.choice([None, None, random.choice(positions)]),
            key=random.choice([None, "k", "l"]),
            digest=random.choice([b"d", b"e"]),
        )

    def query() -> Query:
        topics = {topic: revision() for topic in random.sample(TOPICS, random.randint(0, 3))}
        prefixes = {prefix: revision() for prefix in random.sample(PREFIXES, random.randint(0, 3))}
        later = random.random() < 0.4
        return Query(
            topics,
            prefixes,
            random.choice([None, random.choice(positions)]),
            after=random.randint(1, head) if later else 0,
            listed=random.randint(1, head) if later and random.random() < 0.6 else None,
            limit=random.randint(1, 6),
            limit_bytes=random.choice([1, 40, 1000]),
        )

    kind = random.choices(
        ["publish", "read", "feed", "compact", "lineage_at", "info", "reopen"], [40, 40, 10, 4, 2, 2, 2]
    )[0]
    argument: Any = None
    match kind:
        case "publish":
            argument = [publish() for _ in range(random.randint(0, 4))]
        case "read":
            argument = [query() for _ in range(random.randint(1, 3))]
        case "feed":
            argument = (random.choice(positions), random.randint(1, 5))
        case "compact":
            argument = random.randint(0, head)
        case "lineage_at":
            argument = range(floor, head + 2)
    return kind, argument


@pytest.mark.parametrize("road", ["by name", "by version", "mixed"])
@pytest.mark.parametrize("seed", range(4))
async def test_agrees_with_the_memory_store(
    seed: int, road: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near_head, small_max, listed_max, rows = {
        "by name": (-1, 1000, 1000, 64), "by version": (10**9, 1000, 1000, 64), "mixed": (3, 1, 3, 2)
    }[road]  # fmt: skip
    monkeypatch.setattr(prefix_scan, "NEAR_HEAD", near_head)
    monkeypatch.setattr(prefix_scan, "SMALL_TOPICS_MAX", small_max)
    monkeypatch.setattr(prefix_scan, "LISTED_TOPICS_MAX", listed_max)
    monkeypatch.setattr(prefix_scan, "LOG_ROWS_MIN", rows)
    monkeypatch.setattr(prefix_scan, "SPARSE_ROWS", rows)
    monkeypatch.setattr(sqlite_compaction, "COMPACT_ROWS", 2)
    random = Random(seed)
    memory = MemoryStore(MemoryDisk(Random(seed)), keys_max=6)
    sqlite = await SqliteStore.open(str(tmp_path / "softstate.db"), keys_max=6, random=Random(seed))
    positions, floor = [await memory.head()], 0
    for number in range(STEPS):
        step = random_step(random, positions, floor)
        found = await outcome(sqlite, step)
        assert found == await outcome(memory, step), (number, step)
        if isinstance(found, int):
            # Lineage rows below the floor may be forgotten, but for the one in force there.
            floor = found
            positions = [position for position in positions if position.revision >= floor]
        positions.append(await memory.head())
        assert await sqlite.head() == positions[-1]
    await sqlite.aclose()


@pytest.mark.parametrize(("tombstones", "keys"), [(5, 0), (0, 5), (5, 5)])
async def test_compacting_takes_several_transactions(
    tombstones: int, keys: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_compaction, "COMPACT_ROWS", 2)
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    for cbor in (b"\x01", None):
        await store.publish([Write(f"t/{number}", cbor) for number in range(tombstones)])
    await store.publish([Write("a", b"\x01", key=str(number)) for number in range(keys)])
    await store.publish([Write("b", b"\x01"), Write("b", None, key="kept")])
    commits: list[int] = []
    compact = store._engine.compact

    def counted(tombstones: int, keys: int, after: int) -> tuple[int, int | None]:
        commits.append(1)
        return compact(tombstones, keys, after)

    monkeypatch.setattr(store._engine, "compact", counted)
    last = (await store.head()).revision - 1
    assert await store.compact(tombstones=last, keys=last) == (2 * tombstones + 1 if tombstones else 0)
    assert len(commits) == 3
    info = await store.info()
    assert (info.tombstones, info.keys) == (1, 1)
    assert info.size_bytes >= (tmp_path / "softstate.db").stat().st_size
    await store.aclose()


@pytest.mark.parametrize(
    ("sql", "plan"),
    [
        (
            "SELECT version FROM record WHERE topic >= 'a/' AND topic < 'a0' AND +version > 1 LIMIT 9",
            "SEARCH record USING COVERING INDEX record_topic (topic>? AND topic<?)",
        ),
        (
            "SELECT value FROM record WHERE version > 1 AND version <= 9 AND +topic >= 'a' ORDER BY version",
            "SEARCH record USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        ),
        (
            "SELECT checksum FROM record WHERE value IS NULL AND version > 1 AND version <= 5 ORDER BY version LIMIT 2",
            "record_tombstone (version>? AND version<?)",
        ),
        ("SELECT count(*) FROM record WHERE value IS NULL", "record_tombstone"),
        ("SELECT uses FROM publisher WHERE touched > 5 ORDER BY touched", "publisher_touched (touched>?)"),
    ],
)
async def test_sqlite_takes_the_index_that_is_meant(sql: str, plan: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    await (await SqliteStore.open(str(path))).aclose()
    with closing(sqlite3.connect(path)) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert len(steps) == 1, "no sorting"
    assert plan in steps[0]
