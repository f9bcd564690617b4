"""Files that cannot be looked for: each command that takes one says so, and what to do."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from softstate.cli import exit_codes, run
from softstate.cli.options.store_urls import same_store, status_of
from softstate.errors import ConfigError

LONG = "n" * 300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, which is the current one, but for a link to itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@contextmanager
def unprivileged() -> Iterator[None]:
    """Have no more rights than any user: the superuser may search every directory."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_is_not_there_has_no_status(folder: Path) -> None:
    (folder / "file").touch()
    found = status_of("file")
    assert found is not None
    assert os.path.samestat(found, (folder / "file").stat())
    assert status_of("other") is None
    assert status_of("file/below") is None
    assert status_of("\udcff") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (LONG, "File name too long; name another file"),
        (f"folder/{LONG}/x", "File name too long; name another file"),
        ("circle", "Too many levels of symbolic links; name another file"),
        ("circle/x", "Too many levels of symbolic links; name another file"),
        ("a\0b", "null"),
    ],
)
def test_a_name_that_cannot_be_looked_for_is_refused(name: str, reason: str, folder: Path) -> None:
    (folder / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"cannot look for {re.escape(name)}: .*{reason}"):
        status_of(name)


def test_a_directory_that_may_not_be_searched_is_named(folder: Path) -> None:
    locked = folder / "locked"
    locked.mkdir(mode=0)
    with unprivileged(), pytest.raises(ConfigError, match="Permission denied; let this user search"):
        status_of(locked / "x")


def test_a_current_directory_that_is_gone_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (
        ["store", "info"],
        ["store", "backup", "b.db"],
        ["store", "create", "sqlite:x"],
        ["serve", "--check"],
    ):
        assert run(words) == exit_codes.USAGE
        assert "the current directory cannot be used: No such file or directory; change" in capsys.readouterr().err


def test_two_names_of_one_file_are_one_store(folder: Path) -> None:
    (folder / "a.db").touch()
    (folder / "b.db").symlink_to("a.db")
    assert same_store("sqlite:a.db", f"sqlite:{folder}/b.db")
    assert same_store("sqlite:new.db", f"sqlite:{folder}/./new.db")
    assert not same_store("sqlite:a.db", "sqlite:new.db")


@pytest.mark.parametrize("name", [LONG, "circle", "n" * 250])
@pytest.mark.parametrize(
    "words",
    [
        "store info --store sqlite:NAME",
        "store check --store sqlite:NAME",
        "store create sqlite:NAME",
        "store migrate sqlite:NAME",
        "store compact --all --store sqlite:NAME",
        "store backup NAME --store sqlite:good.db",
        "store backup NAME --force --store sqlite:good.db",
        "store restore NAME --yes --store sqlite:good.db",
        "store restore good.db --yes --store sqlite:NAME",
        "store copy sqlite:NAME sqlite:other.db",
        "store copy sqlite:good.db sqlite:NAME",
        "serve --store sqlite:NAME",
        "serve --check --store sqlite:NAME",
        "serve --check --require-store --store sqlite:NAME",
    ],
)
def test_a_command_refuses_a_file_that_cannot_be_looked_for(
    words: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a name of 250 bytes, those of the files beside it are too long."""
    assert run(["store", "create", f"sqlite:{folder}/good.db"]) == exit_codes.OK
    before = sorted(folder.iterdir())
    assert run(words.replace("NAME", name).split()) == exit_codes.USAGE
    err = capsys.readouterr().err
    assert err.startswith(f"softstate: cannot look for {name}")
    assert err.endswith("; name another file.\n")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_is_no_place_for_a_store(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "pipe":
        os.mkfifo("special")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("special")
    assert run(["store", "create", "sqlite:good.db"]) == exit_codes.OK
    for words in (
        "store backup special --force --store sqlite:good.db",
        "serve --check --listen 127.0.0.1:0 --store sqlite:special",
    ):
        assert run(words.split()) == exit_codes.USAGE
        assert "special is a device, a pipe or a socket: name a file" in capsys.readouterr().err
