"""A file that November's code wrote is carried over as it stands; a process that still has it open does no harm."""

from __future__ import annotations

import gzip
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

import softstate
from softstate.errors import StoreRefused, Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import LAYOUT, Applied, Write
from softstate.store.sqlite import migration as sqlite_migration
from softstate.store.sqlite.copies import put_in_place
from softstate.store.sqlite.store import SqliteStore
from softstate.wire import encode_value

WRITTEN = Path(__file__).with_name("november.db.gz")
"""Written by the code of commit 502e1a6: seven values with keys, a deletion that was forgotten and one that was not, a
compare-and-set, three openings."""

EPOCH = "864e9bce8834ec5bc1b56e652bac9e63"
ROWS = {1: "efc277c44fd98c73", 12: "900c3276538dd3dc", 14: "3e17dd0a27ab7583"}
HEAD, FLOOR = 15, 11
VALUES: dict[str, tuple[int, Any]] = {
    "orders/42": (2, {"state": "paid", "lines": [1, 2.5, None, True]}),
    "orders/é": (3, "ü"),
    "bytes": (4, b"\x00\xff"),
    "prices/eur": (6, -(2**63)),
    "deep": (7, [[[[[[]]]]]]),
    "text": (8, "x" * 5000),
    "last": (15, "one"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "softstate.db"
    path.write_bytes(gzip.decompress(WRITTEN.read_bytes()))
    path.chmod(0o644)
    return path


def run_sql(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def listed(store: SqliteStore) -> Sequence[Record]:
    (page,) = await store.read([Query(prefixes={ALL: 0}, limit=1000)])
    assert isinstance(page, Page)
    return page.records


async def test_everything_is_carried_over(path: Path) -> None:
    store = await SqliteStore.open(str(path))
    assert (await store.head()).epoch == EPOCH
    assert await store.lineage_at([1, 11, 12, 13, 14, HEAD]) == [ROWS[at] for at in (1, 1, 12, 12, 14, 14)]
    assert (await store.head()).revision == HEAD + 1, "this opening has its own lineage row"
    found = {record.topic: (record.version, record.cbor) for record in await listed(store)}
    # "zero" was written by compare-and-set where its version did not match, so it keeps its first value.
    wanted = {topic: (version, encode_value(value)) for topic, (version, value) in VALUES.items()}
    assert found == wanted | {"zero": (5, b"\x00")}
    info = await store.info()
    assert (info.topics, info.tombstones, info.keys, info.publishers, info.layout) == (8, 1, 8, 0, LAYOUT)
    assert (await store.dump(0)).floor == FLOOR
    assert await store.audit() == []
    client = Position(EPOCH, ROWS[12], 13)
    (page,) = await store.read([Query(prefixes={ALL: 13}, witness=client)])
    assert isinstance(page, Page), "a client of the old node is at home"
    assert [record.topic for record in page.records] == ["last"]
    again = await store.publish([Write("deep", b"\x01", key="k-deep", digest=bytes([5]) * 16)])
    assert list(again.verdicts) == [Applied(7, repeated=True)]
    await store.aclose()
    store = await SqliteStore.open(str(path), create=False)
    assert len(await listed(store)) == 8
    await store.aclose()


async def test_a_copy_is_made_before_and_all_is_private_after(path: Path) -> None:
    queries = [f"SELECT * FROM {table}" for table in ("topic", "lineage", "idempotency", "meta")]
    before = [run_sql(path, query) for query in queries]
    store = await SqliteStore.open(str(path))
    names = ["softstate.db", "softstate.db-wal", "softstate.db-shm", "softstate.db.layout-1"]
    assert modes(path.parent) == dict.fromkeys(names, 0o600)
    await store.aclose()
    copy = path.with_name("softstate.db.layout-1")
    assert run_sql(copy, "PRAGMA user_version") == [(1,)]
    assert [run_sql(copy, query) for query in queries] == before
    store = await SqliteStore.open(str(copy))
    assert len(await listed(store)) == 8, "put back, it is carried over again"
    await store.aclose()


async def test_an_earlier_copy_is_not_overwritten(path: Path) -> None:
    (path.parent / "softstate.db.layout-1").write_text("precious")
    (path.parent / "softstate.db.layout-1.2").symlink_to("nowhere")
    store = await SqliteStore.open(str(path))
    assert "softstate.db.layout-1.3 holds it as it was" in store.cautions[0]
    await store.aclose()
    assert (path.parent / "softstate.db.layout-1").read_text() == "precious"
    assert run_sql(path.parent / "softstate.db.layout-1.3", "PRAGMA user_version") == [(1,)]


async def test_no_copy_is_made_when_none_is_wanted(path: Path) -> None:
    store = await SqliteStore.open(str(path), backup=False)
    await store.aclose()
    assert list(modes(path.parent)) == ["softstate.db"]


async def test_it_is_not_carried_over_by_who_only_reads(path: Path) -> None:
    before = run_sql(path, "SELECT name, sql FROM sqlite_master")
    with pytest.raises(
        StoreRefused, match=r"has layout 1, of an earlier softstate: .* softstate store migrate sqlite:"
    ):
        await SqliteStore.open(str(path), read_only=True)
    assert run_sql(path, "SELECT name, sql FROM sqlite_master") == before


@pytest.mark.parametrize("fault", ["no place for the copy", "it fails half way"])
async def test_if_it_fails_the_file_is_as_it_was(fault: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = "SELECT name, sql FROM sqlite_master"
    before = run_sql(path, tables), run_sql(path, "SELECT * FROM topic")
    if fault == "no place for the copy":

        def no_place(*_: object) -> NoReturn:
            raise OSError("no place")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", no_place)
            with pytest.raises(Unavailable, match=r"cannot put .*softstate.db.layout-1 in place: no place"):
                await SqliteStore.open(str(path))
        assert not (path.parent / "softstate.db.layout-1").exists()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_migration, "write_state", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await SqliteStore.open(str(path))
    assert (run_sql(path, tables), run_sql(path, "SELECT * FROM topic")) == before
    assert list(modes(path.parent)) == ["softstate.db"]
    store = await SqliteStore.open(str(path))
    assert len(await listed(store)) == 8
    await store.aclose()


async def test_a_file_that_cannot_be_carried_over_leaves_no_copy_at_each_try(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full, each copy would make it fuller."""
    run_sql(path, *(f"INSERT INTO topic VALUES ({100 + n}, 'z/{n}', zeroblob(200))" for n in range(300)))
    carry_over = sqlite_migration._carry_over

    def without_room(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 5}")
        carry_over(connection)

    monkeypatch.setattr(sqlite_migration, "_carry_over", without_room)
    for _ in range(3):
        with pytest.raises(Unavailable, match="full"):
            await SqliteStore.open(str(path))
        assert list(modes(path.parent)) == ["softstate.db"]


async def test_a_copy_that_was_named_goes_with_the_commit_that_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(partial: str, target: str) -> NoReturn:
        put_in_place(partial, target)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite_migration, "put_in_place", full)
    with pytest.raises(Unavailable, match="is full"):
        await SqliteStore.open(str(path))
    assert list(modes(path.parent)) == ["softstate.db"]


@pytest.mark.parametrize("stage", ["put_in_place", "_carry_over", "copy_file"])
async def test_processes_that_are_killed_leave_one_copy_at_most(stage: str, path: Path) -> None:
    """As where a supervisor's patience ends before a large file is carried over: it begins at each start."""
    code = (
        "import os, signal, sys\n"
        "from softstate.store.sqlite import migration\n"
        "from softstate.store.sqlite.engine import SqliteEngine\n"
        f"before = migration.{stage}\n"
        "def killed(*arguments):\n"
        f"    if {stage!r} == 'copy_file': before(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"migration.{stage} = killed\n"
        "SqliteEngine(sys.argv[1]).open()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(softstate.__file__).parents[1])}
    for _ in range(2):
        process = await trio.run_process([sys.executable, "-c", code, str(path)], check=False, env=environment)
        assert process.returncode == -signal.SIGKILL
        copies = [name for name in modes(path.parent) if ".layout-1" in name]
        assert copies == ["softstate.db.layout-1.partial"]
    store = await SqliteStore.open(str(path))
    assert len(await listed(store)) == 8
    await store.aclose()
    assert sorted(modes(path.parent)) == ["softstate.db", "softstate.db.layout-1"]
    assert run_sql(path.with_name("softstate.db.layout-1"), "PRAGMA user_version") == [(1,)]


async def test_several_that_open_it_together_carry_it_over_once(path: Path) -> None:
    stores: list[SqliteStore] = []

    async def open_it() -> None:
        stores.append(await SqliteStore.open(str(path)))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(open_it)
    for store in stores:
        assert len(await listed(store)) == 8
        await store.aclose()
    assert run_sql(path, "SELECT lineages FROM state") == [(len(ROWS) + 4,)]


async def test_values_that_were_never_published_become_unreadable_and_stop_nothing(path: Path) -> None:
    run_sql(
        path,
        "UPDATE topic SET value = x'ffff' WHERE topic = 'deep'",
        "UPDATE topic SET value = 'text' WHERE topic = 'text'",
        "UPDATE topic SET value = x'd8236128' WHERE topic = 'orders/42'",
        "INSERT INTO topic VALUES (9, 'nested', CAST(replace(hex(zeroblob(3000)), '00', char(129)) AS BLOB))",
        "INSERT INTO topic VALUES (10, 'nan', x'f97e00')",
        "INSERT INTO topic VALUES (11, 'a//b', x'01')",
        "INSERT INTO topic VALUES (12, x'61', x'01')",
        "INSERT INTO topic VALUES (-3, 'early', x'01')",
        "INSERT INTO topic VALUES (9007199254740999, 'late', x'01')",
        "UPDATE idempotency SET digest = 5 WHERE key = 'k-deep'",
        "UPDATE idempotency SET key = CAST(x'ff' AS TEXT) WHERE key = 'k-text'",
    )
    store = await SqliteStore.open(str(path))
    assert (await store.head()).revision == HEAD + 1
    records = await listed(store)
    readable = {record.topic for record in records if not record.unreadable}
    assert readable == {"orders/é", "bytes", "prices/eur", "zero", "last"}
    unreadable = {"deep", "text", "orders/42", "nested", "nan", "early", "late"}
    assert {record.topic for record in records if record.unreadable} == unreadable
    assert (await store.info()).keys == 6
    faults = await store.audit()
    assert len(faults) == len(unreadable) + 1
    assert any(fault.startswith("2 records have lost their names") for fault in faults)
    await store.publish([Write(topic, b"\x01") for topic in unreadable])
    assert not any(record.unreadable for record in await listed(store))
    await store.aclose()


@pytest.mark.parametrize("version", [HEAD + 2, HEAD + 1, 0, -5])
async def test_a_key_at_a_version_that_no_commit_had_stands_in_the_way_of_none(version: int, path: Path) -> None:
    run_sql(path, f"UPDATE idempotency SET version = {version} WHERE key = 'k-deep'")
    store = await SqliteStore.open(str(path))
    assert (await store.info()).keys == 7
    for number, revision in enumerate((HEAD + 2, HEAD + 3)):
        done = await store.publish([Write("new", b"\x01", key=f"k{number}", digest=bytes(16))])
        assert list(done.verdicts) == [Applied(revision)]
    again = await store.publish([Write("deep", b"\x01", key="k-deep", digest=bytes([5]) * 16)])
    assert list(again.verdicts) == [Applied(HEAD + 4)], "it was forgotten, as any damaged key"
    await store.aclose()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE meta SET floor = 'x'",
        "UPDATE meta SET epoch = x''",
        "DELETE FROM meta",
        "DELETE FROM lineage",
        "UPDATE lineage SET nonce = x'00'",
        "UPDATE lineage SET start = -start",
        "DROP TABLE lineage",
    ],
)
async def test_a_file_without_its_history_is_refused_and_left_alone(damage: str, path: Path) -> None:
    run_sql(path, damage)
    topics = run_sql(path, "SELECT * FROM topic")
    with pytest.raises(StoreRefused, match="it is damaged: stop every node, move it away, and restore a backup"):
        await SqliteStore.open(str(path))
    assert run_sql(path, "SELECT * FROM topic") == topics


async def test_an_old_process_that_has_it_open_fails_and_writes_nothing(path: Path) -> None:
    """The statements are those of the earlier release, prepared before and run after."""
    statements = (
        "INSERT INTO topic (version, topic, value) VALUES (99, 't', x'01') ON CONFLICT (topic) DO NOTHING",
        "INSERT INTO lineage VALUES (99, 'x')",
        "INSERT INTO idempotency (version, topic, key, digest) VALUES (99, 't', 'k', x'01')",
        "UPDATE meta SET keys = keys + 1",
        "SELECT epoch, floor FROM meta",
        "DELETE FROM topic WHERE value IS NULL AND version <= 99",
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("BEGIN IMMEDIATE")
        for statement in statements:
            old.execute(statement)
        old.execute("ROLLBACK")
        store = await SqliteStore.open(str(path))
        for statement in statements:
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                old.execute(statement)
        assert old.execute("PRAGMA user_version").fetchone() == (LAYOUT,), "opened again, it finds a layout too new"
        assert await store.audit() == []
        await store.aclose()


async def test_it_waits_for_a_write_of_an_old_process(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process has held its lock"):
            await SqliteStore.open(str(path), busy_s=0.0)
        old.execute("INSERT INTO topic VALUES (16, 'new', x'01')")
        old.execute("COMMIT")
    store = await SqliteStore.open(str(path))
    assert len(await listed(store)) == 9
    await store.aclose()


@pytest.mark.parametrize("number", [LAYOUT + 1, 7, 0, -1])
async def test_a_layout_of_another_release_under_an_open_store_is_not_written_to(number: int, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    head = (await store.publish([Write("a", b"\x01")])).position
    run_sql(path, f"PRAGMA user_version = {number}")
    rows = run_sql(path, "SELECT * FROM record")
    for call in (lambda: store.publish([Write("a", b"\x02")]), lambda: store.compact(tombstones=9, keys=9)):
        with pytest.raises(Unavailable, match=f"its layout has changed to {number}: stop this node, and install the"):
            await call()
    assert run_sql(path, "SELECT * FROM record") == rows
    assert await store.head() == head, "it can still be read"
    with pytest.raises(StoreRefused, match=f"has layout {number}, this softstate knows {LAYOUT}"):
        await store.reopen()
    await store.aclose()
