"""Requests cut to a node's limits, by bytes as either codec writes them, at most.

A message above `limits.message_bytes` costs the connection (close code 1009), and the next one likewise, so nothing of
the kind is sent: names go in portions, and a publish that cannot fit is refused here (P-CLI-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from softstate.position import Position
from softstate.wire.messages import Limits

NAMES_MAX = 1_000
"""Most names in one subscribe or poll; a larger set goes in several (P-CLI-9)."""

NAMES_BYTES_MAX = 64 * 1024
"""Most bytes of one request about names, as long as no node has told its limit."""

BATCH_BYTES_MAX = 256 * 1024
"""Most bytes of one batch of publishes over HTTP, as long as no node has told its limit."""

VALUE_BYTES_MAX = 512 * 1024
"""Longest value that is sent, as CBOR, as long as no node has told its limit: then it goes over HTTP, whose answer to
one too large is `too_large`."""

HEAD_BYTES = 256
"""All of a message but names, texts and values, at most: field names, numbers, the id."""

HEAD_ITEMS = 16
"""All items of a request about names but the names, at most: its fields, and those of a position."""

CURSOR_BYTES = 6 * 128

_ESCAPED = re.compile(r'["\\]')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def text_bytes(text: str) -> int:
    """Return how many bytes a text takes, at most, in either codec."""
    return len(text.encode()) + len(_ESCAPED.findall(text)) + 5 * len(_CONTROL.findall(text)) + 5


def name_bytes(name: str) -> int:
    """Return how many bytes a name takes with its number, at most, in either codec."""
    return len(name.encode()) + len(_ESCAPED.findall(name)) + 24


@dataclass(frozen=True, slots=True)
class Portions:
    """The limits that requests are cut to."""

    names: int = NAMES_MAX
    """Names in one request."""
    message_bytes: int = NAMES_BYTES_MAX
    batch_bytes: int = BATCH_BYTES_MAX
    value_bytes: int = VALUE_BYTES_MAX
    publish_bytes: int | None = None
    """Bytes of the message of one publish; None: unknown."""

    @classmethod
    def of(cls, limits: Limits) -> Portions:
        """Take over the limits that a node told."""
        told = limits.message_bytes
        names = min(NAMES_MAX, limits.subscriptions, limits.message_items - HEAD_ITEMS)
        return cls(max(names, 1), told, told, limits.value_bytes, told)

    def cut(
        self, names: Iterable[str], position: Position | None = None, names_max: int = NAMES_MAX
    ) -> list[list[str]]:
        """Cut names, in order, into requests; each has one name at least. `position` goes with each."""
        room = self.message_bytes - HEAD_BYTES - CURSOR_BYTES
        if position is not None:
            room -= text_bytes(position.epoch) + text_bytes(position.lineage)
        names_max = min(self.names, names_max)
        portions: list[list[str]] = []
        left = 0
        for name in names:
            size = name_bytes(name)
            if not portions or size > left or len(portions[-1]) >= names_max:
                portions.append([])
                left = room
            portions[-1].append(name)
            left -= size
        return portions
