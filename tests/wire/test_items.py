"""Messages are counted before they are decoded, in portions; and the id is read of those that cannot be decoded."""

from collections.abc import Generator
from contextlib import suppress
from itertools import product
from typing import Any

import cbor2
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from softstate.errors import Invalid, TooLarge
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.codec.items import FIELDS_MAX, HEADS_MAX, PORTION, cbor_exceeds, cbor_fields, json_exceeds

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=200)
BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(',[]{}"\\:'), max_size=40)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5), max_leaves=30
)


def count(value: Any) -> int:
    """Count the items of a value the slow way."""
    if isinstance(value, dict):
        return len(value) + sum(map(count, value.values()))
    if isinstance(value, list):
        return len(value) + sum(map(count, value))
    return 0


def text_of(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def drain(counting: Generator[None, None, bool | None]) -> tuple[bool | None, int]:
    """Run a count to its end; return what it found, and how many portions it took."""
    portions = 1
    while True:
        try:
            next(counting)
        except StopIteration as done:
            return done.value, portions
        portions += 1


# Counting ------------------------------------------------------------------------------------------------------------


@CHECKED
@given(VALUES, st.integers(-3, 3))
def test_both_codecs_count_alike_and_know_the_limit_to_the_last_item(value: Any, off: int) -> None:
    items = count(value)
    limit = max(1, items + off)
    assert drain(json_exceeds(text_of(value), limit))[0] == (items > limit)
    assert drain(cbor_exceeds(cbor2.dumps(value), limit))[0] == (items > limit)


@BOTH
def test_the_last_item_fits_and_the_next_is_too_large(codec: Codec) -> None:
    for limit in (1_024, PORTION, 3 * PORTION + 1):
        values: list[Any] = [[0] * limit, ["x" * 9] * limit, [[]] * limit, {str(n): n for n in range(limit)}]
        for value in values:
            drain(codec.check_items(codec.dumps(value), limit))
            with pytest.raises(TooLarge, match=rf"the limit \(message_items_max\), {limit}"):
                drain(codec.check_items(codec.dumps([value]), limit))


def test_a_portion_counts_no_more_than_its_limit() -> None:
    """Each portion is a step of the generator, so the number of steps says how much one does."""
    steps = 10
    text = text_of(["a,"] * (steps * PORTION))
    exceeds, portions = drain(json_exceeds(text, steps * PORTION - 1))
    assert exceeds
    assert portions == steps + 1
    exceeds, portions = drain(cbor_exceeds(cbor2.dumps([["a"]] * (steps * PORTION // 2)), steps * PORTION))
    assert not exceeds
    assert portions == steps + 1


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_a_head_that_announces_too_much_is_refused_at_once(size: int) -> None:
    """A million zeros, and a head that only says so: neither is walked."""
    for data in (cbor2.dumps([0] * size), b"\x9a" + size.to_bytes(4, "big") + bytes(size), b"\xbb" + b"\xff" * 8):
        assert drain(cbor_exceeds(data, 999)) == (True, 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x82\x01", b"\x9f" + b"\x01" * 100 + b"\xff", b"\x98", b"\x1c", b"\x5a\xff\xff\xff\xff"],
    ids=bytes.hex,
)
def test_ill_formed_cbor_is_left_to_the_decoder(data: bytes) -> None:
    assert drain(cbor_exceeds(data, 10)) == (False, 1)
    with pytest.raises(Invalid):
        CBOR.client_message(data)


@pytest.mark.parametrize("tag", [b"\xc0", b"\xd8\x23", b"\xd9\x27\x0f", b"\xdb" + b"\xff" * 8], ids=bytes.hex)
@pytest.mark.parametrize("place", [b"", b"\x82\x01", b"\xa1", b"\xa1\x61k", b"\x98\x64" + b"\x00" * 99], ids=bytes.hex)
def test_a_tag_is_refused_before_what_it_holds_is_decoded(tag: bytes, place: bytes) -> None:
    """cbor2 decodes the content of a tag before it asks what to make of it."""
    for data in (place + tag + cbor2.dumps([0] * 1_000), place + tag * 1_000):
        with pytest.raises(Invalid, match="CBOR tags are not accepted"):
            drain(CBOR.check_items(data, 100))


def test_bytes_behind_an_item_are_refused_before_they_are_decoded() -> None:
    for item in (b"\xa0", b"\x00", b"\x82\x01\x02", b"\x61a"):
        with pytest.raises(Invalid, match="more bytes follow"):
            drain(CBOR.check_items(item + cbor2.dumps([0] * 1_000), 100))


CBOR_PIECES = (
    b"", b"\xa0", b"\x00", b"\x61k", b"\x41k", b"\x81", b"\x82", b"\x98\x02", b"\x9b" + bytes(7) + b"\x04",
    b"\xa1", b"\xa2", b"\xb8\x02", b"\xc1", b"\xc6", b"\xd9\x01\x02", b"\xd9\x27\x0f", b"\x9a\xff\xff\xff\xff",
    b"\x7b" + b"\xff" * 8, b"\x9f", b"\xbf", b"\x5f", b"\x7f", b"\xdf", b"\x1f", b"\xff", b"\x1c", b"\x5d", b"\x9e",
    b"\xbc", b"\xdd", b"\xfc", b"\xf8\x14", b"\x61\xff",
)  # fmt: skip
JSON_PIECES = (
    "", "0", "0.5", '"k"', '"', "\\", '"\\"', '\\"', '"[', ',"', "[", "[ ", "[]", "]", "{", "{ ", "{}", "}",
    ",", ":", " ", '{"k":', '"k":', "\u00a0", "\x1c", "\0", "\n", "\ufeff", "nul", "true", "//", "'", "\\u0022",
)  # fmt: skip


def test_cbor_decodes_no_more_than_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All combinations of heads, right and wrong, ahead of more maps than the limit: each that is decoded is noted."""
    limit, decoded, loads = 40, 0, cbor2.loads

    def note(item: Any, *_immutable: object) -> Any:
        nonlocal decoded
        decoded += 1
        return item

    monkeypatch.setattr(cbor2, "loads", lambda *args, **kwargs: loads(*args, **kwargs, object_hook=note))
    CBOR.loads(cbor2.dumps([{}] * limit), object)
    assert decoded == limit
    fit = 0
    for pieces in product((b"", b"\x82", b"\xa1\x61k", b"\x98\x03"), CBOR_PIECES, CBOR_PIECES):
        data = b"".join(pieces) + cbor2.dumps([{}] * (limit + 10))
        decoded = 0
        with suppress(Invalid, TooLarge):
            drain(CBOR.check_items(data, limit))
            fit += 1
            CBOR.loads(data, object)
        assert decoded <= limit, data.hex()
    assert fit > 1_000


def test_json_decodes_no_more_than_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for CBOR, with floats, since those can be noted."""
    limit, decoded = 40, 0

    def note(text: str) -> float:
        nonlocal decoded
        decoded += 1
        return float(text)

    decoder = msgspec.json.Decoder(float_hook=note)
    monkeypatch.setattr("softstate.wire.codec.json.decoder_of", lambda _kind, **_long: decoder)
    JSON.loads(text_of([0.5] * limit), object)
    assert decoded == limit
    fit = 0
    for pieces in product(("", "[0,", '{"k":', "[["), JSON_PIECES, JSON_PIECES):
        text = "".join(pieces) + text_of([0.5] * (limit + 10))
        decoded = 0
        with suppress(Invalid, TooLarge):
            drain(JSON.check_items(text, limit))
            fit += 1
            JSON.loads(text, object)
        assert decoded <= limit, text
    assert fit > 1_000


def test_ill_formed_json_is_left_to_the_decoder() -> None:
    for text in ('"' + "," * 100, '["\\', "[" * 5 + '"' + "[" * 100, '{"a' + "," * 100):
        assert drain(json_exceeds(text, 10))[0] is False
        with pytest.raises(Invalid):
            JSON.client_message(text)


@BOTH
def test_a_short_message_is_not_counted(codec: Codec) -> None:
    """No message has more items than bytes."""
    data = codec.dumps([0] * 100)
    assert drain(codec.check_items(data, len(data))) == (None, 1)


def test_a_text_on_a_cbor_connection_and_bytes_that_are_no_text_are_refused() -> None:
    drain(CBOR.check_items("x" * 100, 10))
    with pytest.raises(Invalid, match="not UTF-8"):
        drain(JSON.check_items(b"\xff" * 100, 10))


# The id of what cannot be decoded ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("number", [0, 7, 2**53 - 1, "r-1", ""])
@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("publish", {"topic": "a", "value": 1, "expect": True}),
        ("publish", {"topic": "a", "value": 1, "expect": 1.5}),
        ("publish", {"topic": 7, "value": {"id": 99, "op": "poll"}}),
        ("subscribe", {"topics": {"a": -1}}),
        ("poll", {"prefixes": ["a/"]}),
        ("renew", {"digest": 1}),
    ],
)
def test_the_id_of_a_request_with_a_wrong_field_is_read(codec: Codec, number: Any, op: str, fields: Any) -> None:
    for message in ({"op": op, "id": number, **fields}, {**fields, "op": op, "id": number}):
        data = codec.dumps(message)
        with pytest.raises(Invalid):
            codec.request(data)
        assert codec.request_id(data) == number


def test_a_key_of_bytes_is_answered_by_its_id() -> None:
    data = cbor2.dumps({"op": "publish", "key": b"x", "id": 3, "topic": "a", "value": 1})
    with pytest.raises(Invalid, match="key"):
        CBOR.request(data)
    assert CBOR.request_id(data) == 3


@pytest.mark.parametrize(
    "value",
    [b"\xd8\x23\x61(", b"\xf9\x7e", b"\x9f\x01", b"\x81" * 200 + b"\x00", b"\xa2\x61a\x01\x61a\x02", b"\xa1\x01\x01"],
    ids=bytes.hex,
)
def test_the_id_before_a_value_that_no_decoder_takes_is_read(value: bytes) -> None:
    data = b"\xa4" + cbor2.dumps({"op": "publish", "id": 5, "topic": "a"})[1:] + b"\x65value" + value
    with pytest.raises(Invalid):
        CBOR.request(data)
    assert CBOR.request_id(data) == 5
    behind = b"\xa3\x65value" + value + cbor2.dumps({"op": "publish", "id": 5})[1:]
    assert CBOR.request_id(behind) in (5, None)


@pytest.mark.parametrize("value", ["[1,}", "[" * 90_000, '"\\ud800"', '"\\x"', "1" * 5_000, '{"id":9', "nul"])
def test_the_id_before_a_value_that_is_no_json_is_read(value: str) -> None:
    text = f'{{"op":"publish", "id" : 5,"topic":"a\\"b","value":{value}}}'
    with suppress(Invalid):
        JSON.client_message(text)
    assert JSON.request_id(text) == JSON.request_id(text.encode()) == 5


@pytest.mark.parametrize(
    "text",
    [
        '{"op":"hello","id":7}',
        '{"op":"later","id":7}',
        '{"id":7}',
        '{"op":7,"id":7}',
        '{"op":["publish"],"id":7}',
        '{"op":"publish","id":true}',
        '{"op":"publish","id":1.5}',
        '{"op":"publish","id":-1}',
        '{"op":"publish","id":[1]}',
        f'{{"op":"publish","id":"{"x" * 65}"}}',
        '{"op":"publish","value":{"id":3},"id":',
        '{"op":"publish","value":[{"op":"publish","id":3}',
        "[1]",
        "",
    ],
)
def test_no_id_is_made_up(text: str) -> None:
    assert JSON.request_id(text) is None
    try:
        data = cbor2.dumps(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return
    assert CBOR.request_id(data) is None


def test_no_more_is_read_for_an_id_than_the_limit() -> None:
    for zeros, found in (
        (HEADS_MAX - 6, [b"\x62op", b"\x65value", b"\x62id"]),
        (HEADS_MAX - 5, [b"\x62op", b"\x65value"]),
    ):
        data = b"\xa3\x62op\x67publish\x65value" + cbor2.dumps([0] * zeros) + b"\x62id\x05"
        assert list(cbor_fields(data)) == found
    assert list(cbor_fields(b"\xa1\x65value" + cbor2.dumps([0] * (HEADS_MAX - 2)))) == [b"\x65value"]
    assert list(cbor_fields(b"\xa1\x65value" + cbor2.dumps([0] * (HEADS_MAX - 1)))) == []
    many = "{" + ",".join(f'"f{number}":1' for number in range(FIELDS_MAX)) + ',"op":"publish","id":5,}'
    assert JSON.request_id(many) is None


@BOTH
@pytest.mark.parametrize("field", ["op", "id"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_list_in_place_of_an_id_is_not_decoded(
    codec: Codec, field: str, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a message that was refused by its count were decoded after all."""
    decoded = 0

    def note(item: Any, *_immutable: object) -> Any:
        nonlocal decoded
        decoded += 1
        return item

    def decode(data: bytes | str, **kind: Any) -> Any:
        return msgspec.json.Decoder(kind.get("type", Any), float_hook=note).decode(data)

    loads = cbor2.loads
    long: list[list[Any]] = [[0.5] * 5_000, [{}] * 5_000, [[{"k": 0.5}]] * 1_000, ["x" * 5_000, 0.5, {}]]
    for item in long:
        data = codec.dumps({"op": "renew", "id": 1} | {field: item})
        with monkeypatch.context() as patch:
            patch.setattr(cbor2, "loads", lambda *args, **kwargs: loads(*args, **kwargs, object_hook=note))
            patch.setattr(msgspec.json, "decode", decode)
            assert codec.request_id(data if closed else data[:-1]) is None
        assert decoded == 0


@BOTH
def test_the_longest_id_is_read_however_it_is_written(codec: Codec) -> None:
    for number in ("x" * 64, "\U0001f600" * 64, "\x01" * 64):
        assert codec.request_id(codec.dumps({"op": "renew", "id": number, "digest": 1})) == number
        assert codec.request_id(codec.dumps({"op": "renew", "id": number + "x", "digest": 1})) is None
    escaped = "\\ud83d\\ude00" * 64
    for text in (f'{{"op":"renew","id":  "{escaped}","digest":1}}', f'{{"op":"renew","id":"{escaped}", 1}}'):
        assert JSON.request_id(text) == "\U0001f600" * 64
    op = "".join(f"\\u{ord(character):04x}" for character in "subscribe")
    assert JSON.request_id(f'{{"op":"{op}", "id" :{" " * 5_000}7 ,"topics":[]}}') == 7


@BOTH
def test_the_error_of_a_huge_message_is_short(codec: Codec) -> None:
    for message in ({"op": "x" * 100_000}, {"op": "subscribe", "id": 1, "topics": {"y" * 100_000: "z" * 100_000}}):
        with pytest.raises(Exception, match=r".") as caught:
            codec.request(codec.dumps(message))
        assert len(str(caught.value)) < 600
    twice = b"\xa2" + (cbor2.dumps("k" * 100_000) + b"\x01") * 2
    with pytest.raises(Invalid) as refused:
        CBOR.request(twice)
    assert len(refused.value.message) < 600
