"""Publishes, very few, with real servers: the bench runs and counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.load.frames import count_frames
from bench.measure.options import Measuring
from bench.measure.rounds import Rounds
from bench.speed import polls, publish


@pytest.mark.timeout(60)
def test_publishes_are_counted_and_compared_with_the_lower_floor() -> None:
    report = publish.publish(Measuring(quick=True), publishers=(2,), run_s=0.05)
    [table] = report.tables
    rows = {row.name: row for row in table.rows}
    for name in (publish.HTTP, publish.WEBSOCKET, publish.KEYED):
        assert 1 <= rows[name].medians["per_commit"] <= 2
    for run, least in zip(rows[publish.RAW].rounds, rows[publish.LEAST_HTTP].rounds, strict=True):
        assert 0 < least["per_s"] <= run["per_s"]
    assert [target.ok is None for target in report.targets] == [False] * 3


def test_the_lower_floor_is_chosen_within_each_round() -> None:
    runs = {publish.RAW: [1.0, 4.0], publish.H11: [2.0, 3.0], publish.ECHO: [0.5, 5.0]}
    result = publish.with_least(Rounds({name: [{"per_s": rate} for rate in rates] for name, rates in runs.items()}))
    assert [run["per_s"] for run in result.runs[publish.LEAST_HTTP]] == [1.0, 3.0]
    assert [run["per_s"] for run in result.runs[publish.LEAST_WEBSOCKET]] == [0.5, 4.0]


def test_requests_are_well_formed() -> None:
    plain, keyed = publish.request_message(keyed=False), publish.request_message(keyed=True)
    assert len(keyed) > len(plain)
    for message in (plain, keyed):
        data = message.encode("latin-1")
        assert data[1] & 0x80, "masked"
        assert count_frames(data[:1] + bytes((data[1] & 0x7F,)) + data[2:]) == -1, "the mask is not part of the length"
    put = publish.request_put()
    head, _, body = put.partition("\r\n\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert polls.retarget(put, "/200/5").startswith("PUT /200/5 HTTP/1.1\r\nHost: ")
