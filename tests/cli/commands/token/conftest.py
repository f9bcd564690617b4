"""Fixtures: an empty directory to run `softstate token` in, and what it prints."""

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


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run `softstate token …`, expect exit code 0 and nothing on stderr, and return the lines on stdout."""

    def ran(*words: str) -> list[str]:
        capsys.readouterr()
        code = run(["token", *words])
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        return output.out.splitlines()

    return ran


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `softstate token …`, expect an exit code (2 if none is given) and one line on stderr, and return it."""

    def refused(*words: str, code: int = exit_codes.USAGE) -> str:
        capsys.readouterr()
        found = run(["token", *words])
        err = capsys.readouterr().err
        assert (found, err.count("\n")) == (code, 1), err
        return err

    return refused
