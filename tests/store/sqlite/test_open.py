"""Opening an SQLite file: creation, and refusing what is not ours without touching it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import cast

import pytest
import trio

import softstate
from softstate.errors import StoreRefused, Unavailable
from softstate.store.base import LAYOUT, Write
from softstate.store.sqlite import schema as sqlite_schema
from softstate.store.sqlite.schema import APPLICATION_ID
from softstate.store.sqlite.store import SqliteStore

OPENER = """
import sys, trio
from softstate.store import open_store

async def main():
    sys.stdin.readline()
    store = await open_store("sqlite:" + sys.argv[1])
    head = await store.head()
    print(head.epoch)
    await store.aclose()

print("ready", flush=True)
trio.run(main)
"""


def run_sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def unwritable(folder: Path) -> Path:
    if os.geteuid() == 0:
        return Path("/proc")  # not even root creates files there
    folder.chmod(0o500)
    return folder


def foreign(path: Path) -> str:
    run_sql(path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    return "another application"


def foreign_by_id(path: Path) -> str:
    run_sql(path, "PRAGMA application_id = 77")
    return "another application"


def foreign_by_version(path: Path) -> str:
    run_sql(path, "PRAGMA user_version = 3")
    return "another application"


def newer(path: Path) -> str:
    run_sql(path, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {LAYOUT + 1}")
    return "install the softstate that wrote it"


def text(path: Path) -> str:
    path.write_text("not a database, but long enough to be taken for a header\n" * 40)
    return "not an SQLite database"


@pytest.mark.parametrize("make", [foreign, foreign_by_id, foreign_by_version, newer, text])
async def test_what_is_not_ours_is_refused_and_left_untouched(make: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    complaint = make(path)
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match=complaint):
        await SqliteStore.open(str(path))
    assert path.read_bytes() == before
    assert entries(tmp_path) == ["softstate.db"]


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="it is a directory"):
        await SqliteStore.open(str(tmp_path))


@pytest.mark.parametrize("where", ["missing/softstate.db", "file/softstate.db"])
async def test_a_path_that_cannot_be_is_refused(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreRefused, match="name a file in a directory that can be written to"):
        await SqliteStore.open(str(tmp_path / where))


async def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="cannot open"):
        await SqliteStore.open(str(unwritable(tmp_path) / "softstate.db"))


async def test_a_passing_reason_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files make SQLite say the same as a missing directory."""

    def no_descriptor(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", no_descriptor)
        with pytest.raises(Unavailable, match="unable to open"):
            await SqliteStore.open(str(tmp_path / "softstate.db"))
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    await store.aclose()


async def test_a_locked_file_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    await (await SqliteStore.open(str(path))).aclose()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process has held its lock"):
            await SqliteStore.open(str(path), busy_s=0.0)
        other.execute("ROLLBACK")
    await (await SqliteStore.open(str(path), busy_s=0.0)).aclose()


async def test_a_fresh_store_is_marked_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path), random=Random(1))
    writer = store._engine.file.connection("writer")
    pragmas = ("application_id", "user_version", "journal_mode", "synchronous")
    found = [writer.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    assert found == [APPLICATION_ID, LAYOUT, b"wal", 2]
    reader = store._engine.file.connection("reader")
    assert reader.execute("PRAGMA query_only").fetchone() == (1,)
    await store.aclose()
    assert entries(tmp_path) == ["softstate.db"], "closing folds the log into the file"


@pytest.mark.parametrize("what", ["empty file", "empty database in WAL mode"])
async def test_what_a_crash_while_creating_leaves_is_taken_over(what: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    if what == "empty file":
        path.write_bytes(b"")
    else:
        run_sql(path, "PRAGMA journal_mode = WAL", "CREATE TABLE x (y)", "DROP TABLE x")
    store = await SqliteStore.open(str(path))
    assert (await store.head()).revision == 1
    await store.aclose()


async def test_creation_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    class Dry(Random):
        def getrandbits(self, bits: int) -> int:
            raise RuntimeError("no randomness left")

    path = tmp_path / "softstate.db"
    with pytest.raises(RuntimeError, match="no randomness left"):
        await SqliteStore.open(str(path), random=Dry())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert connection.execute("PRAGMA application_id").fetchone() == (0,)
    store = await SqliteStore.open(str(path))
    assert (await store.head()).revision == 1
    await store.aclose()


class Scripted:
    """A connection that answers `PRAGMA journal_mode` as told: "busy" with the error, else with that mode."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def execute(self, _: str) -> Scripted:
        if self.answers[0] == "busy":
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            del self.answers[0]
            raise error
        return self

    def fetchone(self) -> tuple[bytes]:
        return (self.answers[0].encode(),)


def turn_on_wal(connection: Scripted, busy_s: float) -> None:
    sqlite_schema._turn_on_wal(cast("sqlite3.Connection", connection), "softstate.db", busy_s)


def test_turning_on_the_log_is_tried_again_while_others_do_it() -> None:
    turn_on_wal(Scripted("busy", "busy", "wal"), 60.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        turn_on_wal(Scripted("busy", "wal"), 0.0)


def test_a_file_system_without_shared_memory_is_refused() -> None:
    with pytest.raises(StoreRefused, match=r"journal mode stays 'delete'.*name a file on a local disk"):
        turn_on_wal(Scripted("delete"), 0.0)


async def test_tables_of_others_are_tolerated_beside_ours(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    await (await SqliteStore.open(str(path))).aclose()
    run_sql(path, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
    store = await SqliteStore.open(str(path))
    assert (await store.publish([Write("a", b"\x01")])).position.revision == 3
    await store.aclose()


async def test_processes_creating_it_together_share_it(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    environment = {**os.environ, "PYTHONPATH": str(Path(softstate.__file__).parents[1])}
    command = [sys.executable, "-c", OPENER, str(path)]
    processes = [
        await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        said = b""
        while not said.endswith(b"ready\n"):
            said += await process.stdout.receive_some(10)
    for process in processes:
        assert process.stdin is not None
        await process.stdin.send_all(b"go\n")
        await process.stdin.aclose()
    epochs = set()
    for process in processes:
        assert process.stdout is not None
        async with process.stdout:
            epochs.add(b"".join([chunk async for chunk in process.stdout]))
        assert await process.wait() == 0
    store = await SqliteStore.open(str(path))
    head = await store.head()
    assert epochs == {f"{head.epoch}\n".encode()}
    assert head.revision == 4, "each of the three, and this one, has its lineage row"
    await store.aclose()


async def test_a_new_file_is_a_store_without_its_log(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    shutil.copy(tmp_path / "softstate.db", tmp_path / "copy.db")
    await store.aclose()
    copy = await SqliteStore.open(str(tmp_path / "copy.db"), create=False)
    assert (await copy.head()).revision == 2
    await copy.aclose()
