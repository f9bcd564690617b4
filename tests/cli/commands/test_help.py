"""`softstate help` prints the pages that are shipped, and names them all."""

from __future__ import annotations

import io
import pydoc
import sys
import tomllib
from pathlib import Path

import pytest

from softstate.cli import run
from softstate.cli.commands import help as help_command
from softstate.cli.commands.help import PACKAGE, REFERENCES, topics


def test_a_page_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "Protocol"]) == 0
    assert capsys.readouterr().out == (PACKAGE / "wire" / "PROTOCOL.md").read_text(encoding="utf-8")


def test_every_page_is_listed_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines.keys() == topics().keys() >= {"clients", "protocol", "http", "commands"}
    assert lines["clients"].startswith("Clients: ")


def test_a_guide_is_a_page_as_soon_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert topics(tmp_path) == {}
    (tmp_path / "docs" / "security.md").write_text("# Security\n")
    assert topics(tmp_path) == {"security": tmp_path / "docs" / "security.md"}


def test_a_terminal_gets_a_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    paged: list[str] = []
    monkeypatch.setattr(pydoc, "pager", paged.append)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    help_command.show("text")
    assert paged == ["text"]


def test_every_page_is_in_the_wheel() -> None:
    build = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    # All of the package is shipped, of any kind, unless it is left out by name.
    assert build["targets"]["wheel"] == {"packages": ["softstate"]}
    assert "exclude" not in build
    for place in REFERENCES.values():
        assert (PACKAGE / place).is_file()
