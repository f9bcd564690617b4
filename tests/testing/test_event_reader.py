"""The reader of streams: events from bytes that are cut anywhere, and ages that are never too young (P-SSE-3)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from softstate.position import Position
from softstate.testing.event_reader import CLOCK_RATE_MIN, CLOCK_RATES_MIN, EventParser, StreamReader
from softstate.wire.event_stream import Gone, Synced, gone_event, open_event, reset_event, sync_event


def at(revision: int) -> Position:
    return Position("e", "l", revision)


def change(topic: str, version: int, value: Any = None, **fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"topic": topic, "version": version, "value": value, **fields}).encode()


def sync(revision: int, clock_ms: int, **fields: Any) -> bytes:
    return sync_event(at(revision), Synced(clock_ms, 10_000, **fields))


def opened(*names: str, sent: float = 100.0, clock_ms: int = 5_000) -> StreamReader:
    reader = StreamReader(names)
    reader.asked(sent)
    reader.feed(open_event(clock_ms, 1_700), sent + 0.1)
    return reader


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    data = open_event(1, 1_700) + change("a", 1, "x") + b":\n\n" + sync(7, 2) + gone_event(Gone("renew", 0, 1_000), 321)
    parser = EventParser()
    events = [event for at_ in range(0, len(data), size) for event in parser.feed(data[at_ : at_ + size])]
    assert [event.kind for event in events] == ["open", "message", "sync", "gone"]
    assert [event.id for event in events] == ["", "", "e.l.7", "e.l.7"]
    assert (parser.last_id, parser.retry_ms) == ("e.l.7", 321)


def test_the_age_counts_from_the_sending_however_late_events_come() -> None:
    prompt, held_back = opened("a"), opened("a")
    prompt.feed(sync(1, 5_000), 100.2)
    assert prompt.age_s(100.2) == pytest.approx(0.2 / CLOCK_RATE_MIN)
    prompt.feed(sync(2, 15_000), 110.1)
    # The node read its clock ten of its seconds later, and each of these may be 0.98 of ours.
    assert prompt.age_s(110.1) == pytest.approx((10.1 - 10 * CLOCK_RATES_MIN) / CLOCK_RATE_MIN)
    held_back.feed(sync(1, 5_000) + sync(2, 15_000), 140.0)
    assert held_back.age_s(140.0) == pytest.approx((40.0 - 10 * CLOCK_RATES_MIN) / CLOCK_RATE_MIN)


def test_a_sync_that_is_older_than_the_request_counts_in_full() -> None:
    reader = opened("a")
    reader.feed(sync(1, 4_000), 100.5)
    assert reader.age_s(100.5) == pytest.approx(1.5 / CLOCK_RATE_MIN)


def test_an_age_of_the_future_certifies_nothing() -> None:
    reader = opened("a")
    reader.feed(sync(1, 95_000), 101.0)
    assert reader.age_s(101.0) == math.inf


def test_another_stream_has_another_anchor_and_ages_stay() -> None:
    reader = opened("a")
    reader.feed(sync(1, 5_000), 100.2)
    reader.asked(120.0)
    reader.feed(open_event(70_000, 1), 120.1)
    assert reader.age_s(120.1) == pytest.approx(20.1 / CLOCK_RATE_MIN)
    reader.feed(sync(1, 70_000), 120.2)
    assert reader.age_s(120.2) == pytest.approx(0.2 / CLOCK_RATE_MIN)


def test_what_a_listing_does_not_name_is_gone() -> None:
    reader = opened("p/", "t")
    reader.feed(change("p/a", 1, "a") + change("p/b", 2, "b") + change("t", 3, "t") + sync(3, 5_000), 100.2)
    reader.asked(120.0)  # it goes on: nothing is swept...
    reader.feed(open_event(6_000, 1) + change("p/a", 4, deleted=True) + sync(4, 6_000), 120.1)
    assert sorted(reader.values) == ["p/b", "t"]
    reader.asked(130.0)  # ... but for names whose deletions are forgotten
    reader.feed(open_event(7_000, 1) + change("p/c", 5) + sync(5, 7_000, compacted=["p/"]), 130.1)
    assert sorted(reader.values) == ["p/c", "t"]


def test_a_reset_forgets_all() -> None:
    reader = opened("p/")
    reader.feed(change("p/a", 9, "a") + sync(9, 5_000), 100.2)
    reader.feed(reset_event(Position("e", "m", 3)) + change("p/b", 2, "b"), 101.0)
    assert (reader.resets, reader.last_id, reader.age_s(101.0)) == (1, "", math.inf)
    assert reader.values == {"p/b": (2, "b")}


def test_a_damaged_topic_has_no_age_until_a_change_of_it_comes() -> None:
    reader = opened("p/")
    told = json.dumps({"topic": "p/a", "version": 4, "unknown": True}).encode()
    reader.feed(b"data: %b\n\n" % told + sync(4, 5_000, unreadable=["p/b"]), 100.2)
    assert reader.unreadable == {"p/a", "p/b"}
    reader.feed(change("p/a", 5, "mended") + change("p/b", 6, deleted=True), 100.3)
    assert reader.unreadable == set()


def test_older_versions_do_not_replace_newer_ones() -> None:
    reader = opened("a")
    reader.feed(change("a", 5, "new") + change("a", 4, "old"), 100.1)
    assert reader.values == {"a": (5, "new")}


def test_the_end_tells_when_to_come_back() -> None:
    reader = opened("a")
    reader.feed(gone_event(Gone("slow_consumer", 5_000, 5_000), 7_123), 101.0)
    assert (reader.ended, reader.retry_ms) == ("slow_consumer", 7_123)


def test_a_stream_that_ends_behind_a_reset_is_followed_by_a_listing() -> None:
    reader = opened("p/")
    reader.feed(change("p/a", 9, "a") + sync(9, 5_000) + reset_event(Position("e", "m", 3)), 101.0)
    reader.asked(120.0)
    assert reader.last_id == ""
    reader.feed(
        open_event(6_000, 1) + change("p/b", 2, "b") + sync_event(Position("e", "m", 3), Synced(6_000, 1)), 121.0
    )
    assert (reader.values, reader.last_id) == ({"p/b": (2, "b")}, "e.m.3")
