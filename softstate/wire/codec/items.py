"""Counts of the items of a message, and the id of one that cannot be decoded: both without decoding it.

A decoder makes objects of all that a message holds before anything can be checked: 1 MiB of zeros become a million
integers, which takes a node 40 ms (P-WIRE-11). So large messages are counted first. The count is in portions, each a
step of a generator, between which the caller may serve others.

An *item* is a member of a list or an entry of a map, at any depth: it takes a byte at least.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import lru_cache

from softstate.errors import Invalid
from softstate.wire.value import TAG_REFUSED

PORTION = 2_048
"""Items, or heads of CBOR items, that one step counts: 1 ms."""

HEADS_MAX = 8_192
"""Heads of CBOR items that are read to find the id of a message that cannot be decoded."""

MORE_FOLLOWS = "not one well-formed CBOR item: more bytes follow it"

FIELDS_MAX = 16
"""Fields of a JSON message that are read for that."""

SCALAR_BYTES_MAX = 770
"""Longest `op` or `id`, as it is written: 64 characters between quotes, each as two escapes of UTF-16. Anything longer
is none, and may be a list of as many items as the message was refused for."""

Count = Generator[None, None, bool]
"""Yields between portions; returns whether there are more items than the limit."""

# Possessive throughout, so that no text is walked twice. A run of plain characters is one step: one for each character
# takes a node 40 ms for a text of 256 KiB.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Up to the next comma outside of strings, or opening bracket of a list or map that is not empty.
_NEXT = rf'(?:[^",\[{{]++|{_STRING}|[\[{{](?=\s*+[\]}}]))*+[,\[{{]'
_FIELD = re.compile(rf"\s*+({_STRING})\s*+:\s*+({_STRING}|-?[0-9.eE+-]++|true|false|null)\s*+(?:,|\}})", re.DOTALL)


@lru_cache(8)
def _first(items: int) -> re.Pattern[str]:
    return re.compile(f"(?:{_NEXT}){{{items}}}+", re.DOTALL)


def json_exceeds(text: str, items_max: int) -> Count:
    """Count the items of a JSON text by its commas and brackets, stopping at the limit."""
    if text.count(",") + text.count("[") + text.count("{") <= items_max:
        return False
    at, left = 0, items_max + 1
    while left:
        yield
        portion = min(left, PORTION)
        found = _first(portion).match(text, at)
        if found is None:
            return False
        at, left = found.end(), left - portion
    return True


def cbor_exceeds(data: bytes, items_max: int) -> Count:
    """Count the items of a CBOR item, stopping at the limit. Raises `Invalid` at a tag, and if more bytes follow it.

    All else that is ill-formed is left to the decoder: it stops at such a head, so it reads no more than was counted.
    Not so here: it decodes all that a tag holds before it asks what to make of it, and an item that follows before it
    is compared with what ought to (`CBOR`).
    """
    at = items = heads = 0
    todo = 1
    size = len(data)
    while todo and at < size:
        if heads >= PORTION:
            heads = 0
            yield
        heads += 1
        todo -= 1
        first = data[at]
        at += 1
        kind, number = first >> 5, first & 31
        if number >= 24:
            if number > 27:
                return False
            width = 1 << (number - 24)
            number = int.from_bytes(data[at : at + width], "big")
            at += width
        if kind == 4:
            items += number
            todo += number
        elif kind == 5:
            items += number
            todo += 2 * number
        elif kind in (2, 3):
            at += number
        elif kind == 6:
            raise Invalid(f"not one well-formed CBOR item of plain types: {TAG_REFUSED}")
        if items > items_max:
            return True
    if at < size:
        raise Invalid(MORE_FOLLOWS)
    return False


# Messages that cannot be decoded, as far as they can be read ----------------------------------------------------------


def json_fields(text: str) -> dict[str, str]:
    """Read the scalar fields at the beginning of a JSON object, up to the first other one, as they are written."""
    fields: dict[str, str] = {}
    start = re.match(r"\s*+\{", text)
    at = start.end() if start is not None else len(text)
    while len(fields) < FIELDS_MAX and (found := _FIELD.match(text, at)) is not None:
        fields[found[1][1:-1]] = found[2]
        at = found.end()
    return fields


def cbor_fields(data: bytes) -> dict[bytes, bytes]:
    """Read the fields of a CBOR map up to the first that is ill-formed, key and item as they are written.

    Looks at `HEADS_MAX` heads at most. Tags, which no message may hold, are passed over.
    """
    fields: dict[bytes, bytes] = {}
    if not data or data[0] >> 5 != 5 or data[0] & 31 > 23:
        return fields
    at, heads = 1, [HEADS_MAX]
    for _ in range(data[0] & 31):
        key_end = _skip(data, at, heads)
        end = _skip(data, key_end, heads) if key_end else 0
        if not end:
            break
        fields[data[at:key_end]] = data[key_end:end]
        at = end
    return fields


def _skip(data: bytes, at: int, heads: list[int]) -> int:
    """Return where the item at `at` ends; 0 if it is ill-formed, indefinite, or no head is left to look at."""
    todo = 1
    while todo:
        if at >= len(data) or not heads[0]:
            return 0
        heads[0] -= 1
        todo -= 1
        first = data[at]
        at += 1
        kind, number = first >> 5, first & 31
        if number >= 24:
            if number > 27:
                return 0
            width = 1 << (number - 24)
            number = int.from_bytes(data[at : at + width], "big")
            at += width
        if kind in (2, 3):
            at += number
        elif kind == 4:
            todo += number
        elif kind == 5:
            todo += 2 * number
        elif kind == 6:
            todo += 1
    return at if at <= len(data) else 0
