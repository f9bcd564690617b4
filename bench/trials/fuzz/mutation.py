"""Inputs for fuzzing: well-formed messages drawn from the wire's own classes, and mutations of them.

Structure is mutated before bytes: a tree drawn from a message class (`draw`) is mutated node by node (`mutate`), then
encoded, and sometimes its bytes are damaged (`damage`). A `Random` decides all, so that a seed makes one sequence of
inputs. The bytewise part follows AFL's havoc stage (Zalewski, "american fuzzy lop"), the
drawing from a schema is grammar-based fuzzing (Aschermann et al., "NAUTILUS", NDSS 2019) in its smallest form.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import cbor2
import msgspec.inspect as shapes

from softstate.position import REVISION_MAX
from softstate.wire import Codec

INPUT_BYTES_MAX = 64 * 1024
"""Longest input that `damage` makes. Larger ones are left to the tests of limits."""

NAMES = ("a", "b/c", "b/", "/", "orders/42", "für/☃", "", "a//b", "../x", "a" * 256, "\x00")
INTEGERS = (
    0, 1, -1, 23, 24, 255, 256, 65_535, 65_536, 2**31, 2**32, REVISION_MAX, REVISION_MAX + 1, 2**63 - 1, 2**63,
    2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30,
)  # fmt: skip
TEXTS = ("", "\x00", "\ud800", "\udfff\ud800", "𝄞", "$bytes", "x" * 65, "9" * 5_000, "%ff", "../..", "\r\nX: y")
WORDS = (
    b"\x00", b"\xff" * 8, b"\x7f", b"\x80", b"\\ud800", b"\\u0000", b"1e999", b"-0", b"NaN", b"9" * 400, b"[" * 200,
    b"[" * 5_000,
    b'{"a":' * 50, b"\x9f", b"\xbf", b"\x5f", b"\x7f\xff", b"\xc1\x1a\xff\xff\xff\xff", b"\xd8\x23\x61\x28", b"\xf7",
    b"\xf8\x18", b"\x9b" + b"\xff" * 8, b"\xbb\x00\x00\x00\x01" + bytes(4), b"\x5b\x7f" + b"\xff" * 7, b"\x82" * 60,
    b"\r\n", b"\r\n\r\n", b": ", b"\n", b" " * 300, b"\t", b"%", b"%00", b"%ff", b'"', b",", b";q=", b"\xf0\x9f",
)  # fmt: skip
"""Fragments for wrong inputs: CBOR heads with wrong lengths, indefinite lengths, tags; JSON and HTTP punctuation."""


def draw(kind: Any, random: Random) -> Any:
    """Draw a tree of builtin types that decodes as `kind`, a message class or another type that msgspec knows."""
    return _draw(_shape(kind), random)


@cache
def _shape(kind: Any) -> shapes.Type:
    return shapes.type_info(kind)


def _draw(shape: shapes.Type, random: Random) -> Any:
    match shape:
        case shapes.StructType():
            return _struct(shape, random)
        case shapes.Metadata():
            return _draw(shape.type, random)
        case shapes.UnionType():
            return _draw(random.choice(shape.types), random)
        case shapes.IntType(ge=least, le=most):
            return random.choice([least or 0, random.randint(least or 0, 100), most or 100, random.randint(0, 10_000)])
        case shapes.StrType(max_length=most):
            return random.choice([*NAMES, "cafe.f00d.7"])[: most or None]
        case shapes.BoolType():
            return random.random() < 0.5
        case shapes.ListType():
            return [_draw(shape.item_type, random) for _ in range(random.randrange(4))]
        case shapes.DictType():
            return {random.choice(NAMES): _draw(shape.value_type, random) for _ in range(random.randrange(4))}
        case shapes.LiteralType() | shapes.EnumType():
            choices = shape.values if isinstance(shape, shapes.LiteralType) else [one.value for one in shape.cls]
            return random.choice(list(choices))
        case shapes.NoneType():
            return None
        case shapes.AnyType():
            return value(random)
    raise AssertionError(f"no message has a field of {shape}")


def _struct(shape: shapes.StructType, random: Random) -> dict[str, Any]:
    tree: dict[str, Any] = {} if shape.tag_field is None else {shape.tag_field: shape.tag}
    for field in shape.fields:
        if field.required or random.random() < 0.5:
            tree[field.encode_name] = _draw(field.type, random)
    states = [name for name in ("value", "deleted", "unknown") if any(f.name == name for f in shape.fields)]
    if "value" in states and random.random() < 0.9:  # a message needs exactly one of them
        for name in states:
            tree.pop(name, None)
        chosen = random.choice(states)
        tree[chosen] = value(random) if chosen == "value" else True
    return tree


def value(random: Random, depth: int = 0) -> Any:
    """Draw a value to publish."""
    if depth < 3 and random.random() < 0.3:
        items = [value(random, depth + 1) for _ in range(random.randrange(4))]
        return items if random.random() < 0.5 else {str(index): item for index, item in enumerate(items)}
    return random.choice([None, True, 0, -(2**63), 1.5, "für", b"\x00\xff", {"$bytes": "AP8="}, {"$bytes": "*"}])


def mutate(tree: Any, random: Random, odd: Sequence[Any]) -> Any:
    """Return `tree` with one node replaced, dropped, renamed or doubled; `odd` are replacements of one codec only."""
    if isinstance(tree, dict) and tree and random.random() < 0.75:
        key = random.choice(list(tree))
        made = dict(tree)
        how = random.randrange(10)
        if how == 0:
            del made[key]
        elif how == 1:
            made[random.choice(["", "op", "id", "value", "topics", "\ud800", "$bytes", f"{key}x"])] = made.pop(key)
        elif how == 2:
            made[key] = tree[random.choice(list(tree))]
        else:
            made[key] = mutate(tree[key], random, odd)
        return made
    if isinstance(tree, list) and tree and random.random() < 0.75:
        at = random.randrange(len(tree))
        grown = tree * 2 if random.random() < 0.1 else list(tree)
        grown[at] = mutate(tree[at], random, odd)
        return grown
    how = random.randrange(4)
    if how < 2:
        return _odd_value(random)
    return _deep(tree, random) if how == 2 else random.choice(odd)


def _odd_value(random: Random) -> Any:
    plain: list[Any] = [None, True, False, [], {}, 1.0, -0.0, float("nan"), float("inf"), b"", {"": {}}, [[]] * 3]
    return random.choice([*plain, *INTEGERS, *TEXTS, *NAMES])


def _deep(tree: Any, random: Random) -> Any:
    for _ in range(random.choice([2, 30, 31, 32, 33, 40, 41, 100])):
        tree = [tree] if random.random() < 0.5 else {"a": tree}
    return tree


def as_json(tree: Any) -> bytes:
    """Return a tree as JSON text, including NaN and lone surrogates (escaped)."""
    return json.dumps(tree, separators=(",", ":"), default=_no_json).encode()


def _no_json(item: object) -> Any:
    return {"$bytes": base64.b64encode(item).decode()} if isinstance(item, bytes) else str(item)


ODD_CBOR = (
    *(cbor2.CBORTag(tag, payload) for tag, payload in ((1, 1e300), (2, b"\xff" * 9), (4, [10**6, 1]), (35, "(a+)+$"))),
    *(cbor2.CBORTag(tag, "x") for tag in (0, 24, 28, 29, 36, 37, 55799, 2**63)), cbor2.undefined,
    cbor2.CBORSimpleValue(0), cbor2.CBORSimpleValue(255), {1: 2}, {None: None}, {b"op": "hello"}, {(1, 2): 3},
)  # fmt: skip


ODD_JSON = (2**80,)


class Form(NamedTuple):
    """The writer of a codec, and values that only its messages can have."""

    write: Callable[[Any], bytes]
    odd: Sequence[Any]


def form_of(codec: Codec) -> Form:
    """Return how to write trees for a codec."""
    return Form(as_json, ODD_JSON) if codec.text else Form(as_cbor, ODD_CBOR)


def as_cbor(tree: Any) -> bytes:
    """Return a tree as CBOR; text with lone surrogates becomes bytes of invalid UTF-8."""
    return cbor2.dumps(_encodable(tree))


def _encodable(tree: Any) -> Any:
    if isinstance(tree, str):
        try:
            tree.encode()
        except UnicodeEncodeError:
            return tree.encode("utf-8", "surrogatepass")
    if isinstance(tree, list):
        return [_encodable(item) for item in tree]
    if isinstance(tree, dict):
        return {_encodable(key): _encodable(item) for key, item in tree.items()}
    return tree


def damage(data: bytes, random: Random, others: Sequence[bytes] = (b"",)) -> bytes:
    """Apply one to four mutations of bytes; `others` are inputs to splice with."""
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        data = random.choice(_DAMAGES)(data, random, others)[:INPUT_BYTES_MAX]
    return data


def _flip(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]


def _set(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes((random.randrange(256),)) + data[at + 1 :]


def _cut(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _remove(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    begin, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:begin] + data[end:]


def _repeat(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    begin, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:begin] + data[begin:end] * random.choice([2, 3, 50]) + data[end:]


def _insert(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(WORDS) + data[at:]


def _overwrite(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at, word = random.randrange(len(data) + 1), random.choice(WORDS)
    return data[:at] + word + data[at + len(word) :]


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


_DAMAGES: Sequence[Callable[[bytes, Random, Sequence[bytes]], bytes]] = (
    _flip, _flip, _set, _cut, _remove, _repeat, _insert, _insert, _overwrite, _splice,
)  # fmt: skip
