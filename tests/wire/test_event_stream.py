"""Changes as events: one line of data each, for every kind of value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from softstate.model import Record
from softstate.wire import JSON, encode_value
from softstate.wire.codec.events import EVENTS
from softstate.wire.push import EncodedChange, PushBatch


def record(topic: str, version: int, value: Any) -> Record:
    return Record(topic, version, encode_value(value))


@pytest.mark.parametrize("value", [None, "a\nb\r\nc\u2028d", {"k\n": ["\r", b"\n\r"]}, 2**60, "data: x\n\nevent: gone"])
def test_a_change_is_one_line_of_data(value: Any) -> None:
    one = record("t/ü", 7, value)
    event = EVENTS.change(one)
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert json.loads(event[6:]) == json.loads(JSON.change(one))
    assert EVENTS.notify(one) == event
    assert EVENTS.frame(event) is event


def test_a_deletion_and_a_damaged_record() -> None:
    gone = EVENTS.notify(Record("t", 8, None))
    assert json.loads(gone[6:]) == {"topic": "t", "version": 8, "deleted": True}
    damaged = EVENTS.notify(Record("t", 9, None, unreadable=True))
    assert json.loads(damaged[6:]) == {"topic": "t", "version": 9, "unknown": True}


def test_a_batch_is_encoded_once_for_all_streams() -> None:
    changes = [EncodedChange(record("a", 1, 1)), EncodedChange(record("b", 2, 2))]
    batch = PushBatch(changes)
    data = batch.frames(EVENTS)
    assert data == EVENTS.change(changes[0].record) + EVENTS.change(changes[1].record)
    assert batch.events is data
    assert (batch.cbor, batch.json) == (None, None)
    assert changes[0].frame(EVENTS) is changes[0].frame(EVENTS)
