"""``softstate store``, run in this process on files: what is printed, exit codes, and what is on disk afterwards."""

from __future__ import annotations

import gzip
import json
import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from softstate.cli import exit_codes, run
from softstate.cli.commands.store.opening import DEFAULT_STORE
from softstate.cli.options.store_urls import same_store, shown
from softstate.cli.processes.child import softstate
from softstate.server import ServerConfig
from softstate.store import open_store
from softstate.store.base import LAYOUT
from softstate.testing.conformance.stage import put, state
from tests.kit.store_files import damage, fill, names, within

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
        (["info", "--store", "sqlite"], "etcd://HOST:PORT,HOST:PORT, memory:.\n"),
        (["info", "--stor", "x"], "--stor. Did you mean --store (see: softstate store info --help)"),
        (["info", "x.db"], "There is no place for 'x.db': it takes fewer words (see: softstate store info --help)"),
        (["info", "--store", "x.db"], "; for a file write sqlite:x.db"),
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
    assert "nothing was copied: 2 records of sqlite:bad.db cannot be read: 'a', 'b'; publish them again" in err
    assert err.count("\n") == 1
    if (folder / "new.db").exists():
        assert within("sqlite:new.db", state) == {}
    lines = output(*words, "--skip-unreadable")
    assert "left out, unreadable: 'a', 'b'" in lines
    assert set(within("sqlite:new.db", state)) == {"c"}
    assert (folder / "bad.db").read_bytes() == before


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
    assert run(["serve", "--check", "--store", url, "--listen", "127.0.0.1:0"]) == 0
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
