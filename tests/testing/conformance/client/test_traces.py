"""The committed traces: they are what the machine does now, a replay notices any difference, and forms come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softstate.client.machine.events import PublishRequested
from softstate.client.machine.state import MachineOptions
from softstate.testing.conformance.client.__main__ import main
from softstate.testing.conformance.client.draws import DrawsDiffer, GivenDraws, RecordedDraws
from softstate.testing.conformance.client.form import EVENTS, event_form, event_of, options_form, options_of
from softstate.testing.conformance.client.generate import generate
from softstate.testing.conformance.client.recorder import record_again
from softstate.testing.conformance.client.replayer import TraceDiffers, replay
from softstate.testing.conformance.client.trace import FOLDER, Trace, load_all, write_all
from tests.testing.conformance.client.cut import cut

TRACES = load_all()
BYTES_MAX = 1_100_000
"""All traces together are smaller than this: they are chosen, and people read them."""


def test_they_are_what_the_machine_does_now() -> None:
    kept = {trace.name: trace.text() for trace in TRACES}
    made = {trace.name: trace.text() for trace in generate()}
    differing = sorted(name for name in {*kept, *made} if kept.get(name) != made.get(name))
    assert differing == [], "run python -m softstate.testing.conformance.client, and review the difference"


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.ndjson")) < BYTES_MAX


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_a_fresh_machine_does_what_a_trace_says(trace: Trace) -> None:
    replay(trace)


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_every_event_is_the_same_again_after_its_form(trace: Trace) -> None:
    for line in trace.lines:
        if "event" in line:
            form = event_form(event_of(line))
            assert form == {name: line[name] for name in form}


@pytest.mark.parametrize("trace", TRACES[::20], ids=lambda trace: trace.name)
def test_what_is_recorded_again_is_the_same(trace: Trace) -> None:
    assert record_again(trace).lines == trace.lines


def test_what_is_recorded_again_draws_as_it_did() -> None:
    with pytest.raises(DrawsDiffer):
        record_again(changed("draws", draws=[]))


def test_a_trace_that_is_cut_from_a_world_ends_after_its_steps() -> None:
    trace = cut(3, 25, "x")
    assert sum("event" in line for line in trace.lines) == 25
    assert trace.name == "cut/x"
    replay(trace)


def changed(name: str, **fields: Any) -> Trace:
    """Return a trace with one of its steps changed, the first that draws and does something."""
    trace = Trace.of((FOLDER / "lease/resumed.ndjson").read_text("utf-8"))
    at = next(at for at, line in enumerate(trace.lines) if line.get("do") and line.get("draws"))
    line = trace.lines[at]
    trace.lines[at] = {**line, **({"do": line["do"][::-1]} if name == "order" else fields)}
    return trace


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("order", {}, "`do` is"),
        ("mode", {"mode": "live"}, "`mode` is connecting"),
        ("due", {"due": None}, "`due` is"),
        ("age", {"age": 0.0}, "`age` is None"),
        ("draws too few", {"draws": []}, "no further draw"),
        ("draws too many", {"draws": [0.764, 0.5]}, "not drawn"),
        ("draws of another kind", {"draws": ["0" * 32]}, "a number was drawn"),
        ("another draw", {"draws": [0.25]}, "`due` is"),
    ],
)
def test_a_replay_notices_what_differs_and_names_the_line(name: str, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(TraceDiffers, match=r"lease/resumed, line 3, opened: ") as caught:
        replay(changed(name, **fields))
    assert told in str(caught.value)


def test_a_replay_notices_a_look_that_differs() -> None:
    trace = TRACES[0]
    trace = Trace(trace.header, [*trace.lines[:-1], {**trace.lines[-1], "look": {"known": {}, "position": None}}])
    with pytest.raises(TraceDiffers, match="look: `position` is"):
        replay(trace)


def test_draws_are_given_as_they_were_recorded() -> None:
    recorded, given = RecordedDraws(7), GivenDraws()
    drawn = [recorded.uniform(1.0, 3.0), recorded.getrandbits(128), recorded.uniform(0.0, 1.0)]
    given.give(recorded.take())
    assert [given.uniform(1.0, 3.0), given.getrandbits(128), given.uniform(0.0, 1.0)] == drawn
    given.check_all_drawn()
    assert recorded.take() == []
    with pytest.raises(DrawsDiffer, match="128"):
        given.getrandbits(32)


def test_a_file_of_another_format_is_not_read() -> None:
    with pytest.raises(ValueError, match="format 2, this reads 1 only: update softstate"):
        Trace.of(json.dumps({"trace": "x", "format": 2}))


def test_options_and_values_keep_their_form() -> None:
    options = replace(MachineOptions(("ws://a", "ws://b")), token="t", ttl_ms=5_000, beat_ms=None)
    assert options_of(json.loads(json.dumps(options_form(options)))) == options
    event = PublishRequested(1, "a", {"n": [b"\x00\xff", 2**60]}, deleted=False, expect=3, key="k")
    assert event_of(json.loads(json.dumps(event_form(event)))) == event
    gone = replace(event, value=None, deleted=True)
    assert "value" not in event_form(gone)
    assert event_of(event_form(gone)) == gone


def test_writing_replaces_what_differs_and_removes_what_is_no_more(tmp_path: Path) -> None:
    one, two = TRACES[:2]
    assert write_all([one, two], tmp_path) == ([one.name, two.name], [])
    assert write_all([one], tmp_path) == ([], [two.name])
    assert [trace.name for trace in load_all(tmp_path)] == [one.name]


def test_the_command_compares_and_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert main(["--chek"]) == 2
    assert "usage: python -m softstate.testing.conformance.client [--check]" in capsys.readouterr().err


def test_every_kind_of_event_occurs() -> None:
    found = {line["event"] for trace in TRACES for line in trace.lines if "event" in line}
    assert found == set(EVENTS)
