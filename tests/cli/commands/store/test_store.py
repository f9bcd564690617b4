"""``softstate store``, run in this process on files: what is printed, exit codes, and what is on disk afterwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import sqlite3
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from softstate.cli import exit_codes, run
from softstate.cli.commands.store.opening import DEFAULT_STORE
from softstate.cli.commands.store.restore import common_revision, loss_of
from softstate.cli.commands.store.scratch import scratch, with_namespace
from softstate.cli.options.store_urls import same_store, shown
from softstate.cli.processes.child import softstate
from softstate.errors import ConfigError
from softstate.server import ServerConfig
from softstate.store import Store, open_store
from softstate.store.base import LAYOUT, Applied, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.rules.dump import pages
from softstate.store.sqlite.store import SqliteStore
from softstate.testing import STORE_CHECKS
from softstate.testing.conformance.stage import put, state

T = TypeVar("T")


def within(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open a store, work on it, close it."""

    async def main() -> T:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return trio.run(main)


async def fill(store: Store) -> None:
    """Write three topics, one of them twice with a key, and delete one."""
    await store.publish([Write("a", b"\x01"), Write("b", b"\x01"), Write("c", b"\x01")])
    await store.publish([Write("c", b"\x02", key="key", digest=b"d"), Write("b", None)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run `softstate store …`, expect exit code 0 and nothing on stderr, and return the lines on stdout."""

    def ran(*words: str) -> list[str]:
        capsys.readouterr()
        code = run(["store", *words])
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        return output.out.splitlines()

    return ran


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `softstate store …`, expect exit code 2 and one line on stderr, and return it."""

    def refused(*words: str) -> str:
        code = run(["store", *words])
        err = capsys.readouterr().err
        assert (code, err.count("\n")) == (exit_codes.USAGE, 1), err
        return err

    return refused


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# info ----------------------------------------------------------------------------------------------------------------


def test_info_says_what_there_is_and_leaves_no_trace(folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:softstate.db", fill)
    before = (folder / "softstate.db").read_bytes()
    fields = json.loads("".join(output("info", "--json")))
    assert (fields["store"], fields["durability"], fields["store_warnings"]) == ("sqlite:softstate.db", "durable", [])
    assert (fields["topics"], fields["tombstones"], fields["keys"]) == (2, 1, 1)
    assert (fields["publishers"], fields["layout"]) == (0, LAYOUT)
    assert (fields["revision"], fields["floor"], fields["store_bytes"]) == (6, 0, len(before))
    lines = dict(line.split(maxsplit=1) for line in output("info"))
    assert lines == {name: str(value) for name, value in fields.items()} | {"store_warnings": "none"}
    assert (folder / "softstate.db").read_bytes() == before
    assert names(folder) == ["softstate.db"]


def test_info_takes_the_store_from_the_environment(
    folder: Path, output: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    within("sqlite:other.db", fill)
    monkeypatch.setenv("SOFTSTATE_STORE", "sqlite:other.db")
    assert output("info")[0].split() == ["store", "sqlite:other.db"]


def test_a_name_that_is_no_unicode_can_be_shown(folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:\udcff.db", fill)
    assert output("info", "--store", "sqlite:\udcff.db")[0].split() == ["store", "sqlite:\\xff.db"]
    assert output("backup", "\udcfe.db", "--store", "sqlite:\udcff.db")[0].startswith("\\xfe.db holds")


@pytest.mark.parametrize(
    "words", [["info"], ["compact", "--all"], ["backup", "b.db"], ["copy", "sqlite:a.db", "sqlite:b.db"]]
)
def test_a_store_that_is_not_there_is_not_made(words: list[str], folder: Path, refusal: Callable[..., str]) -> None:
    assert "there is no file" in refusal(*words)
    assert names(folder) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["info", "--store", "memory:"], "is the memory of one process"),
        (["info", "--store", "sqlite"], "sqlite:PATH"),
        (["info", "--stor", "x"], "--stor. Did you mean --store (see: softstate store info --help)"),
        (["infos"], "(see: softstate store --help)"),
        (["backup"], "softstate store backup --help"),
        (["check", "--store", "foo:bar"], "'foo:bar' is none of sqlite:PATH"),
        (["check", "--store", "sqlite:/nonexistent/softstate.db"], "cannot make a directory in /nonexistent"),
        (["compact"], "--upto REVISION or --all"),
        (["compact", "--upto", "3", "--all"], "--upto REVISION or --all"),
        (["compact", "--upto", "0"], "upto must be a revision"),
        (["compact", "--upto", "x"], "--upto"),
        (["copy", "sqlite:a.db"], "TO"),
        (["copy", "sqlite:a.db", "sqlite:./a.db"], "the same store"),
        (["restore", "softstate.db"], "is the store itself"),
        (["restore", "nowhere.db"], "nowhere.db: name one that is there"),
        (["backup", "softstate.db", "--force"], "is the store itself"),
        (["backup", "."], "is a directory"),
        (["backup", "nowhere/b.db"], "there is no directory nowhere"),
    ],
)
def test_wrong_words_are_refused_by_name(
    words: list[str], expected: str, folder: Path, refusal: Callable[..., str]
) -> None:
    assert expected in refusal(*words)
    assert names(folder) == []


# create --------------------------------------------------------------------------------------------------------------


def test_create_makes_an_empty_store_and_touches_no_other(
    folder: Path, output: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    assert output("create", "sqlite:new.db") == ["sqlite:new.db is an empty store"]
    assert json.loads("".join(output("info", "--store", "sqlite:new.db", "--json")))["topics"] == 0
    within("sqlite:new.db", fill)
    before = (folder / "new.db").read_bytes()
    assert "sqlite:new.db is there already, at revision 7: it was left as it is" in refusal("create", "sqlite:new.db")
    assert (folder / "new.db").read_bytes() == before
    (folder / "empty.db").touch()
    output("create", "sqlite:empty.db")
    (folder / "other.db").write_text("no database at all, but long enough to look like one" * 50)
    assert "is not an SQLite database" in refusal("create", "sqlite:other.db")
    assert "is the memory of one process" in refusal("create", "memory:")
    assert "cannot open" in refusal("create", "sqlite:nowhere/a.db")
    assert names(folder) == ["empty.db", "new.db", "other.db"]


def test_serve_makes_no_store_when_one_is_required(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softstate.cli.commands.serve.configure_logging", lambda *_words, **_options: None)
    assert run(["serve", "--listen", "127.0.0.1:0", "--require-store"]) == exit_codes.USAGE
    assert "softstate store create sqlite:" in capsys.readouterr().err
    assert names(folder) == []


# compact -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "left"), [(["--all"], 0), (["--upto", "6"], 0), (["--upto", "5"], 1)])
def test_compact_forgets_deletions_and_keeps_keys(
    words: list[str], left: int, folder: Path, output: Callable[..., list[str]]
) -> None:
    within("sqlite:softstate.db", fill)
    floor = 0 if left else 6
    lists = f"a client that has not seen revision {floor} lists its topics again"
    assert output("compact", *words) == [f"{1 - left} forgotten; {lists}"]
    fields = json.loads("".join(output("info", "--json")))
    assert (fields["topics"], fields["tombstones"], fields["keys"], fields["floor"]) == (2, left, 1, floor)


# backup and restore --------------------------------------------------------------------------------------------------


def test_a_backup_is_one_complete_store(folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:softstate.db", fill)
    assert output("backup", "b.db") == ["b.db holds sqlite:softstate.db as of revision 6"]
    assert names(folder) == ["b.db", "softstate.db"]
    assert within("sqlite:b.db", state) == within("sqlite:softstate.db", state)


def test_a_backup_can_be_read_where_nothing_can_be_written(folder: Path, output: Callable[..., list[str]]) -> None:
    """It has no write-ahead log, which SQLite would have to make files for."""
    within("sqlite:softstate.db", fill)
    output("backup", "b.db")
    assert (folder / "b.db").read_bytes()[18:20] == b"\x01\x01", "the legacy journal, not WAL (SQLite file format 1.3)"


def test_a_backup_overwrites_only_when_told(
    folder: Path, output: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    within("sqlite:softstate.db", fill)
    (folder / "b.db").write_text("precious")
    assert "overwrite it with --force" in refusal("backup", "b.db")
    assert (folder / "b.db").read_text() == "precious"
    output("backup", "b.db", "--force")
    assert set(within("sqlite:b.db", state)) == {"a", "c"}


def test_a_store_in_use_is_no_place_for_a_backup(folder: Path, refusal: Callable[..., str]) -> None:
    within("sqlite:softstate.db", fill)

    async def back_up_over(_other: Store) -> str:
        return await trio.to_thread.run_sync(lambda: refusal("backup", "other.db", "--force"))

    assert "is a store in use" in within("sqlite:other.db", back_up_over)


def test_a_backup_that_fails_leaves_nothing(folder: Path, refusal: Callable[..., str]) -> None:
    within("sqlite:softstate.db", fill)
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    place = Path("/proc") if os.geteuid() == 0 else locked  # not even root creates files there
    assert "cannot open" in refusal("backup", str(place / "b.db"))
    assert names(locked) == []


def test_restore_asks_first_and_says_what_is_lost(
    folder: Path, output: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    within("sqlite:softstate.db", fill)
    kept = within("sqlite:softstate.db", state)
    output("backup", "b.db")

    async def go_on(store: Store) -> None:
        await store.publish([Write(f"new/{number}", b"\x01") for number in range(7)])
        await put(store, "a", None)

    within("sqlite:softstate.db", go_on)
    lost = within("sqlite:softstate.db", state)
    monkeypatch.setattr("sys.stdin", io.StringIO("restore"))
    assert run(["store", "restore", "b.db"]) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert "add --yes" in captured.err
    assert captured.out.splitlines() == [
        "sqlite:softstate.db stands at revision 18 with 8 topics.",
        "The backup stands at revision 8 with 2 topics.",
        "LOST: what was published after revision 7: 8 topics: a, new/0, new/1, new/2, new/3, …",
        "Every client that has seen more than the backup holds is reset.",
    ]
    assert within("sqlite:softstate.db", state) == lost
    backup = (folder / "b.db").read_bytes()
    assert output("restore", "b.db", "--yes")[-1] == "sqlite:softstate.db is restored, and stands at revision 9"
    assert within("sqlite:softstate.db", state) == kept
    assert (folder / "b.db").read_bytes() == backup, "the backup is left as it is"
    (again,) = within(
        "sqlite:softstate.db", lambda store: store.publish([Write("c", b"\x02", key="key", digest=b"d")])
    ).verdicts
    assert again == Applied(5, repeated=True), "idempotency keys are restored too"


class Terminal:
    """A terminal at which a user types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


@pytest.mark.parametrize(("typed", "code"), [("restore\n", 0), ("yes\n", exit_codes.INTERRUPTED), ("", 130)])
def test_restore_takes_one_word_from_a_terminal(
    typed: str, code: int, folder: Path, output: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    within("sqlite:softstate.db", fill)
    output("backup", "b.db")
    within("sqlite:softstate.db", lambda store: put(store, "new"))
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert run(["store", "restore", "b.db"]) == code
    assert ("new" in within("sqlite:softstate.db", state)) == (code != 0)


def test_restore_needs_no_yes_where_nothing_is_lost(folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:softstate.db", fill)
    output("backup", "b.db")
    assert output("restore", "b.db", "--store", "sqlite:new.db") == [
        "sqlite:new.db is empty; the backup has 2 topics.",
        "sqlite:new.db is restored, and stands at revision 8",
    ]
    assert within("sqlite:new.db", state) == within("sqlite:softstate.db", state)


def test_restore_refuses_what_is_no_store(folder: Path, refusal: Callable[..., str]) -> None:
    within("sqlite:softstate.db", fill)
    (folder / "b.db").write_text("no database at all, but long enough to look like one" * 50)
    assert "is not an SQLite database" in refusal("restore", "b.db", "--yes")
    (folder / "empty.db").touch()
    assert "empty.db is empty" in refusal("restore", "empty.db", "--yes")
    assert set(within("sqlite:softstate.db", state)) == {"a", "c"}


async def test_a_backup_of_another_store_loses_everything() -> None:
    store, other = MemoryStore(), MemoryStore()
    await fill(store)
    await put(other, "x")
    loss = await loss_of(store, other)
    assert (loss.common, list(loss.changed), loss.published) == (0, ["a", "b", "c"], True)
    assert "created (the backup is of another store): 3 topics: a, b, c" in loss.lines()[2]


async def test_common_history_ends_where_a_copy_was_made() -> None:
    store, copy = MemoryStore(), MemoryStore()
    await fill(store)
    common = (await store.head()).revision
    await copy.adopt(pages(store), replace=False)
    assert await common_revision(store, copy) == common
    for number in range(5):
        await put(store, f"one/{number}")
        await put(copy, f"other/{number}")
    await copy.reopen()
    assert await common_revision(store, copy) == await common_revision(copy, store) == common
    assert await common_revision(store, store) == (await store.head()).revision
    assert list((await loss_of(store, copy)).changed) == [f"one/{number}" for number in range(5)]


# copy ----------------------------------------------------------------------------------------------------------------


def test_copy_keeps_versions_and_spares_what_was_published(
    folder: Path, output: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    within("sqlite:a.db", fill)
    assert output("copy", "sqlite:a.db", "sqlite:b.db") == ["sqlite:b.db holds 2 topics, and stands at revision 7"]
    assert within("sqlite:b.db", state) == within("sqlite:a.db", state)
    within("sqlite:a.db", lambda store: put(store, "new"))
    assert "its contents would be lost" in refusal("copy", "sqlite:a.db", "sqlite:b.db")
    assert "new" not in within("sqlite:b.db", state)
    output("copy", "sqlite:a.db", "sqlite:b.db", "--replace")
    assert within("sqlite:b.db", state) == within("sqlite:a.db", state)


# check ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite:softstate.db"])
def test_check_runs_every_check_beside_the_store(url: str, folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:softstate.db", fill)
    before = (folder / "softstate.db").read_bytes()
    lines = output("check", "--store", url)
    rows = [] if url == "memory:" else ["ok      rows"]
    assert [line for line in lines if line.startswith("ok ")] == rows + [
        f"ok      {getattr(check, '__name__', '?').replace('_', ' ')}" for check in STORE_CHECKS
    ]
    count = len(STORE_CHECKS) + len(rows)
    assert lines[-1] == f"{count} of {count} checks passed"
    assert any(line.startswith("warning: ") for line in lines) == (url == "memory:")
    assert (folder / "softstate.db").read_bytes() == before
    assert names(folder) == ["softstate.db"]


def test_check_says_which_rule_is_broken(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reads_nothing(_self: SqliteStore, revisions: Sequence[int]) -> list[None]:
        return [None for _ in revisions]

    monkeypatch.setattr(SqliteStore, "lineage_at", reads_nothing)
    assert run(["store", "check"]) == exit_codes.BROKEN
    lines = capsys.readouterr().out.splitlines()
    broken = [line for line in lines if line.startswith("BROKEN")]
    assert any(line.startswith("BROKEN  feed resumes where it ended: `upto` is on the history:") for line in broken)
    assert lines[-1] == f"{len(STORE_CHECKS) - len(broken)} of {len(STORE_CHECKS)} checks passed"
    assert names(folder) == []


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_check_names_rows_that_are_damaged_or_gone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    within("sqlite:softstate.db", fill)
    damage(
        folder / "softstate.db",
        "UPDATE record SET value = x'00' WHERE topic = 'a'",
        "DELETE FROM record WHERE topic = 'c'",
    )
    assert run(["store", "check"]) == exit_codes.BROKEN
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "BROKEN  rows: the record of 'a' is unreadable: publish it without expect, or restore a backup",
        "BROKEN  rows: 1 records have vanished, of 3: restore a backup, since nothing tells which",
    ]
    assert lines[-1] == f"{len(STORE_CHECKS)} of {len(STORE_CHECKS) + 1} checks passed"
    damage(folder / "softstate.db", "DELETE FROM state")
    assert run(["store", "check"]) == exit_codes.BROKEN
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert "the row with its state is gone: it is damaged: stop every node, move it away, and restore a backup" in line


# migrate -------------------------------------------------------------------------------------------------------------

NOVEMBER = Path(__file__).parents[3] / "store/sqlite/november.db.gz"


@pytest.mark.parametrize("words", [["--no-backup"], []])
def test_a_store_of_an_earlier_release_is_carried_over_when_told(
    words: list[str], folder: Path, output: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    (folder / "softstate.db").write_bytes(gzip.decompress(NOVEMBER.read_bytes()))
    for reads in (["info"], ["backup", "b.db"]):
        assert "has layout 1, of an earlier softstate: " in refusal(*reads)
    assert names(folder) == ["softstate.db"]
    told, *copied = output("migrate", "sqlite:softstate.db", *words)
    assert told == f"sqlite:softstate.db has layout {LAYOUT}, and holds 8 topics"
    assert len(copied) == (0 if words else 1)
    assert all(f"{folder / 'softstate.db.layout-1'} holds it as it was: delete that once" in line for line in copied)
    assert names(folder) == ["softstate.db", *([] if words else ["softstate.db.layout-1"])]
    assert json.loads("".join(output("info", "--json")))["layout"] == LAYOUT
    assert output("migrate", "sqlite:softstate.db") == [f"sqlite:softstate.db has layout {LAYOUT}, and holds 8 topics"]
    assert "there is no file" in refusal("migrate", "sqlite:nowhere.db")


# Unreadable ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["copy", "sqlite:bad.db", "sqlite:new.db"], ["backup", "new.db", "--store", "sqlite:bad.db"],
              ["restore", "bad.db", "--store", "sqlite:new.db"]],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_left_out_only_when_told(
    words: list[str], folder: Path, output: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    within("sqlite:bad.db", fill)
    damage(
        folder / "bad.db",
        "UPDATE record SET value = 'text' WHERE topic = 'a'",
        "UPDATE record SET version = -1 WHERE topic = 'b'",
    )
    before = (folder / "bad.db").read_bytes()
    assert run(["store", *words]) == exit_codes.BROKEN
    err = capsys.readouterr().err
    assert "nothing was written: 2 records of sqlite:bad.db cannot be read: 'a', 'b'; publish them again" in err
    assert err.count("\n") == 1
    if (folder / "new.db").exists():
        assert within("sqlite:new.db", state) == {}
    lines = output(*words, "--skip-unreadable")
    assert "left out, unreadable: 'a', 'b'" in lines
    assert set(within("sqlite:new.db", state)) == {"c"}
    assert (folder / "bad.db").read_bytes() == before


async def test_a_scratch_store_goes_away_with_its_block(tmp_path: Path) -> None:
    async with scratch(f"sqlite:{tmp_path / 'softstate.db'}") as backend:
        store = await backend.open()
        (folder,) = names(tmp_path)
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
        await store.aclose()
    assert names(tmp_path) == []
    with pytest.raises(ConfigError, match="neither"):
        async with scratch("mysql:x"):
            raise AssertionError("there is no such place")


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("redis://h", "redis://h?namespace=x"),
        ("etcd://h:1,i:2?cacert=a%2Fb&namespace=mine", "etcd://h:1,i:2?cacert=a%2Fb&namespace=x"),
        ("postgresql://u:p%40@h/db?schema=mine&sslmode=require", "postgresql://u:p%40@h/db?sslmode=require&schema=x"),
        ("rediss://h/3?password_env=P", "rediss://h/3?password_env=P&namespace=x"),
    ],
)
def test_a_namespace_is_set_in_a_url(url: str, other: str) -> None:
    assert with_namespace(url, "x") == other


async def test_copying_shows_how_far_it_is_on_a_terminal(tmp_path: Path) -> None:
    with trio.fail_after(20):
        store = await open_store(f"sqlite:{tmp_path / 'a.db'}")
        await fill(store)
        await store.aclose()
        ours, theirs = pty.openpty()
        words = softstate("store", "copy", "sqlite:a.db", "sqlite:b.db")
        await trio.run_process(words, stderr=theirs, capture_stdout=True, cwd=tmp_path)
        os.close(theirs)
        shown = await trio.to_thread.run_sync(os.read, ours, 65_536)
        os.close(ours)
    assert b"copying sqlite:a.db" in shown
    assert b" records" in shown


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite:a?b", "sqlite:a?b"),
        ("memory:", "memory:"),
        ("redis://:secret@h:1/2?namespace=x", "redis://h:1/2"),
        ("postgresql://user:secret@h,i/db?password_env=P", "postgresql://user@h,i/db"),
    ],
)
def test_passwords_are_not_shown(url: str, text: str) -> None:
    assert shown(url) == text


def test_the_default_is_that_of_serve() -> None:
    assert ServerConfig().store == DEFAULT_STORE


@pytest.mark.parametrize("url", ["redis://:secret@h:1", "postgresql://user:secret@h/db"])
def test_serve_never_shows_a_password(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--check", "--store", url]) == 0
    assert "secret" not in capsys.readouterr().out
    assert "secret" not in repr(ServerConfig(store=url))


def test_one_file_has_many_names(folder: Path) -> None:
    within("sqlite:a.db", fill)
    (folder / "link.db").symlink_to("a.db")
    os.link(folder / "a.db", folder / "hard.db")
    for name in ("./a.db", str(folder / "a.db"), "link.db", "hard.db"):
        assert same_store("sqlite:a.db", f"sqlite:{name}"), name
    assert not same_store("sqlite:a.db", "sqlite:b.db")
    assert same_store("redis://h", "redis://h")
    assert not same_store("redis://h", "sqlite:h")
