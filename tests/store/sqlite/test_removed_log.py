"""Several processes share a file whose log is removed: no acknowledged commit is lost, and the file stays sound.

They are processes, for in one process SQLite keeps one index for all connections to a file.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import softstate
from softstate.errors import StoreReplaced, Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store.base import Write
from softstate.store.sqlite.engine import SqliteEngine

PEER = """
import sys
from softstate.errors import SoftstateError
from softstate.store.base import Write
from softstate.store.sqlite.engine import SqliteEngine

engine = SqliteEngine(sys.argv[1], busy_s=0.0)
reading = None
for line in sys.stdin:
    command, _, topic = line.strip().partition(" ")
    try:
        if command == "open":
            engine.open()
        elif command == "hold":
            reading = engine._reading()
            reading.__enter__()
        elif command == "free":
            reading.__exit__(None, None, None)
        elif command == "publish":
            engine.publish([Write(topic, bytes(1))], 1000, 1000)
        elif command == "reopen":
            engine.reopen()
        elif command == "audit":
            assert not engine.audit()
        elif command == "close":
            engine.close()
        print("done", flush=True)
    except SoftstateError as error:
        print(type(error).__name__, error, flush=True)
"""


class Peer:
    """Another process with the file."""

    def __init__(self, path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(softstate.__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def tell(self, command: str) -> str:
        """Have it do something, and return "done", or its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder / "softstate.db"


@pytest.fixture
def engine(path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(str(path), busy_s=0.0)
    engine.open()
    yield engine
    engine.close()


@pytest.fixture
def peer(path: Path, engine: SqliteEngine) -> Iterator[Peer]:
    """Return a peer that has the file open, too."""
    peer = Peer(path)
    assert engine.seen.revision
    assert peer.tell("open") == "done"
    yield peer
    peer.kill()


def publish(engine: SqliteEngine, *names: str) -> list[str]:
    for name in names:
        engine.publish([Write(name, bytes(1))], 1000, 1000)
    return list(names)


def fill(engine: SqliteEngine, path: Path) -> list[str]:
    """Publish so that the log has entries of which some are in the file already, and others overwrote older ones."""
    names = publish(engine, *(f"before/{number}" for number in range(60)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    return names


def remove(path: Path, endings: tuple[str, ...]) -> None:
    for ending in endings:
        Path(f"{path}{ending}").unlink()


def topics(engine: SqliteEngine) -> set[str]:
    (page,) = engine.read([Query(prefixes={ALL: 0}, limit=1000)])
    assert isinstance(page, Page)
    return {record.topic for record in page.records}


def after_closing(path: Path) -> set[str]:
    """Return what a sound file that no process has open holds."""
    engine = SqliteEngine(str(path), create=False)
    engine.open()
    try:
        assert not engine.audit()
        return topics(engine)
    finally:
        engine.close()


def after_power_cut(path: Path, folder: Path) -> set[str]:
    """Return what a copy of the files as they lie on disk holds."""
    folder.mkdir()
    for ending in ("", "-wal"):
        # By another process: if this one closes a file it loses its locks.
        subprocess.run(["cp", f"{path}{ending}", f"{folder / path.name}{ending}"], check=True)
    return after_closing(folder / path.name)


@pytest.mark.parametrize("endings", [("-wal",), ("-wal", "-shm"), ("-shm",)], ids="+".join)
@pytest.mark.parametrize("snapshot", ["newest", "older"])
def test_a_removed_log_is_saved_once_no_other_process_reads(
    endings: tuple[str, ...], snapshot: str, path: Path, engine: SqliteEngine, peer: Peer, tmp_path: Path
) -> None:
    names = fill(engine, path)
    if snapshot == "newest":
        names += publish(engine, "a", "b", "c")
    assert peer.tell("hold") == "done"
    if snapshot == "older":
        names += publish(engine, "a", "b", "c")
    remove(path, endings)
    with pytest.raises(StoreReplaced):
        publish(engine, "lost")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"could not be brought into .*: another process reads or writes"):
            engine.reopen()
        with pytest.raises(StoreReplaced):
            publish(engine, "lost")
    assert peer.tell("free") == "done"
    engine.reopen()
    names += publish(engine, *(f"after/{number}" for number in range(10)))
    assert after_power_cut(path, tmp_path / "copy") == set(names)
    assert peer.tell("publish lost").startswith("StoreReplaced")
    assert peer.tell("reopen") == "done"
    assert peer.tell("publish theirs") == "done"
    names += ["theirs", *publish(engine, "last")]
    assert topics(engine) == set(names)
    assert not engine.audit()
    assert peer.tell("audit") == "done"
    assert peer.tell("close") == "done"
    engine.close()
    assert after_closing(path) == set(names)


@pytest.mark.parametrize("endings", [("-wal",), ("-wal", "-shm"), ("-shm",)], ids="+".join)
def test_a_process_that_comes_later_begins_no_second_log(
    endings: tuple[str, ...], path: Path, engine: SqliteEngine, peer: Peer
) -> None:
    names = fill(engine, path) + publish(engine, "a")
    engine.close()
    assert peer.tell("publish theirs") == "done"
    remove(path, endings)
    for read_only in (False, True):
        newcomer = SqliteEngine(str(path), busy_s=0.0, read_only=read_only)
        with pytest.raises(Unavailable, match=r"was removed while another process has .* open"):
            newcomer.open()
    assert not Path(f"{path}{endings[0]}").exists()
    assert peer.tell("reopen") == "done"
    engine.open()
    assert topics(engine) == {*names, "theirs"}
    assert not engine.audit()


def test_a_connection_that_is_made_again_begins_no_second_log(path: Path, engine: SqliteEngine, peer: Peer) -> None:
    names = fill(engine, path) + publish(engine, "a")
    for role in ("writer", "reader", "watcher"):
        engine.file._drop(role)
    remove(path, ("-wal",))
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"was removed while another process has .* open"):
            publish(engine, "lost")
    assert peer.tell("reopen") == "done"
    names += publish(engine, "b")
    assert topics(engine) == set(names)
    assert peer.tell("audit") == "done"


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_any_connection_saves_the_log(role: str, path: Path, engine: SqliteEngine, peer: Peer, tmp_path: Path) -> None:
    """An error has ended the others."""
    names = fill(engine, path) + publish(engine, "a")
    assert topics(engine) == set(names)
    for other in {"writer", "reader", "watcher"} - {role}:
        engine.file._drop(other)
    remove(path, ("-wal",))
    engine.reopen()
    names += publish(engine, "b")
    assert after_power_cut(path, tmp_path / "copy") == set(names)
    assert peer.tell("reopen") == "done"
    assert peer.tell("audit") == "done"
    assert topics(engine) == set(names)


def test_two_stores_in_one_process_share_no_index_of_two_logs(path: Path, engine: SqliteEngine) -> None:
    """SQLite keeps one index for all connections of a process: the first waits for the second to let go of it."""
    other = SqliteEngine(str(path), busy_s=0.0)
    other.open()
    names = fill(engine, path) + publish(engine, "a", "b", "c")
    remove(path, ("-wal",))
    for fault in (StoreReplaced, Unavailable):
        with pytest.raises(fault):
            engine.reopen()
    other.reopen()
    engine.reopen()
    names += publish(engine, "d") + publish(other, "e")
    assert topics(engine) == topics(other) == set(names)
    assert not engine.audit()
    other.close()


def test_a_log_that_is_removed_while_the_file_is_opened_is_noticed(
    path: Path, engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else none would be what is expected, and each commit would go to a file without a name."""
    names = publish(engine, "a")
    note = engine.file._note_log

    def removed() -> None:
        remove(path, ("-wal",))
        note()

    with monkeypatch.context() as patch:
        patch.setattr(engine.file, "_note_log", removed)
        with pytest.raises(StoreReplaced):
            engine.reopen()
        with pytest.raises(StoreReplaced):
            publish(engine, "lost")
    names += publish(engine, "b")
    assert topics(engine) == set(names)
