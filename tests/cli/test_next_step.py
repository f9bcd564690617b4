"""The hint that a command adds to an error that a node or a client has worded."""

from __future__ import annotations

import pytest

from softstate.cli import exit_codes, run
from softstate.cli.terminal.announcement import tell_page
from softstate.server import ServerConfig

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


def test_get_of_a_prefix_names_what_prints_all_below(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "my orders/"]) == exit_codes.USAGE
    assert "softstate list 'my orders/' prints all below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ui", "urls", "expected"),
    [
        (True, ["http://127.0.0.1:1", "unix:/s"], "the page for browsers is http://127.0.0.1:1/ui\n"),
        (True, ["unix:/s"], ""),
        (False, ["http://127.0.0.1:1"], ""),
    ],
)
def test_a_node_tells_where_its_page_is(
    ui: bool, urls: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_page(ServerConfig(ui=ui), urls)
    assert capsys.readouterr().out == expected
