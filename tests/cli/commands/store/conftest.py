"""Fixtures: an empty directory to run `softstate store` in, and what it prints."""

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
