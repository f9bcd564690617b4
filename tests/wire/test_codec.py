import os
import random
from typing import Any

import cbor2
import pytest

from softstate.errors import Invalid, SoftstateError, Unsupported
from softstate.model import Change, Record
from softstate.position import Position
from softstate.wire import CBOR, JSON, VALUE_DEPTH_MAX, Codec, encode_value
from softstate.wire.codec.base import _FROM_CLIENTS, _FROM_SERVERS
from softstate.wire.codec.cbor import MESSAGE_DEPTH_MAX
from softstate.wire.codec.json import SHORT_BYTES
from softstate.wire.messages import Hello, Notify, Polled, Publish
from softstate.wire.value import FLOAT_CHARS_MAX, read_float
from tests.wire.decoding import BOTH, CBOR_HEAD, JSON_HEAD, cbor_value, json_value, refused

AT = Position("e", "l", 7)


# One whole item, and nothing else ------------------------------------------------------------------------------------


@BOTH
def test_every_truncation_is_refused(codec: Codec) -> None:
    data = codec.encode(Publish(id=1, topic="a", value={"b": [1, "text", b"bytes", 2.5, None]}))
    for size in range(len(data)):
        refused(data[:size], codec)
    assert codec.client_message(data)


@pytest.mark.parametrize(
    "extra",
    [b"\x00", b"\xf6", b"\xff", b"\xa0", b"\x48", b"\x49", b"\x58\x09", b"\x48" + bytes(8), b"\x82", b" ", b"\n"],
)
def test_bytes_after_a_cbor_message_are_refused(extra: bytes) -> None:
    assert "CBOR item" in refused(CBOR.encode(Hello()) + extra, CBOR)


def test_a_cbor_message_twice_is_refused() -> None:
    assert "more bytes follow" in refused(CBOR.encode(Hello()) * 2, CBOR)


def test_a_peer_that_has_learnt_what_follows_its_messages_can_append_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an error may tell some of it: a text of nine bytes takes it in, and is no UTF-8."""
    drawn: list[bytes] = []
    draw = os.urandom

    def noted(count: int) -> bytes:
        drawn.append(draw(count))
        return drawn[-1]

    monkeypatch.setattr("softstate.wire.codec.cbor.os.urandom", noted)
    hello = CBOR.encode(Hello())
    assert CBOR.request(hello) == Hello()
    assert "more bytes follow" in refused(hello + b"\x48" + drawn[-1], CBOR)


@pytest.mark.parametrize("extra", ["x", "{}", ",", "\0", "\x1f", "\ufeff", "}"])
def test_anything_but_white_space_around_a_json_message_is_refused(extra: str) -> None:
    refused('{"op":"hello"}' + extra, JSON)
    refused(extra + '{"op":"hello"}', JSON)
    assert JSON.client_message(' \r\n\t{"op":"hello"} \r\n\t') == Hello()


@BOTH
def test_nothing_at_all_is_refused(codec: Codec) -> None:
    refused(b"", codec)
    if codec.text:
        refused("", codec)
        refused(" ", codec)


def test_a_text_frame_on_a_cbor_connection_is_refused_and_json_reads_both() -> None:
    assert "send binary messages" in refused(JSON.encode(Hello()).decode(), CBOR)
    refused(JSON.encode(Hello()), CBOR)
    refused(CBOR.encode(Hello()), JSON)
    assert JSON.client_message(JSON.encode(Hello())) == JSON.client_message(JSON.encode(Hello()).decode()) == Hello()


@BOTH
@pytest.mark.parametrize("item", [None, True, 1, 1.5, "hello", ["hello"], []], ids=repr)
def test_a_message_that_is_no_map_is_refused(codec: Codec, item: object) -> None:
    for decode in (codec.client_message, codec.server_message):
        with pytest.raises(Invalid, match="Expected `object`"):
            decode(codec.dumps(item))


# Numbers -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53, -(2**53) - 1, 0])
def test_integers_of_64_bits_are_exact(codec: Codec, number: int) -> None:
    value = cbor_value(cbor2.dumps(number)) if codec is CBOR else json_value(str(number))
    assert (type(value), value) == (int, number)
    assert encode_value(value)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64 - 1, -(2**64), 2**64, -(2**64) - 1, 10**30])
def test_longer_integers_are_refused_and_never_become_floats(number: int) -> None:
    with pytest.raises(Invalid):
        encode_value(json_value(str(number)))
    with pytest.raises(Invalid):
        encode_value(cbor_value(cbor2.dumps(number)))
    for place in ("ttl_ms", "since"):
        with pytest.raises(Invalid, match=place):
            JSON.client_message(f'{{"op":"hello","{place}":{number}}}')
        with pytest.raises(Invalid):
            CBOR.client_message(cbor2.dumps({"op": "hello", place: number}))


@pytest.mark.parametrize("digits", [4_300, 5_000, 100_000])
def test_integers_of_very_many_digits_are_refused(digits: int) -> None:
    for text in ("9" * digits, "-" + "9" * digits):
        with pytest.raises(Invalid):
            encode_value(json_value(text))
        with pytest.raises(Invalid, match="since"):
            JSON.client_message(f'{{"op":"hello","since":{text}}}')


def test_a_number_that_is_long_to_read_is_refused_in_a_long_message_and_others_are_exact() -> None:
    """msgspec takes 22 us for a number of twenty digits and a large exponent, where `read_float` takes two."""
    for text in ("1.2345678901234567890e300", "-1.7976931348623157e308", "2.2250738585072011e-308", "5e-324", "-0.0"):
        for number in (text, text.upper(), text[:3] + "0" * (FLOAT_CHARS_MAX - len(text)) + text[3:]):
            assert len(number) <= FLOAT_CHARS_MAX
            for pad in ("", " " * SHORT_BYTES):
                found = (json_value(f"[{pad}{number}]"), JSON.loads(f"[{pad}{number}]", object))
                assert str(found) == str(([float(number)], [float(number)]))
    at_limit = "0." + "1" * (FLOAT_CHARS_MAX - 2)
    assert json_value(at_limit + " " * SHORT_BYTES) == float(at_limit)
    assert json_value(at_limit + "1") == float(at_limit + "1")
    for number in (at_limit + "1", "1e" + "0" * 50 + "1", "0." + "0" * 100_000 + "1"):
        assert "more than 40 characters" in refused(number + " " * SHORT_BYTES, JSON)
        with pytest.raises(Invalid, match=r"more than 40 characters - at `\$\.value`"):
            json_value(number + " " * SHORT_BYTES)
    for kinds in (_FROM_CLIENTS, _FROM_SERVERS):
        assert (kinds.json.float_hook, kinds.long_json.float_hook) == (None, read_float)
    with pytest.raises(Invalid, match="out of range"):
        json_value("1e400" + " " * SHORT_BYTES)


# Nesting -------------------------------------------------------------------------------------------------------------


def nested(depth: int, leaf: object = 0) -> Any:
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@BOTH
@pytest.mark.parametrize("leaf", [0, b"x", {}], ids=repr)
def test_a_value_at_the_depth_limit_passes_in_every_message(codec: Codec, leaf: object) -> None:
    value = nested(VALUE_DEPTH_MAX - (leaf == {}), leaf)
    record = Record("a", 1, encode_value(value))
    message = codec.client_message(codec.encode(Publish(id=1, topic="a", value=value)))
    assert isinstance(message, Publish)
    assert encode_value(message.value) == record.cbor
    page = codec.server_message(codec.encode(Polled(id=1, position=AT), [record]))
    assert isinstance(page, Polled)
    assert page.changes == [Change("a", 1, value=value)]
    assert codec.server_message(codec.notify(record)) == Notify("a", 1, value=value)


@BOTH
@pytest.mark.parametrize("leaf", [0, b"x", {}], ids=repr)
def test_a_value_one_level_deeper_is_refused_before_it_is_used(codec: Codec, leaf: object) -> None:
    data = codec.encode(Publish(id=1, topic="a", value=nested(VALUE_DEPTH_MAX + (leaf != {}), leaf)))
    with pytest.raises(Invalid, match="deeper than 32 levels"):
        message = codec.client_message(data)
        assert isinstance(message, Publish)
        encode_value(message.value)


def test_a_cbor_message_has_a_depth_limit() -> None:
    head, at_limit = b"\xa2\x62op\x65hello\x61x", b"\x81" * (MESSAGE_DEPTH_MAX - 1) + b"\x01"
    assert CBOR.client_message(head + at_limit) == Hello()
    with pytest.raises(Invalid, match="depth"):
        CBOR.client_message(head + b"\x81" + at_limit)


@pytest.mark.parametrize("item", [b"\x81", b"\xa1\x61a", b"\x82\x00", b"\xc6", b"\xd9\xd9\xf7", b"\x9f"], ids=bytes.hex)
def test_a_recursion_bomb_in_cbor_is_refused(item: bytes) -> None:
    bomb = item * 100_000
    refused(bomb, CBOR)
    refused(bomb + b"\x00", CBOR)
    for head in (CBOR_HEAD, b"\xa2\x62op\x65hello\x61x"):
        with pytest.raises(Invalid):
            CBOR.client_message(head + bomb + b"\x00")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"$bytes":', "}]")])
def test_a_recursion_bomb_in_json_is_refused(opening: str, closing: str) -> None:
    for bomb in (opening * 100_000, opening * 100_000 + "0" + closing * 100_000):
        refused(bomb, JSON)
        for head in (JSON_HEAD, '{"op":"hello","x":'):
            with pytest.raises(Invalid, match="too deep"):
                JSON.client_message(f"{head}{bomb}}}")


# Anything ------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages_are_decoded_or_refused_and_nothing_else_happens(codec: Codec, seed: int) -> None:
    chance = random.Random(seed)
    whole = codec.encode(Publish(id="x", topic="a", value={"k": [1, 2.5, None, True, b"x", "é", {"z": []}]}))
    outcomes: set[type] = set()
    for _ in range(3_000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        try:
            outcomes.add(type(codec.client_message(bytes(data))))
        except SoftstateError as error:
            outcomes.add(type(error))
    assert {Publish, Invalid} <= outcomes


def test_an_error_quotes_little_of_what_was_sent() -> None:
    """Found by fuzzing: an unknown op of a megabyte came back whole."""
    with pytest.raises(Unsupported, match=r"^unknown op: Invalid value 'xxx.*\$\.op") as caught:
        JSON.client_message('{"op":"' + "x" * 100_000 + '"}')
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("codec", [CBOR, JSON], ids=["cbor", "json"])
@pytest.mark.parametrize("number", [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1])
def test_a_number_between_the_parts_of_a_message_makes_it_whole(codec: Codec, number: int) -> None:
    polled = Polled(0, Position("epoch", "lineage", 7), next_ms=5, lag_ms=250, credentials_ms=0)
    before, behind = codec.cut(polled, "credentials_ms")
    whole = Polled(0, polled.position, next_ms=5, lag_ms=250, credentials_ms=number)
    assert before + codec.number(number) + behind == codec.encode(whole)
