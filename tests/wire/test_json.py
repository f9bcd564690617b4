"""JSON: well formed, in UTF-8, and bytes as `$bytes`."""

from __future__ import annotations

import pytest

from softstate.errors import Invalid, Unsupported
from softstate.wire import JSON
from softstate.wire.messages import Poll, Subscribe
from tests.wire.decoding import JSON_HEAD, json_value, refused


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "1e400",
        "-1e400",
        "01",
        "+1",
        "1.",
        ".5",
        "0x10",
        "'a'",
        "[1,]",
        '{"a":1,}',
        "{1:1}",
        "{a:1}",
        "undefined",
        '"\n"',
        '"\\x41"',
        '"\\ud800"',
        '"\\udc00"',
        '"\\udc00\\ud800"',
        '"\\ud800x"',
        '{"\\ud800":1}',
        "//",
        "",
    ],
)
def test_ill_formed_json_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        json_value(text)
    refused(text, JSON)


def test_json_escapes_of_a_surrogate_pair_are_one_character() -> None:
    assert json_value('"\\ud834\\udd1e"') == "𝄞"


@pytest.mark.parametrize(
    "data", [b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf1", b'"\xc0\x80"', b"\xff\xfe1\x00"]
)
def test_json_that_is_not_utf_8_is_refused(data: bytes) -> None:
    refused(data, JSON)
    with pytest.raises(Invalid):
        JSON.client_message(JSON_HEAD.encode() + data + b"}")


def test_a_str_that_is_not_unicode_is_refused() -> None:
    assert "not valid Unicode" in refused('"\ud800"', JSON)


def test_the_last_of_duplicate_json_keys_counts() -> None:
    assert json_value('{"a":1,"a":2}') == {"a": 2}
    assert JSON.client_message('{"op":"subscribe","id":1,"id":2}') == Subscribe(id=2)
    assert json_value('{"$bytes":"YQ==","$bytes":"Yg=="}') == b"b"


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ('"op":"bye","op":"renew","id":1,"digest":"","count":0', 1),
        ('"op":"renew","id":1,"digest":"","count":0,"op":"bye"', None),
        ('"id":2,"op":"renew","op":"subscribe"', 2),
        ('"op":"later","id":3,"o\\u0070":"poll"', 3),
        ('"op":"publish","id":4,"topic":"a","value":1,"op":"poll"', 4),
    ],
)
def test_a_second_operation_is_invalid_and_not_unknown(fields: str, number: int | None) -> None:
    for data in (f"{{{fields}}}", f"{{{fields}}}".encode()):
        with pytest.raises(Invalid, match="names two"):
            JSON.client_message(data)
        assert JSON.request_id(data) == number
    with pytest.raises(Invalid, match="names two"):
        JSON.server_message('{"op":"renewed","id":1,"op":"bye"}')


def test_an_operation_that_comes_twice_is_one_and_an_unknown_last_one_is_unsupported() -> None:
    assert JSON.client_message('{"op":"poll","id":1,"op":"poll"}') == Poll(id=1)
    for last in ('"later"', '"later","op":"later"', f'"{"x" * 100_000}"'):
        for first in ("poll", "later"):
            with pytest.raises(Unsupported, match="unknown op"):
                JSON.client_message(f'{{"op":"{first}","id":1,"op":{last}}}')
    for last in ("7", "null", '["poll"]', "{}"):
        with pytest.raises(Invalid, match=r"Expected `str` - at `\$\.op`"):
            JSON.client_message(f'{{"op":"poll","id":1,"op":{last}}}')
        with pytest.raises((Invalid, Unsupported), match=r"\$\.op"):
            JSON.client_message(f'{{"op":"later","id":1,"op":{last}}}')


@pytest.mark.parametrize(
    "text", ["5", "null", "true", "[]", "{}", '"YQ"', '"Y Q=="', '"YQ==\\n"', '"é"', '"YQ==YQ=="', '"-_-_"', '["YQ=="]']
)
@pytest.mark.parametrize("pattern", ["%s", "[1,%s]", '{"k":%s}', '{"k":[[%s]],"l":2}'])
def test_malformed_bytes_in_json_are_refused(text: str, pattern: str) -> None:
    for key in ("$bytes", "\\u0024bytes", "$byte\\u0073"):
        with pytest.raises(Invalid, match=r"\$bytes"):
            json_value(pattern % f'{{"{key}":{text}}}')


def test_bytes_in_json() -> None:
    assert json_value('{"$bytes":""}') == b""
    assert json_value('[{"$bytes":"AP8="},{"\\u0024bytes":"YQ=="}]') == [b"\x00\xff", b"a"]
    assert json_value('{"$bytes":5,"more":6}') == {"$bytes": 5, "more": 6}
    assert JSON.loads(b'{"$bytes":"YQ=="}', object) == b"a"
