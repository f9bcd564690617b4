"""The replay of a small file through kills: it passes if all is right, and fails on each kind of fault."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench.trials.replay import Plan, Report, Watcher, choose_names, replay
from bench.trials.trace import read_trace, write_trace
from softstate.names import covers


@pytest.mark.timeout(120)
async def test_a_small_replay_passes_every_check(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson.gz"
    write_trace(path, changes=600, topics=40, seed=7)
    report = await replay(Plan(path, watchers=3, kills=2, seed=7), tmp_path)
    assert report.failures() == []
    assert report.kills == 2
    assert report.acknowledged == 600
    assert report.changes_seen > 0
    assert json.loads(report.json())["ok"] is True


def test_the_same_seed_gives_the_same_trace_and_watchers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_trace(tmp_path / name, changes=200, topics=20, seed=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    trace = read_trace(tmp_path / "a")
    assert trace.lines == 200
    assert set(trace.final) < trace.topics
    chosen = choose_names(trace, 10, Random(1))
    assert chosen == choose_names(trace, 10, Random(1))
    assert chosen[0] == ("/",)
    assert all(any(covers(name, topic) for topic in trace.topics) for names in chosen for name in names)


def test_a_watcher_notices_what_must_not_happen() -> None:
    watcher = Watcher(["a/"])
    for version in (3, 5, 4):
        watcher.take({"event": "change", "topic": "a/b", "version": version, "value": version})
    assert watcher.decreased == 1
    watcher.take({"event": "reset"})
    watcher.take({"event": "change", "topic": "a/b", "version": 1, "value": 1})
    assert (watcher.decreased, watcher.resets) == (1, 1)
    assert watcher.agrees({"a/b": 1, "c": 2})
    assert not watcher.agrees({"a/b": 2})
    watcher.take({"event": "change", "topic": "a/b", "version": 2, "deleted": True})
    assert watcher.agrees({"c": 2})
    assert not watcher.agrees({"a/b": 1})


@pytest.mark.parametrize(
    "event",
    [
        {"event": "refused", "url": "ws://127.0.0.1:1", "message": "no"},
        {"event": "unreadable", "topics": ["a/b"]},
        {"event": "of a later version"},
    ],
    ids=lambda event: event["event"],
)
def test_an_event_that_is_no_change_is_a_complaint(event: dict[str, Any]) -> None:
    watcher = Watcher(["a/"])
    watcher.take({"event": "change", "topic": "a/b", "version": 1, "value": 1})
    watcher.take(event)
    assert (watcher.complaints, watcher.changes) == (1, 1)
    assert watcher.agrees({"a/b": 1})


@pytest.mark.parametrize("field", ["publish_exit_code", "missing", "disagreeing", "decreased", "resets", "complaints"])
def test_a_report_fails_on_each_count(field: str) -> None:
    good = Report(1, 10, 5, 4, 3, 2, kills=2, publish_exit_code=0, acknowledged=10)
    assert good.failures() == []
    setattr(good, field, 1)
    assert not good.ok
    assert good.failures()[0] in str(good)


def test_a_report_fails_on_too_few_kills_or_acknowledgements() -> None:
    assert not Report(1, 10, 5, 4, 3, 2, kills=1, publish_exit_code=0, acknowledged=10).ok
    assert not Report(1, 10, 5, 4, 3, 2, kills=2, publish_exit_code=0, acknowledged=9).ok
