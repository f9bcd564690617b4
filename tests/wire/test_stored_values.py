"""Stored values that a right checksum vouches for, and that are no values all the same."""

import cbor2
import pytest

from softstate.errors import Unreadable
from softstate.model import Record
from softstate.position import Position
from softstate.wire import CBOR, JSON, Codec, encode_value, value as values
from softstate.wire.messages import Polled
from softstate.wire.push import EncodedChange, PushBatch
from softstate.wire.value import CHECKED_KEPT, cbor_of, is_checked, json_of

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
NO_VALUES = pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\xff\xff",
        b"\x81",
        b"\x82\x01",
        b"\x01\x02",
        b"\xf6\x48",
        b"\x9f\x01\xff",
        b"\x1c",
        b"\xc1\x01",
        b"\xd8\x23\x61(",
        b"\xf7",
        b"\xfb\x7f\xf8\0\0\0\0\0\0",
        b"\xa1\x01\x02",
        b"\x61\xff",
        b"\x1b" + b"\xff" * 8,
        b"\x81" * 40 + b"\x01",
        b"\x81" * 100_000,
        b"\x9b" + b"\xff" * 8,
    ],
    ids=lambda stored: stored[:8].hex(),
)
AT = Position("e", "l", 9)


@NO_VALUES
@BOTH
def test_what_is_no_value_is_unreadable_in_both_codecs(codec: Codec, stored: bytes) -> None:
    bad, good = Record("bad", 3, stored), Record("good", 4, encode_value([1]))
    with pytest.raises(Unreadable):
        codec.value(stored)
    with pytest.raises(Unreadable):
        codec.change(bad)
    page = codec.server_message(codec.encode(Polled(0, AT), [bad, good]))
    assert isinstance(page, Polled)
    assert ([change.topic for change in page.changes], page.unreadable) == (["good"], ["bad"])
    pushed = codec.loads(codec.notify(bad), dict)
    assert pushed == {"op": "notify", "topic": "bad", "version": 3, "unknown": True}
    assert codec.notify(good) in PushBatch([EncodedChange(bad), EncodedChange(good)]).frames(codec)


def test_a_value_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_checked", set())
    stored = cbor2.dumps({"a": [1, 2.5]})
    assert not is_checked(stored)
    assert cbor_of(stored) is stored
    assert is_checked(stored)
    monkeypatch.setattr(values, "check_value", lambda _value: pytest.fail("checked again"))
    assert cbor_of(stored) is stored
    assert json_of(stored) == b'{"a":[1,2.5]}'


def test_a_value_that_was_encoded_here_needs_no_check() -> None:
    assert is_checked(encode_value({"encoded": "here"}))


def test_the_values_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: set[int] = set()
    monkeypatch.setattr(values, "_checked", checked)
    for number in range(CHECKED_KEPT + 10):
        cbor_of(cbor2.dumps(number))
    assert len(checked) == 10
