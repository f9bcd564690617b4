"""The command ``all``: what it runs, and the one file that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import pytest

from bench.__main__ import app
from bench.everything import commands, run_everything
from softstate.errors import ConfigError

OTHERS = {"all", "herd", "replay", "trace", "--help", "-h", "--version"}
"""Of `bench`, not of `all`: models have F-a, which is a herd, and a replay needs a file, which trace writes."""


def test_every_command_of_all_is_one_of_the_bench_and_none_is_left_out() -> None:
    assert set(app) - OTHERS == commands([], quick=False).keys()
    for name in commands([], quick=False):
        app[name]
    assert commands(["fanout", "fuzz"], quick=True) == {
        "fanout": ["fanout", "--quick"],
        "fuzz": ["fuzz", "--for", "10s"],
    }
    with pytest.raises(ConfigError, match="there is no nonsense: --only takes models, spectrum"):
        commands(["nonsense"], quick=False)


def test_a_command_that_fails_ends_no_other_and_all_is_in_one_file(tmp_path: Path) -> None:
    def run(words: list[str], file: TextIO) -> int:
        file.write(f"output of {words[0]}\n")
        return int(words[0] == "models")

    path = tmp_path / "all.txt"
    outcomes = run_everything(path, ["models", "leases"], quick=True, run=run)
    assert [(outcome.name, outcome.code) for outcome in outcomes] == [("models", 1), ("leases", 0)]
    text = path.read_text()
    assert "## python -m bench models --quick\n\noutput of models\n\nexit code 1" in text
    assert text.index("output of models") < text.index("output of leases")
