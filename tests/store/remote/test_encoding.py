"""How values lie in a remote engine: what nodes put there, and what other programs do."""

from __future__ import annotations

import pytest

from softstate.errors import Invalid, RequestError, TooLarge
from softstate.store.remote.encoding import MAGIC, TOMBSTONE, cbor_of_json, recovered, to_stored
from softstate.wire import decode_value, encode_value

VALUES = [None, True, 0, -(2**63), 2**63 - 1, 1.5, "é\U0001f600", b"\x00\xff", [1, [2]], {"a": {"b": None}}, "", [], {}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_a_node_publishes_comes_back(value: object) -> None:
    cbor = encode_value(value)
    stored = to_stored(cbor)
    assert recovered(stored) == cbor
    with pytest.raises(UnicodeDecodeError):
        stored.decode()


def test_tombstones() -> None:
    assert to_stored(None) == TOMBSTONE
    assert to_stored(b"") == MAGIC, "an empty value, were there one, would not read as a deletion"


@pytest.mark.parametrize(
    ("json", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\\u00e9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b' "x" ', "x"),
        (b'{"$bytes": "AP8="}', b"\x00\xff"),
        (b"9223372036854775807", 2**63 - 1),
        (b"[1, 1.0]", [1, 1.0]),
    ],
)
def test_what_another_program_puts_there(json: bytes, value: object) -> None:
    cbor = recovered(json)
    assert cbor is not None
    found = decode_value(cbor)
    assert (found, repr(found)) == (value, repr(value)), "1 and 1.0 are told apart"


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (b"{", Invalid),
        (b" ", Invalid),
        (b"NaN", Invalid),
        (b"\xff\xfe", Invalid),
        (b'"\xff"', Invalid),
        (b'"\\ud800"', Invalid),
        (b"1e999", Invalid),
        (b"18446744073709551616", Invalid),
        (b'{"$bytes": "*"}', Invalid),
        (b"[" * 33 + b"]" * 33, Invalid),
        (b"[" * 100_000, Invalid),
        (b'"' + b"x" * 65_536 + b'"', TooLarge),
    ],
)
def test_what_cannot_be_carried_is_not_recovered(stored: bytes, kind: type[RequestError]) -> None:
    with pytest.raises(kind):
        cbor_of_json(stored)
    assert recovered(stored) is None


@pytest.mark.parametrize("cbor", [b"", b"\xff\xff", b"\x01\x01", b"\x82\x01"], ids=repr)
def test_cbor_that_does_not_decode_is_not_recovered(cbor: bytes) -> None:
    assert recovered(MAGIC + cbor) is None


def test_limit_is_of_the_cbor() -> None:
    assert cbor_of_json(b" " * 1000 + b"1", limit_bytes=1) == b"\x01"
    with pytest.raises(TooLarge, match="value_bytes"):
        cbor_of_json(b"1000", limit_bytes=2)


def test_limit_of_items_is_for_what_is_published() -> None:
    """A value that is stored already has as many as were accepted then."""
    assert decode_value(cbor_of_json(b"[0" + b",0" * 4_095 + b"]")) == [0] * 4_096
    for more in (b"[0" + b",0" * 4_096 + b"]", b'{"a":[' + b"[]," * 4_095 + b"0]}"):
        with pytest.raises(TooLarge, match=r"value_items_max\), 4096"):
            cbor_of_json(more)
        assert recovered(more) is not None
