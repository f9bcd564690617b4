import base64
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from softstate.errors import Invalid, TooLarge
from softstate.wire import CBOR, JSON, VALUE_BYTES_MAX, VALUE_DEPTH_MAX, Codec, check_value, decode_value, encode_value
from softstate.wire.messages import Publish
from softstate.wire.value import BYTES_KEY, VALUE_ITEMS_MAX, find_fault, is_value, json_of, unwrap_bytes, wrap_bytes

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=300)
BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 1e16, 1e-7, 2.0**63, 5e-324, 1.7976931348623157e308])
    | TEXTS
    | st.binary(max_size=8)
)
KEYS = TEXTS | st.sampled_from([BYTES_KEY, "", "$", "op"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
ANYTHING = st.recursive(
    LEAVES
    | st.sampled_from(
        [math.nan, math.inf, 2**63, -(2**63) - 1, 10**30, "\ud800", cbor2.undefined, cbor2.CBORSimpleValue(1)]
    )
    | st.tuples(st.integers())
    | st.dates()
    | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.integers() | st.binary(max_size=2) | st.none(), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """Turn a value into one that is equal only to the same value of the same types: True is not 1, 0.0 not -0.0."""
    if isinstance(value, list):
        return ["list", *map(exact, value)]
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return type(value).__name__, struct.pack(">d", value) if isinstance(value, float) else value


def accepted(value: object) -> bool:
    try:
        check_value(value)
    except Invalid:
        return False
    return True


def survives(value: Any) -> None:
    stored = encode_value(value)
    assert exact(decode_value(stored)) == exact(value)
    assert exact(JSON.loads(json_of(stored), object)) == exact(value)
    assert exact(CBOR.loads(stored, object)) == exact(value)
    assert exact(unwrap_bytes(wrap_bytes(value))) == exact(value)
    for codec in (CBOR, JSON):
        message = codec.client_message(codec.encode(Publish(id=1, topic="a", value=value)))
        assert isinstance(message, Publish)
        assert exact(message.value) == exact(value)
        assert encode_value(message.value) == stored


def test_the_comparison_used_here_tells_types_apart() -> None:
    unlike = [True, 1, 1.0, 0, 0.0, -0.0, False, None, "", b"", [], {}, [1], [True], {"a": 1}, {"a": 1.0}]
    for index, one in enumerate(unlike):
        assert [at for at, other in enumerate(unlike) if exact(one) == exact(other)] == [index]


@CHECKED
@given(VALUES)
@example([True, 1, 1.0, 0, 0.0, -0.0, False, None, "", b"", [], {}])
@example({BYTES_KEY: b"x", "more": {BYTES_KEY: [1], "": "\x00\x7f\u2028"}})
def test_an_accepted_value_survives_both_codecs_with_its_types(value: object) -> None:
    if accepted(value):
        survives(value)


@CHECKED
@given(ANYTHING)
def test_whatever_is_not_refused_survives(value: object) -> None:
    if accepted(value):
        survives(value)
    else:
        with pytest.raises(Invalid, match=r"^(a key of )?value"):
            encode_value(value)


@CHECKED
@given(ANYTHING)
def test_plain_values_are_accepted_and_nothing_else_is(value: object) -> None:
    assert accepted(value) == plain(value)


def plain(value: object, depth: int = 0) -> bool:
    """State the rules of values once more, as plainly as possible."""
    match value:
        case bool() | None | bytes():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return depth < 32 and all(plain(item, depth + 1) for item in value)
        case dict():
            named = all(isinstance(key, str) and plain(key) for key in value)
            return (
                depth < 32 and named and list(value) != ["$bytes"] and all(plain(v, depth + 1) for v in value.values())
            )
    return False


def deep(depth: int, leaf: object = None) -> Any:
    for level in range(depth):
        leaf = {"k": leaf} if level % 3 else [leaf]
    return leaf


@pytest.mark.parametrize("leaf", [None, 1, "x", b"x"], ids=repr)
def test_the_deepest_value_survives(leaf: object) -> None:
    survives(deep(VALUE_DEPTH_MAX, leaf))
    survives(deep(VALUE_DEPTH_MAX - 1, []))
    survives(deep(VALUE_DEPTH_MAX - 1, {}))
    with pytest.raises(Invalid, match="nested deeper than 32 levels"):
        check_value(deep(VALUE_DEPTH_MAX + 1, leaf))
    empties: tuple[object, ...] = ([], {})
    for empty in empties:
        with pytest.raises(Invalid, match="nested deeper than 32 levels"):
            check_value(deep(VALUE_DEPTH_MAX, empty))


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Invalid, match="nested deeper"):
        check_value(loop)


def test_a_value_used_twice_is_written_twice() -> None:
    shared = [1]
    survives([shared, shared, {"k": shared}])


@pytest.mark.parametrize("make", [lambda size: "x" * (size - 5), lambda size: bytes(size - 5)], ids=["text", "bytes"])
def test_the_size_limit(make: Any) -> None:
    assert len(encode_value(make(VALUE_BYTES_MAX + 5), VALUE_BYTES_MAX + 5)) == VALUE_BYTES_MAX + 5
    assert len(encode_value(make(100_000), 100_000)) == 100_000
    with pytest.raises(TooLarge, match=r"value is 100000 bytes encoded as CBOR, the limit \(value_bytes\) is 99999"):
        encode_value(make(100_000), 99_999)


def test_the_default_size_limit() -> None:
    assert len(encode_value("x" * (VALUE_BYTES_MAX - 3))) == VALUE_BYTES_MAX == 64 * 1024
    with pytest.raises(TooLarge, match=f"limit .value_bytes. is {VALUE_BYTES_MAX}"):
        encode_value("x" * (VALUE_BYTES_MAX - 2))
    encode_value(b"", 1)
    with pytest.raises(TooLarge):
        encode_value(b"", 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "value must be finite"),
        (-math.inf, "value must be finite"),
        (2**63, "value must be an integer of 64 bits"),
        ("\ud800", "value must be valid Unicode"),
        ((), "value must be null, bool, integer, float, text, bytes, list or map, not tuple"),
        (bytearray(b"x"), "not bytearray"),
        (cbor2.undefined, "not UndefinedType"),
        ({"a": [0, 1, 2, math.nan]}, "value.a[3] must be finite"),
        ({"a": [{"b": {"c": 2**63}}]}, "value.a[0].b.c must be an integer"),
        ([[], [set()]], "value[1][0] must be null"),
        ({"a": {1: 2}}, "value.a must have text keys only, not int"),
        ({b"a": 2}, "value must have text keys only, not bytes"),
        ([{"\udc00": 2}], "a key of value[0] must be valid Unicode"),
        ({"a": {"$bytes": 1}}, "value.a is a map whose only key is '$bytes'"),
        ({"$bytes": "YQ=="}, "value is a map whose only key is '$bytes'"),
        (deep(33), "nested deeper than 32 levels"),
    ],
    ids=lambda part: part if isinstance(part, str) and part.isascii() else "",
)
def test_an_error_names_the_place(value: object, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        encode_value(value)
    assert message in caught.value.message


def test_the_place_begins_with_the_name_of_the_field() -> None:
    with pytest.raises(Invalid, match=r"^changes\[4\]\.value\.a\[3\] must be finite"):
        check_value({"a": [0, 1, 2, math.inf]}, "changes[4].value")


@CHECKED
@given(st.binary(max_size=40))
def test_bytes_in_json_are_standard_base64_and_nothing_else(data: bytes) -> None:
    assert json_of(encode_value([data])) == b'[{"$bytes":"' + base64.b64encode(data) + b'"}]'


@BOTH
@pytest.mark.parametrize("key", ["$bytes", "a.b", "", "☃", "\x00", '"\\'])
def test_every_text_is_a_key(codec: Codec, key: str) -> None:
    value = {key: b"x", "other": 1}
    assert codec.loads(codec.value(encode_value(value)), object) == value


def test_a_long_key_is_cut_where_a_fault_below_it_is_named() -> None:
    """Found by fuzzing: the path was built whole for each of a million items, and kept a node busy for minutes."""
    with pytest.raises(Invalid) as caught:
        check_value({"k" * 100_000: [{"x" * 100_000: [0, 2**64]}]})
    assert caught.value.message.startswith("value.kkk")
    assert "[0].xxx" in caught.value.message
    assert len(caught.value.message) < 300


def count(value: Any) -> int:
    if isinstance(value, dict | list):
        members = list(value.values()) if isinstance(value, dict) else value
        return len(members) + sum(map(count, members))
    return 0


SHAPES: list[Callable[[int], Any]] = [
    lambda items: [0] * items,
    lambda items: {str(number): "x" for number in range(items)},
    lambda items: [[0]] * (items // 2) + [1.5] * (items % 2),
    lambda items: [{"k": b"b"}] * (items // 2) + [None] * (items % 2),
    lambda items: {"a": [[]] * (items - 1)},
    lambda items: [*[0] * (items - 3), {"a": [True]}],
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("items", [16, VALUE_ITEMS_MAX])
def test_the_last_item_of_a_value_fits_and_the_next_is_too_large(shape: Callable[[int], Any], items: int) -> None:
    value = shape(items)
    assert count(value) == items
    check_value(value, items_max=items)
    with pytest.raises(TooLarge, match=rf"value holds more items .* \(value_items_max\), {items - 1}"):
        check_value(value, items_max=items - 1)
    with pytest.raises(TooLarge):
        encode_value(value, items_max=items - 1)
    assert encode_value(value, 2**20) == cbor2.dumps(value)


def test_a_value_that_would_be_too_long_to_walk_is_refused_by_its_items() -> None:
    """The same list again and again: 16 million items in 4,096 lists."""
    with pytest.raises(TooLarge, match="items"):
        check_value([[0] * 4_000] * 4_000, items_max=VALUE_ITEMS_MAX)


@CHECKED
@given(ANYTHING)
def test_a_value_is_accepted_level_by_level_as_it_is_item_by_item(value: Any) -> None:
    try:
        find_fault(value, "value", 0)
    except Invalid as fault:
        with pytest.raises(Invalid, match=re.escape(fault.message)):
            check_value(value)
    else:
        check_value(value)


@pytest.mark.parametrize("wrong", [math.nan, 2**63, "\ud800", {"\ud800": 1}, {"$bytes": ""}, (1,), {1: 2}])
@pytest.mark.parametrize("depth", [0, 1, 31])
def test_a_fault_among_many_items_is_named_by_its_place(wrong: Any, depth: int) -> None:
    value: Any = [*[0] * 1_000, wrong, *["x"] * 1_000]
    for _ in range(depth if not isinstance(wrong, dict) else min(depth, 30)):
        value = {"k": value}
    with pytest.raises(Invalid, match=r"value.*\[1000\]"):
        check_value(value)


@pytest.mark.parametrize("cbor", [b"\x01", b"\xf6", b"\x81\x01", b"\xa1\x61a\x01"], ids=bytes.hex)
def test_a_stored_value_is_all_of_its_bytes(cbor: bytes) -> None:
    """Bytes behind a value would reach clients too, and some decoders refuse it then."""
    assert is_value(cbor)
    assert not any(is_value(cbor + more) for more in (b"\x00", b"\x01", b"\xff", bytes(5000)))
    assert not is_value(cbor[:-1])


@pytest.mark.parametrize("cbor", [b"\xc2\x41\x01", b"\x9f\x01\xff", b"\xd8\x23\x61a", b""], ids=bytes.hex)
def test_a_stored_value_has_no_tag_and_a_length(cbor: bytes) -> None:
    assert not is_value(cbor)
