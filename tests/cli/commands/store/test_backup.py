"""``softstate store backup`` and ``restore``: what a backup holds, and what is lost by going back to it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from softstate.cli import exit_codes, run
from softstate.store import Store
from softstate.store.base import Applied, Write
from softstate.testing.conformance.stage import put, state
from tests.kit.store_files import fill, names, within

END_OF_FILE = b"\x04"
"""Ctrl-D, as a terminal is given it."""


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
    before = output("info")
    monkeypatch.setattr("sys.stdin", io.StringIO("restore"))
    assert run(["store", "restore", "b.db"]) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert "add --yes" in captured.err
    assert captured.out.splitlines() == [
        "sqlite:softstate.db stands at revision 17 with 8 topics.",
        "The backup stands at revision 8 with 2 topics.",
        "LOST: what was published after revision 7: 8 topics: a, new/0, new/1, new/2, new/3, …",
        "Every client that has seen more than the backup holds is reset.",
    ]
    assert output("info") == before, "not even opened for writing, which would raise the revision"
    assert within("sqlite:softstate.db", state) == lost
    backup = (folder / "b.db").read_bytes()
    assert output("restore", "b.db", "--yes")[-1] == "sqlite:softstate.db is restored, and stands at revision 9"
    assert within("sqlite:softstate.db", state) == kept
    assert (folder / "b.db").read_bytes() == backup, "the backup is left as it is"
    (again,) = within(
        "sqlite:softstate.db", lambda store: store.publish([Write("c", b"\x02", key="key", digest=b"d")])
    ).verdicts
    assert again == Applied(5, repeated=True), "idempotency keys are restored too"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the descriptor to type at: the other end of a terminal that is standard input."""
    keyboard, terminal = os.openpty()
    with open(terminal) as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdin", stdin)
        yield keyboard
    os.close(keyboard)


@pytest.mark.parametrize(
    ("typed", "code"), [(b"restore\n", 0), (b"yes\n", exit_codes.INTERRUPTED), (END_OF_FILE, exit_codes.INTERRUPTED)]
)
def test_restore_takes_one_word_from_a_terminal(
    typed: bytes, code: int, folder: Path, output: Callable[..., list[str]], keyboard: int
) -> None:
    within("sqlite:softstate.db", fill)
    output("backup", "b.db")
    within("sqlite:softstate.db", lambda store: put(store, "new"))
    os.write(keyboard, typed)
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
