"""What a command adds to an error that a node or a client has worded."""

from __future__ import annotations

import pytest

from softstate.cli import exit_codes, run

NOBODY = "ws://127.0.0.1:1"
QUESTION = "Connection refused. Is a node running there (softstate serve)? Name another with --url."


@pytest.mark.parametrize(
    "words",
    [
        ["get", "a", "--timeout", "20ms"],
        ["list", "--timeout", "20ms"],
        ["status", "--timeout", "20ms"],
        ["explain", "topic", "a"],
    ],
)
def test_where_no_node_is_it_asks_whether_one_runs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--url", NOBODY]) == exit_codes.UNAVAILABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("softstate: ")
    assert line.endswith(f"{NOBODY} cannot be reached: {QUESTION}")
