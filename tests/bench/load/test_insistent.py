"""Innocents beside askers: their delays count from when a read was due, also if no answer comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from bench.load import insistent
from bench.load.insistent import Load


async def delays_of(
    monkeypatch: pytest.MonkeyPatch, answers: Iterator[float], run_s: float, connect_s: float = 0.0
) -> list[float]:
    """Return the delays of an innocent whose reads are answered so late."""

    async def connect(*_: object) -> None:
        await trio.sleep(connect_s)

    async def answer(*_: object) -> tuple[int, bytes]:
        await trio.sleep(next(answers))
        return 200, b""

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    monkeypatch.setattr(insistent, "ask", answer)
    load = Load(1)
    with trio.move_on_after(run_s):
        await load.be_innocent("/v1/topics/a")
    assert load.counts["innocents_failed"] == 0
    return [round(delay_s, 6) for delay_s in load.took_s]


async def test_delays_count_from_when_a_read_was_due(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    answers = iter([0.01, 0.175, 0.01, 0.01, 0.01, 0.01])
    assert await delays_of(monkeypatch, answers, run_s=0.299) == [0.01, 0.175, 0.135, 0.095, 0.055, 0.015]


async def test_reads_without_an_answer_count_as_long_as_they_have_waited(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    answers = iter([0.01, 100.0])
    assert await delays_of(monkeypatch, answers, run_s=0.22) == [0.01, 0.17, 0.12, 0.07, 0.02]


async def test_a_node_that_takes_no_connection_keeps_innocents_waiting(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    assert await delays_of(monkeypatch, iter([]), run_s=0.12, connect_s=1.0) == [0.12, 0.07, 0.02]


async def test_an_innocent_that_waits_for_its_next_read_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    assert await delays_of(monkeypatch, iter([0.0, 0.0, 0.0]), run_s=0.12) == [0.0, 0.0, 0.0]
