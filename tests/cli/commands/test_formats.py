"""The output of client commands, and the exit code of each error."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from typing import get_args

import pytest
import structlog

from softstate import errors
from softstate.cli import COMMANDS, exit_codes, run
from softstate.cli.commands.watch import Shown, _pretty, is_first_moment, json_line, plain_line
from softstate.cli.options.durations import seconds_text
from softstate.cli.processes.node_log import configure_logging
from softstate.cli.terminal.values import json_text, value_of
from softstate.client.machine.events import ModeChanged, NodeRefused, Reset, TopicsUnreadable
from softstate.errors import Denied, Invalid
from softstate.model import Change, Mode
from softstate.position import Position


def test_watch_json_lines() -> None:
    change = Change("a/b", 7, {"x": b"\x00"})
    assert json.loads(json_line(change, "live", 0.25)) == {
        "event": "change",
        "topic": "a/b",
        "version": 7,
        "value": {"x": {"$bytes": "AA=="}},
        "mode": "live",
        "age_ms": 250,
    }
    deleted = Change("a/b", 8, deleted=True)
    assert json.loads(json_line(deleted, "polling", math.inf)) == {
        "event": "change",
        "topic": "a/b",
        "version": 8,
        "deleted": True,
        "mode": "polling",
        "age_ms": None,
    }
    assert json.loads(json_line(ModeChanged("offline"), "live", 3.0)) == {
        "event": "mode",
        "mode": "offline",
        "age_ms": 3000,
    }
    assert json.loads(json_line(Reset(Position("e", "l", 3)), "live", 0.0)) == {"event": "reset"}


def test_watch_lines_for_people() -> None:
    assert plain_line(Change("a", 7, [1]), "live", 0.25) == "a  [1]  (version 7, live, age 0.2 s)"
    assert "deleted" in plain_line(Change("a", 7, deleted=True), "live", 0.25)
    assert plain_line(ModeChanged("offline"), "offline", math.inf) == "-- offline, age unknown"
    assert plain_line(Reset(Position("e", "l", 3)), "live", 0.0).startswith("-- reset")


def test_watch_describes_every_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Shown] = [
        Change("a", 1, None),
        Change("a", 1, deleted=True),
        ModeChanged("live"),
        NodeRefused("ws://a", Denied("no")),
        TopicsUnreadable(("a",)),
        Reset(Position("e", "l", 3)),
    ]
    assert {type(event) for event in shown} == set(get_args(Shown))
    assert run(["watch", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for event in shown:
        fields = json.loads(json_line(event, "live", 0.0))
        assert f'{{"event":"{fields["event"]}"' in told
        assert all(f'"{name}"' in told for name in fields)


class Terminal(io.StringIO):
    """A terminal that keeps all that is written to it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_take_them(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, terminal)
    line = _pretty()(ModeChanged("live"), "live", 0.0)
    assert re.fullmatch(r"\d\d:\d\d:\d\d -- live, age 0.0 s", re.sub(r"\x1b\[\d+m", "", line))
    assert ("\x1b[" in line) == coloured
    configured = structlog.get_config()
    try:
        configure_logging("console", verbose=False)
        structlog.get_logger().info("a node")
    finally:
        structlog.configure(**configured)
    assert "a node" in terminal.getvalue()
    assert ("\x1b[" in terminal.getvalue()) == coloured


@pytest.mark.parametrize("count", ["0", "-3"])
def test_watch_counts_from_one(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--count", count]) == exit_codes.USAGE
    assert capsys.readouterr() == ("", f"softstate: --count must be 1 or more, not {count}.\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (0.04, "0.0 s"), (12.3, "12 s"), (600, "10 m"), (7300, "2 h")]
)
def test_ages(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize("text", ['{"a":[1,2.5,null,true]}', '"text"', "-5", '{"$bytes":"AAE="}'])
def test_values_are_printed_as_they_were_typed(text: str) -> None:
    assert json_text(value_of(text)) == text


@pytest.mark.parametrize("text", ["paid", "{state: 1}", "", "1e999", "99999999999999999999"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        value_of(text)


def test_a_value_that_is_not_json_gets_help_with_quoting() -> None:
    with pytest.raises(Invalid, match="quotes inside the shell's"):
        value_of("paid")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Invalid("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.StoreRefused("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Conflict("x"), 4),
        (errors.Unavailable("x"), 5),
        (errors.Overloaded("x"), 5),
        (errors.Behind("x"), 5),
        (errors.OutcomeUnknown("x"), 6),
        (errors.Denied("x"), 7),
        (errors.Unauthenticated("x"), 7),
        (exit_codes.Failure("x", 130), 130),
    ],
)
def test_exit_codes(error: errors.SoftstateError, code: int) -> None:
    assert exit_codes.exit_code_of(error) == code


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["get"], "TOPIC"),
        (["get", "a//b"], "segment"),
        (["list", "a"], "prefix must be"),
        (["watch", "/a"], "topic must not"),
        (["publish"], "needs a topic"),
        (["publish", "a"], "needs a value in JSON; softstate delete a deletes"),
        (["publish", "a b", "--delete"], "softstate delete 'a b' deletes the topic"),
        (["publish", "a", "1", "--delete"], "There is no --delete: use softstate delete TOPIC"),
        (["delete", "a//b"], "segment"),
        (["delete"], "TOPIC"),
        (["serve", "--port", "80"], "There is no --port: use --listen HOST:80"),
        (["serve", "--port=80", "--host", "::1"], "There is no --port: use --listen [::1]:80"),
        (["serve", "--port"], "There is no --port: use --listen HOST:PORT"),
        (["serve", "--host", "0.0.0.0"], "There is no --host: use --listen 0.0.0.0:PORT"),
        (["help", "protocl"], "did you mean protocol? pages are clients"),
        (["help", "serve"], "softstate COMMAND --help"),
        (["completion", "csh"], "bash"),
        (["publish", "a", "paid"], "quotes"),
        (["publish", "a", "1", "--from-line", "3"], "--ndjson"),
        (["publish", "--ndjson", "f", "--expect", "0"], "from the file"),
        (["publish", "--ndjson", "f", "--from-line", "0"], "counts from 1"),
        (["publish", "--ndjson", "/nonexistent/f"], "No such file"),
        (["publish", "--ndjson", "f", "--run", "x" * 65], "1 to 64"),
        (["publish", "--ndjson", "f", "--run", "\udcff"], "--run must be valid Unicode"),
        (["get", "a", "--url", "ftp://x"], "ws://"),
        (["get", "a", "--timeout", "5"], "duration"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_usage_errors_are_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_codes.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("softstate: ")
    assert output.err.count("\n") == 1
    assert expected in output.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"softstate {name}" in capsys.readouterr().out


def test_the_overview_lists_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in COMMANDS)
    assert "130 Ctrl-C" in " ".join(output.split())


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [
        (["--help"], "Start a node and serve"),
        ([], "Start a node and serve"),
        (["store", "--help"], "Print what a store"),
    ],
)
def test_a_list_of_commands_says_what_each_is_for(
    tokens: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tokens) == 0
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "age_s", "shown"),
    [("syncing", math.inf, False), ("syncing", 4.7, True), ("polling", math.inf, True), ("live", 0.0, True)],
)
def test_watch_does_not_say_that_it_asked_for_the_first_values(mode: Mode, age_s: float, shown: bool) -> None:
    assert is_first_moment(ModeChanged(mode), age_s) is not shown
