"""The stored form of a value in a remote engine, where programs other than softstate may put one too.

Three forms, told apart by their first byte, so that no column or flag has to say which:

- a value that a node published: CBOR behind the tag "self-described CBOR" (`MAGIC`; RFC 8949 section 3.4.6), a sequence
  that no JSON text begins with, since it is not UTF-8;
- a value that another program put there: JSON text (RFC 8259) in UTF-8, as `etcdctl put` or a line of SQL writes it;
- nothing at all, the empty string: the topic is deleted (a tombstone).
"""

from __future__ import annotations

import math

import msgspec

from softstate.errors import Invalid, RequestError
from softstate.wire import encode_value
from softstate.wire.value import VALUE_BYTES_MAX, VALUE_ITEMS_MAX, is_value, unwrap_bytes

MAGIC = b"\xd9\xd9\xf7"
"""Tag 55799 as CBOR writes it: "what follows is CBOR". It is no part of the value, and never reaches a client."""

TOMBSTONE = b""


def to_stored(cbor: bytes | None) -> bytes:
    """Return the bytes to keep for a value in CBOR, or for None, a deletion."""
    return TOMBSTONE if cbor is None else MAGIC + cbor


def recovered(stored: bytes) -> bytes | None:
    """Return the CBOR of a value that an older layout has stored; None if softstate cannot carry it, or cannot read it.

    For a migration, which must not stop at a damaged row.
    """
    if stored.startswith(MAGIC):
        cbor = stored[len(MAGIC) :]
        return cbor if is_value(cbor) else None
    try:
        return cbor_of_json(stored, items_max=math.inf)
    except RequestError:
        return None


def cbor_of_json(text: bytes, limit_bytes: int = VALUE_BYTES_MAX, items_max: float = VALUE_ITEMS_MAX) -> bytes:
    """Return JSON text that another program has written as CBOR. Raises `Invalid` or `TooLarge`.

    `items_max` is for what is to be published (P-WIRE-11); a value that is stored already may have more.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"value is not JSON: {error}") from None
    return encode_value(unwrap_bytes(value), limit_bytes, items_max)
