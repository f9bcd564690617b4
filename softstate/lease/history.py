"""The last events of a session, kept with its lease: for people who ask why a client does not get what it expects.

A history is one flat tuple, of three items an event, which takes nothing while there is none: 90 bytes for the first
event, 50 to 140 for each further one. One that repeats takes the place of the one before. Sans-I/O: times are in
seconds of the node's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

EVENTS_KEPT = 8
"""Events of one session that are kept."""

DETAIL_CHARS_MAX = 64
"""Longest detail of an event: beyond it, it is cut."""

ITEMS = 3
"""Items of an event: its time, its kind, and a detail: a text, or a number of names or a code."""

History: TypeAlias = tuple[Any, ...]


def remembered(history: History, at: float, what: str, detail: str | int = "") -> History:
    """Return a history with one event more; the oldest is forgotten if that is one too many."""
    if isinstance(detail, str):
        detail = detail[:DETAIL_CHARS_MAX]
    kept = history[:-ITEMS] if history and history[-2] == what else history[-(EVENTS_KEPT - 1) * ITEMS :]
    return (*kept, at, what, detail)


def events_of(history: History) -> Iterator[tuple[float, str, str | int]]:
    """List the events of a history, the oldest first: the time, the kind and the detail of each."""
    for at in range(0, len(history), ITEMS):
        yield history[at], history[at + 1], history[at + 2]
