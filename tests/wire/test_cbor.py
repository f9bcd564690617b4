"""CBOR: plain types only, each in its usual form."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import cbor2
import pytest

from softstate.errors import Invalid
from softstate.wire import CBOR, encode_value
from tests.wire.decoding import cbor_value, refused

BODIES = [b"\x61(", b"\x41\x01", b"\x01", b"\x82\x01\x02", b"\xa1\x61a\x01", b"\xf6", b""]


def test_every_tag_is_refused_before_it_does_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def compile_regex(*_args: object) -> None:
        compiled.append(_args)
        raise AssertionError

    monkeypatch.setattr(re, "compile", compile_regex)
    # Where an earlier test of this process has read such a tag, cbor2 keeps the function that it has found then.
    with suppress(AssertionError, cbor2.CBORDecodeError):
        compiled.append(isinstance(cbor2.loads(bytes.fromhex("d8236161")), re.Pattern))
    assert any(compiled), "the tag does something, unless it is refused"

    unlike = []
    for tag in range(70_001):
        head = cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1]
        for body in BODIES if tag < 300 else BODIES[tag % 2 : 6 : 2]:
            try:
                CBOR.loads(head + body, object)
            except Invalid as error:
                # A tag without its body is cut short, if cbor2 does not ask us before it reads the body.
                if "CBOR tags are not accepted" not in error.message and body:
                    unlike.append((tag, body, error.message))
            else:
                unlike.append((tag, body, "accepted"))
    assert unlike == []


@pytest.mark.parametrize("tag", [2**16, 2**32 - 1, 2**32, 2**64 - 1])
def test_tags_of_every_width_are_refused(tag: int) -> None:
    assert "tags are not accepted" in refused(cbor2.dumps(cbor2.CBORTag(tag, "x")), CBOR)


@pytest.mark.parametrize("item", [b"\xc1\x00", b"\x81\xc1\x00", b"\xa1\x61k\xc1\x00", b"\xa1\xd8\x19\x00\x00"])
def test_a_tag_inside_a_value_is_refused_wherever_it_is(item: bytes) -> None:
    with pytest.raises(Invalid, match="CBOR item of plain types"):
        cbor_value(item)
    with pytest.raises(Invalid, match="CBOR item of plain types"):
        CBOR.client_message(b"\xa2\x62op\x65hello\x61x" + item)  # in an unknown field


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (b"\x9f\x01\xff", "indefinite"),
        (b"\xbf\x61a\x01\xff", "indefinite"),
        (b"\x7f\x61a\xff", "indefinite"),
        (b"\x5f\x41a\xff", "indefinite"),
        (b"\xff", "break"),
        (b"\xa2\x61a\x01\x61a\x02", "Duplicate"),
        (b"\xa2\x61a\x01\x78\x01a\x02", "Duplicate"),
        (b"\xa1\x01\x01", "map key"),
        (b"\xa1\xf5\x01", "map key"),
        (b"\xa1\xf6\x01", "map key"),
        (b"\xa1\x80\x01", "map key"),
        (b"\xa1\xf9\x3c\x00\x01", "map key"),
        (b"\x61\xff", "utf-8"),
        (b"\x63\xed\xa0\x80", "utf-8"),
        (b"\x1c", "subtype"),
        (b"\xfc", "reserved"),
        (b"\xf8\x14", "invalid"),
        (b"\x9b" + b"\xff" * 8, "premature end"),
        (b"\xbb" + b"\x7f" * 8, "premature end"),
        (b"\x5b" + b"\xff" * 8, "premature end"),
        (b"\x7a" + b"\xff" * 4, "premature end"),
    ],
    ids=lambda part: part.hex() if isinstance(part, bytes) else part,
)
def test_ill_formed_or_unusual_cbor_is_refused(item: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        cbor_value(item)
    assert why in refused(item, CBOR)


@pytest.mark.parametrize(
    "item",
    [
        b"\xf7",
        b"\xe0",
        b"\xf3",
        b"\xf8\x20",
        b"\xf8\xff",
        b"\xf9\x7e\x00",
        b"\xf9\x7c\x00",
        b"\xf9\xfc\x00",
        b"\xfb\x7f\xf8" + bytes(6),
        b"\x1b\x80" + bytes(7),
        b"\x1b" + b"\xff" * 8,
        b"\x3b\x80" + bytes(7),
        b"\x3b" + b"\xff" * 8,
        b"\xa1\x41a\x01",
        b"\xa1\x66$bytes\x00",
        b"\xa1\x66$bytes\x64YQ==",
        b"\xa1\x66$bytes\x41a",
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("inside", [b"", b"\x81", b"\x82\x01", b"\xa1\x61k"], ids=["bare", "list", "second", "map"])
def test_what_only_cbor_can_say_does_not_get_past_the_check_of_the_value(item: bytes, inside: bytes) -> None:
    value = cbor_value(inside + item)
    with pytest.raises(Invalid, match="value"):
        encode_value(value)


@pytest.mark.parametrize("item", [b"\xf7", b"\xe0", b"\xf8\xff", b"\xf9\x7e\x00", b"\x41a"], ids=bytes.hex)
def test_what_only_cbor_can_say_is_refused_in_every_field(item: bytes) -> None:
    with pytest.raises(Invalid, match=r"\$\.op"):
        CBOR.client_message(b"\xa1\x62op" + item)
    with pytest.raises(Invalid, match=r"\$\.ttl_ms"):
        CBOR.client_message(b"\xa2\x62op\x65hello\x66ttl_ms" + item)
    with pytest.raises(Invalid, match=r"\$\.topics"):
        CBOR.client_message(b"\xa3\x62op\x69subscribe\x62id\x01\x66topics" + item)


@pytest.mark.parametrize("fields", [{b"op": "hello"}, {"op": "hello", b"x": 1}], ids=repr)
def test_byte_string_keys_are_refused(fields: dict[Any, Any]) -> None:
    with pytest.raises(Invalid):
        CBOR.client_message(cbor2.dumps(fields))
    with pytest.raises(Invalid, match="topics"):
        CBOR.client_message(cbor2.dumps({"op": "subscribe", "id": 1, "topics": {b"a": 1}}))
