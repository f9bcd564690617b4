"""Tests of a group of commands: an empty directory to run them in, and their output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from softstate.cli import exit_codes, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(group: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command of the group, expect exit code 0 and nothing on stderr, and return the lines on stdout."""

    def ran(*words: str) -> list[str]:
        capsys.readouterr()
        code = run([group, *words])
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        return output.out.splitlines()

    return ran


def refusal_of(group: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command of the group, expect an exit code (2 if none is given) and one line on stderr, and return it."""

    def refused(*words: str, code: int = exit_codes.USAGE) -> str:
        capsys.readouterr()
        found = run([group, *words])
        err = capsys.readouterr().err
        assert (found, err.count("\n")) == (code, 1), err
        return err

    return refused
