"""JSON in the browser client: integers of 64 bits and bytes, both ways; what may be published, and its size as CBOR."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from softstate.wire import encode_value
from softstate.wire.codec.json import JSON
from tests.kit.node_js import WEB, evaluate

IMPORTS = 'import { parse, stringify, sizeOf } from "./client/codec.js";'

TEXTS = '{"a":"9007199254740993","b":"\\\\\\"9007199254740993"}'
"""Integers within texts, which stay as they are."""

SHOWN = """const shown = (value) => JSON.stringify(value, (_, item) =>
  typeof item === "bigint" ? `big ${item}` : item instanceof Uint8Array ? `bytes ${item}` : item);"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9007199254740991", "9007199254740991"),
        ("9007199254740993", '"big 9007199254740993"'),
        ("-9223372036854775808", '"big -9223372036854775808"'),
        ("[1234567890123456.5,0.12345678901234567,1e15]", "[1234567890123456.5,0.12345678901234566,1000000000000000]"),
        (TEXTS, TEXTS),
        ('{"9007199254740993":9007199254740993}', '{"9007199254740993":"big 9007199254740993"}'),
        ('{"$bytes":"AP8="}', '"bytes 0,255"'),
        ('{"\\u0024bytes":"AP8="}', '"bytes 0,255"'),
        ('{"$bytes":"AP8=","more":1}', '{"$bytes":"AP8=","more":1}'),
        ('{"__proto__":{"a":1}}', '{"__proto__":{"a":1}}'),
    ],
)  # fmt: skip
def test_a_text_is_read(text: str, shown: str) -> None:
    assert evaluate(WEB, IMPORTS + SHOWN, "(text) => shown(parse(text))", text) == shown


def test_a_value_is_written_so_that_a_node_reads_the_same() -> None:
    text = """() => stringify({ big: 2n ** 63n - 1n, low: -(2n ** 63n), float: 2 ** 60, huge: 1e300, small: 7,
      bytes: new Uint8Array([0, 255]), text: "9007199254740993", list: [9007199254740993n] })"""
    value = JSON.loads(evaluate(WEB, IMPORTS, text, None), object)
    assert value == {
        "big": 2**63 - 1, "low": -(2**63), "float": 2.0**60, "huge": 1e300, "small": 7,
        "bytes": b"\x00\xff", "text": "9007199254740993", "list": [9007199254740993],
    }  # fmt: skip
    assert isinstance(value["float"], float), "a number of JavaScript beyond 2^53 is no integer"


def test_sizes_are_those_of_cbor() -> None:
    values = [*_values(Random(1), 60), [], {}, "x" * 300, "€" * 100, 23, 24, 255, 256, 65_535, 65_536, 2**32, -1, 0.5]
    found = evaluate(WEB, IMPORTS, "(values) => values.map((value) => sizeOf(value))", values)
    assert found == [len(encode_value(json.loads(json.dumps(value)), 10**6)) for value in values]


def _values(source: Random, count: int, depth: int = 0) -> list[Any]:
    return [_value(source, depth) for _ in range(count)]


def _value(source: Random, depth: int) -> Any:
    kind = source.randrange(4 if depth > 2 else 6)
    if kind < 4:
        return [None, True, source.randrange(-(10**12), 10**12), "ü" * source.randrange(40)][kind]
    nested = _values(source, source.randrange(4), depth + 1)
    return nested if kind == 4 else {f"k{i}": item for i, item in enumerate(nested)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("NaN", "value is NaN: publish a finite number, or null"),
        ("({ a: [1, undefined] })", "value.a[1] cannot be published"),
        ("new Date()", "value cannot be published"),
        ("2n ** 63n", "value is an integer of more than 64 bits: publish it as text"),
        ("'\\ud800'", "value is not valid Unicode"),
        ("({ $bytes: 'x' })", "value has only the key '$bytes'"),
        ("Array.from({ length: 40 }).reduce((inner) => [inner], 1)", "is nested deeper than 32 levels"),
    ],
)
def test_what_no_codec_carries_is_refused(value: str, message: str) -> None:
    text = f"() => {{ try {{ sizeOf({value}); return ''; }} catch (error) {{ return error.code + error.message; }} }}"
    told = evaluate(WEB, IMPORTS, text, None)
    assert told.startswith("invalid")
    assert message in told
