from __future__ import annotations

import time

import pytest

from softstate.server.clock import node_clock


def test_it_begins_with_the_process_and_runs_while_the_host_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    with_suspend_s = 1_000.0
    asked: list[int] = []

    def gettime(which: int) -> float:
        asked.append(which)
        return with_suspend_s

    monkeypatch.setattr(time, "clock_gettime", gettime)
    now = node_clock()
    assert now() == 0.0
    with_suspend_s += 3_600.0
    assert now() == 3_600.0
    assert set(asked) == {getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)}
