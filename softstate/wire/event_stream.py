"""The events of a stream that are no changes: what a client needs to state its age, and to go on elsewhere (P-SSE).

An `id` comes with positions that were reached alone, and with data: one browser takes the id of an event without data,
another does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from softstate.position import Position

Ending: TypeAlias = Literal["renew", "draining", "slow_consumer", "overloaded", "denied", "rewound"]
"""The reasons why a node ends a stream."""

KEEP_ALIVE = b":\n\n"
"""A comment: the node lives, and has nothing to certify."""


class Opened(msgspec.Struct, frozen=True):
    """The first event: the node's clock, read once the request had come, is the anchor of all ages (P-SSE-3)."""

    clock_ms: int


class Synced(msgspec.Struct, frozen=True, omit_defaults=True):
    """All up to `id` was sent before; that was the end of the history when the node's clock read `clock_ms`."""

    clock_ms: int
    next_ms: int
    compacted: Sequence[str] = ()
    denied: Sequence[str] = ()
    unreadable: Sequence[str] = ()


class Gone(msgspec.Struct, frozen=True):
    """The last event: come back after `retry_ms` and a draw of `spread_ms`, which ``retry:`` is set to."""

    reason: Ending
    retry_ms: int
    spread_ms: int


def open_event(clock_ms: int, retry_ms: int) -> bytes:
    """Write what a stream begins with; `retry_ms` is when to come back if it ends without a word."""
    return b"retry: %d\n\nevent: open\ndata: %b\n\n" % (retry_ms, msgspec.json.encode(Opened(clock_ms)))


def sync_event(position: Position, synced: Synced) -> bytes:
    """Write that all up to a position was sent before."""
    return b"event: sync\nid: %b\ndata: %b\n\n" % (str(position).encode(), msgspec.json.encode(synced))


def reset_event(position: Position) -> bytes:
    """Write that the history is another one: a full listing follows.

    The empty id has a client that is cut off before the end of that begin again, instead of going on from here.
    """
    return b"event: reset\nid:\ndata: %b\n\n" % msgspec.json.encode({"position": position})


def gone_event(gone: Gone, wait_ms: int) -> bytes:
    """Write that the stream ends; `wait_ms` was drawn from `gone.spread_ms`, and covers `gone.retry_ms`."""
    return b"retry: %d\nevent: gone\ndata: %b\n\n" % (wait_ms, msgspec.json.encode(gone))
