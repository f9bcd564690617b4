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

_INT_MIN = -(2**63)
_INT_MAX = 2**63 - 1


def check_value(value: object, field: str = "value", depth: int = 0) -> None:
    """Raise `Invalid` unless both codecs can carry `value` and give it back equal; the message names the place."""
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
                check_value(item, f"{field}[{index}]", depth + 1)
    else:
        raise Invalid(f"{field} must be null, bool, integer, float, text, bytes, list or map, not {kind.__name__}")


def _check_map(value: dict[Any, Any], field: str, depth: int) -> None:
    if len(value) == 1 and BYTES_KEY in value:
        raise Invalid(f"{field} is a map whose only key is {BYTES_KEY!r}, which stands for bytes in JSON")
    for key, item in value.items():
        if type(key) is not str:
            raise Invalid(f"{field} must have text keys only, not {type(key).__name__}")
        _check_text(key, f"a key of {field}")
        # Cut, since the path is built for every item below the key, also when nothing is wrong.
        check_value(item, f"{field}.{key[:KEY_CHARS_SHOWN]}", depth)


def _check_text(text: object, field: str) -> None:
    try:
        text.encode()  # type: ignore[attr-defined]
    except UnicodeEncodeError:
        raise Invalid(f"{field} must be valid Unicode (it holds a lone surrogate)") from None


def encode_value(value: Value, limit_bytes: int = VALUE_BYTES_MAX) -> bytes:
    """Check a value and return it as CBOR. Raises `Invalid`, or `TooLarge` naming `value` and the limit."""
    check_value(value)
    data = cbor2.dumps(value)
    if len(data) > limit_bytes:
        raise TooLarge(f"value is {len(data)} bytes encoded as CBOR, the limit (value_bytes) is {limit_bytes}")
    return data


def decode_value(cbor: bytes) -> Value:
    """Return the value that the store keeps as `cbor`, which was checked before it was committed."""
    return cbor2.loads(cbor)


def is_value(cbor: bytes) -> bool:
    """Tell whether bytes are one value that may be published, in CBOR: for what another program may have changed."""
    try:
        check_value(cbor2.loads(cbor))
    except (Invalid, *MALFORMED):
        # Tags stand for types of Python, whose constructors raise as they like.
        return False
    return True


def json_of(cbor: bytes) -> bytes:
    """Return a stored value as JSON. Raises `Unreadable`, and nothing else, if it is none."""
    try:
        return msgspec.json.encode(wrap_bytes(cbor2.loads(cbor, semantic_decoders=NO_TAGS, tag_hook=refuse_tag)))
    except MALFORMED as error:
        raise Unreadable(f"a stored value is damaged, it does not decode: {type(error).__name__}") from None


def refuse_tag(_decoder: object, _tag: object = None) -> Any:
    """Raise, as a decoder of any CBOR tag: no value has one, and some make a decoder run code (P-WIRE-4)."""
    raise cbor2.CBORDecodeError("CBOR tags are not accepted")


_BUILTIN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)

NO_TAGS: Any = dict.fromkeys(_BUILTIN_TAGS, refuse_tag)
"""Decoders of the tags that cbor2 knows, all of which refuse."""

MALFORMED = (cbor2.CBORError, ValueError, TypeError, EOFError, OverflowError, RecursionError, MemoryError)
"""Errors that decoding or encoding bytes which are no value may raise."""


def wrap_bytes(value: Value) -> Value:
    """Replace every bytes object in a checked value by the map that stands for it in JSON."""
    if isinstance(value, bytes):
        return {BYTES_KEY: base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [wrap_bytes(item) for item in value]
    if isinstance(value, dict):
        return {key: wrap_bytes(item) for key, item in value.items()}
    return value


def unwrap_bytes(value: Value, depth: int = 0) -> Value:
    """Undo `wrap_bytes` on a value fresh from JSON. Raises `Invalid` for a malformed ``$bytes`` or deep nesting."""
    if depth > VALUE_DEPTH_MAX:
        raise Invalid(f"value is nested deeper than {VALUE_DEPTH_MAX} levels")
    if isinstance(value, list):
        return [unwrap_bytes(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or BYTES_KEY not in value:
        return {key: unwrap_bytes(item, depth + 1) for key, item in value.items()}
    text = value[BYTES_KEY]
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Invalid(f'{{"{BYTES_KEY}": …}} must hold standard base64 text') from None
