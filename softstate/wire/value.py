"""Values: the rules for what may be published, and the form of values in both codecs.

A value is checked and encoded for *both* codecs before it is committed, so that no subscriber meets one that its codec
cannot carry (P-WIRE-7). The store keeps the CBOR; JSON is made from it, with bytes as ``{"$bytes": base64}``
(P-WIRE-6).
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import cbor2
import msgspec

from softstate.errors import Invalid, TooLarge, Unreadable
from softstate.model import Value

VALUE_BYTES_MAX = 64 * 1024
"""Default for the longest value, measured as CBOR."""

VALUE_DEPTH_MAX = 32
"""Deepest nesting of lists and maps in a value. Part of the protocol: no setting changes it."""

KEY_CHARS_SHOWN = 64
"""Characters of each key that an error message shows in the path to the fault."""

BYTES_KEY = "$bytes"

VALUE_ITEMS_MAX = 4_096
"""Default for the items of a value (P-WIRE-11): to decode, check and encode so many takes 4 ms at worst."""

FLOAT_CHARS_MAX = 40
"""Longest JSON number with a fraction or an exponent in a long message. A float of 64 bits takes 25 at most."""

FEW_ITEMS = 8
"""A flat map of so many entries is checked entry by entry, which is quicker then."""

CHECKED_KEPT = 32_768
"""Stored values that are remembered, by their hashes, once they were found whole: 3 MiB."""

TAG_REFUSED = "CBOR tags are not accepted"

_checked: set[int] = set()

_NESTED = frozenset({list, dict})
_KNOWN = _NESTED | {type(None), bool, int, float, str, bytes}
_KEPT = _NESTED | {bytes}

_INT_MIN = -(2**63)
_INT_MAX = 2**63 - 1


def check_value(value: object, field: str = "value", items_max: float = math.inf) -> None:
    """Raise `Invalid` unless both codecs can carry `value` and give it back equal; the message names the place.

    Raises `TooLarge` for more than `items_max` items: members of its lists and maps, at any depth (P-WIRE-11). Checked
    level by level and type by type, in C where there are many of one type: 0.1 us for each item of a list of numbers,
    where one call for each took 0.4 us.
    """
    if isinstance(value, dict) and len(value) <= FEW_ITEMS and _NESTED.isdisjoint(map(type, value.values())):
        find_fault(value, field, 0)
        return
    level: list[Any] = [value]
    items = 0
    for depth in range(VALUE_DEPTH_MAX + 1):
        kinds = set(map(type, level))
        if not kinds <= _KNOWN or not _leaves_are_plain(level, kinds) or (depth == VALUE_DEPTH_MAX and kinds & _NESTED):
            break
        if not kinds & _NESTED:
            return
        inner: list[Any] = []
        for item in _only(list, level, kinds):
            inner += item
            if items + len(inner) > items_max:
                raise _too_many(field, items_max)
        for item in _only(dict, level, kinds):
            inner += item.values()
            if items + len(inner) > items_max:
                raise _too_many(field, items_max)
        if dict in kinds and not _keys_are_plain(_only(dict, level, kinds)):
            break
        items += len(inner)
        level = inner
    # Something is wrong, or of a type of the caller's own: found item by item, with the path to it.
    find_fault(value, field, 0)


def _too_many(field: str, items_max: float) -> TooLarge:
    return TooLarge(
        f"{field} holds more items (members of lists and maps) than the limit (value_items_max), {items_max:.0f}:"
        " send numbers as one text or bytes, or publish the parts as topics of their own"
    )


def _only(kind: type, level: list[Any], kinds: set[type]) -> list[Any]:
    if kind not in kinds:
        return []
    return level if len(kinds) == 1 else [item for item in level if type(item) is kind]


def _leaves_are_plain(level: list[Any], kinds: set[type]) -> bool:
    numbers = _only(int, level, kinds)
    if numbers and (min(numbers) < _INT_MIN or max(numbers) > _INT_MAX):
        return False
    return all(map(math.isfinite, _only(float, level, kinds))) and _is_unicode(_only(str, level, kinds))


def _is_unicode(texts: list[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _keys_are_plain(maps: list[dict[Any, Any]]) -> bool:
    keys: list[Any] = []
    for item in maps:
        if len(item) == 1 and BYTES_KEY in item:
            return False
        keys += item
    return set(map(type, keys)) <= {str} and _is_unicode(keys)


def find_fault(value: object, field: str, depth: int) -> None:
    """Check a value item by item, and raise `Invalid` with the path to the first fault."""
    kind = type(value)
    if kind is str:
        _check_text(value, field)
    elif kind is bool or value is None or kind is bytes:
        return
    elif kind is int:
        if not _INT_MIN <= value <= _INT_MAX:  # type: ignore[operator]
            raise Invalid(f"{field} must be an integer of 64 bits, signed")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Invalid(f"{field} must be finite: NaN and infinities have no JSON form")
    elif isinstance(value, dict | list):
        if depth >= VALUE_DEPTH_MAX:
            raise Invalid(f"{field} is nested deeper than {VALUE_DEPTH_MAX} levels")
        if isinstance(value, dict):
            _check_map(value, field, depth + 1)
        else:
            for index, item in enumerate(value):
                find_fault(item, f"{field}[{index}]", depth + 1)
    else:
        raise Invalid(f"{field} must be null, bool, integer, float, text, bytes, list or map, not {kind.__name__}")


def _check_map(value: dict[Any, Any], field: str, depth: int) -> None:
    if len(value) == 1 and BYTES_KEY in value:
        raise Invalid(f"{field} is a map whose only key is {BYTES_KEY!r}, which stands for bytes in JSON")
    for key, item in value.items():
        if type(key) is not str:
            raise Invalid(f"{field} must have text keys only, not {type(key).__name__}")
        _check_text(key, f"a key of {field}")
        find_fault(item, f"{field}.{key[:KEY_CHARS_SHOWN]}", depth)


def _check_text(text: object, field: str) -> None:
    try:
        text.encode()  # type: ignore[attr-defined]
    except UnicodeEncodeError:
        raise Invalid(f"{field} must be valid Unicode (it holds a lone surrogate)") from None


def encode_value(value: Value, limit_bytes: int = VALUE_BYTES_MAX, items_max: float = math.inf) -> bytes:
    """Check a value and return it as CBOR. Raises `Invalid`, or `TooLarge` naming `value` and the limit."""
    check_value(value, items_max=items_max)
    data = cbor2.dumps(value)
    if len(data) > limit_bytes:
        raise TooLarge(f"value is {len(data)} bytes encoded as CBOR, the limit (value_bytes) is {limit_bytes}")
    _note_checked(data)
    return data


def decode_value(cbor: bytes) -> Value:
    """Return the value that the store keeps as `cbor`, which was checked before it was committed."""
    return cbor2.loads(cbor)


def is_value(cbor: bytes) -> bool:
    """Tell whether bytes are one value that may be published, in CBOR: for what another program may have changed."""
    try:
        _checked_item(cbor)
    except (Invalid, *MALFORMED):
        return False
    return True


def json_of(cbor: bytes) -> bytes:
    """Return a stored value as JSON. Raises `Unreadable`, and nothing else, if it is none."""
    try:
        return msgspec.json.encode(wrap_bytes(_stored(cbor)))
    except MALFORMED as error:
        raise _unreadable(error) from None


def cbor_of(cbor: bytes) -> bytes:
    """Return a stored value as CBOR, which it is already. Raises `Unreadable` if it is none, just as `json_of` does.

    A right checksum tells only that a row is as it was written. In the midst of a message, bytes that are no item
    would make it unreadable, and with it all else that it carries.
    """
    if not is_checked(cbor):
        _stored(cbor)
    return cbor


def is_checked(cbor: bytes) -> bool:
    """Tell whether a stored value is known to be one: it was found whole, or encoded here, not long ago."""
    return hash(cbor) in _checked


def _stored(cbor: bytes) -> Value:
    """Decode a stored value. Raises `Unreadable` unless it is one that may be published, and ends where `cbor` ends.

    One that is checked already is only decoded.
    """
    try:
        if is_checked(cbor):
            return cbor2.loads(cbor, semantic_decoders=NO_TAGS, tag_hook=refuse_tag)
        value = _checked_item(cbor)
    except (Invalid, *MALFORMED) as error:
        raise _unreadable(error) from None
    _note_checked(cbor)
    return value


def _checked_item(cbor: bytes) -> Value:
    # cbor2 ignores what follows an item. As the first of two, the second of which its bytes cannot hold, since it
    # depends on all of them, the item must end where they end.
    guard = hash(cbor).to_bytes(8, "big", signed=True)
    items = cbor2.loads(
        b"\x82%b\x48%b" % (cbor, guard), allow_indefinite=False, semantic_decoders=NO_TAGS, tag_hook=refuse_tag
    )
    if items[1] != guard:
        raise Invalid("more bytes follow it")
    check_value(items[0])
    return items[0]


def _note_checked(cbor: bytes) -> None:
    if len(_checked) >= CHECKED_KEPT:
        _checked.clear()
    _checked.add(hash(cbor))


def _unreadable(error: Exception) -> Unreadable:
    return Unreadable(f"a stored value is damaged, it does not decode: {type(error).__name__}")


def refuse_tag(_decoder: object, _tag: object = None) -> Any:
    """Raise, as a decoder of any CBOR tag: no value has one, and some make a decoder run code (P-WIRE-4)."""
    raise cbor2.CBORDecodeError(TAG_REFUSED)


_BUILTIN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)

NO_TAGS: Any = dict.fromkeys(_BUILTIN_TAGS, refuse_tag)
"""Decoders of the tags that cbor2 knows, all of which refuse."""

MALFORMED = (cbor2.CBORError, ValueError, TypeError, EOFError, OverflowError, RecursionError, MemoryError)
"""Errors that decoding or encoding bytes which are no value may raise."""


def read_float(text: str) -> float:
    """Read a JSON number with a fraction or an exponent. Raises `ValueError` if it is too long or not finite.

    As the `float_hook` of a decoder for long messages. msgspec itself takes 22 us for a number of twenty digits next to
    the middle of two floats of large exponents, and 11 for any below 1e-290; this takes 2 us for the worst. For others
    it takes 0.8 us instead of 0.1 (process time).
    """
    if len(text) > FLOAT_CHARS_MAX:
        raise ValueError(f"Number of more than {FLOAT_CHARS_MAX} characters")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("Number out of range")
    return number


def wrap_bytes(value: Value) -> Value:
    """Replace every bytes object in a checked value by the map that stands for it in JSON.

    Lists that hold neither bytes nor lists and maps are not copied.
    """
    kind = type(value)
    if kind is bytes:
        return {BYTES_KEY: base64.b64encode(value).decode()}
    if isinstance(value, list):
        return value if _KEPT.isdisjoint(map(type, value)) else [wrap_bytes(item) for item in value]
    if isinstance(value, dict):
        if _KEPT.isdisjoint(map(type, value.values())):
            return value
        return {key: wrap_bytes(item) for key, item in value.items()}
    return value


def unwrap_bytes(value: Value, depth: int = 0) -> Value:
    """Undo `wrap_bytes` on a value fresh from JSON. Raises `Invalid` for a malformed ``$bytes`` or deep nesting."""
    if depth > VALUE_DEPTH_MAX:
        raise Invalid(f"value is nested deeper than {VALUE_DEPTH_MAX} levels")
    if isinstance(value, list):
        if _NESTED.isdisjoint(map(type, value)):
            return value
        return [unwrap_bytes(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or BYTES_KEY not in value:
        if _NESTED.isdisjoint(map(type, value.values())):
            return value
        return {key: unwrap_bytes(item, depth + 1) for key, item in value.items()}
    text = value[BYTES_KEY]
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Invalid(f'{{"{BYTES_KEY}": …}} must hold standard base64 text') from None
