"""A client of a drill in threads: a sample has what was applied when its age was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

import softstate
from softstate import Change
from softstate.cli.commands.drill import sync_worker
from softstate.cli.commands.drill.reports import Applied, Sample, WorkerPlan
from softstate.cli.commands.drill.sync_worker import Watcher
from tests.kit.loops import node_thread
from tests.kit.processes import WAIT_S, until

T = TypeVar("T")


class Noted(threading.Condition):
    """Tells that a thread waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        self.waiting.set()
        return super().wait_for(predicate, timeout)


def test_a_sample_waits_for_the_thread_that_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_worker, "TAKEN_S_MAX", WAIT_S)
    with node_thread() as node, softstate.sync.connect(node.url) as soft:
        version = soft.publish("d/0/state", {"sent_s": 1.0})
        watcher = Watcher(WorkerPlan([node.url], ["d/0/state"], {7: [0]}), 7)
        assert watcher.sample()[1].age_s is None, "nothing is known yet, and so nothing is waited for"
        watcher._soft.follow("d/0/state")
        until("the topic is known", lambda: watcher._known_versions() is not None)
        found: list[tuple[list[Applied], Sample]] = []
        asking = threading.Thread(target=lambda: found.append(watcher.sample()))
        noted = watcher._taken = Noted()
        asking.start()
        assert noted.waiting.wait(WAIT_S)
        watcher._take(Change("d/0/state", version, {"sent_s": 1.0}))
        asking.join()
        watcher._soft.close()
    ((applied, sample),) = found
    assert [(each.client, each.topic, each.version, each.sent_s, each.resets) for each in applied] == [
        (7, 0, version, 1.0, 0)
    ]
    assert sample.age_s is not None
    assert (sample.client, sample.connects, sample.resets) == (7, 1, 0)


def test_a_version_that_goes_back_is_of_the_history_that_the_client_has_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(WorkerPlan(["ws://127.0.0.1:1"], ["d/0/state"], {7: [0]}), 7)
    monkeypatch.setattr(watcher._soft, "statistics", lambda: softstate.Statistics(resets=2))
    for version in (5, 6, 3, 4):
        watcher._take(Change("d/0/state", version, {"sent_s": 1.0}))
    assert [(each.version, each.resets) for each in watcher._applied] == [(5, 0), (6, 0), (3, 2), (4, 2)]
