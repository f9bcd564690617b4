"""The vocabulary that every room shares: names, positions, changes.

Everything here is frozen and free of I/O. The words are those of the design page: a *topic* names one piece of
state; a *prefix* (a topic followed by ``/``, or ``/`` alone) stands for every topic below it; a *name* is either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from softstate.errors import Invalid

Value: TypeAlias = Any
"""None, bool, 64-bit int, finite float, str, bytes, list, or dict with str keys (`softstate.wire.check_value`)."""

Mode: TypeAlias = Literal["closed", "connecting", "syncing", "live", "suspect", "polling", "offline", "stopped"]
"""What a client is doing: the states of the client machine."""

TOPIC_BYTES_MAX: Final = 255
"""Longest topic, in bytes of UTF-8."""

REVISION_MAX: Final = 2**53 - 1
"""Revisions stay exact in a JSON number, which many parsers read as a double."""

Revision: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=REVISION_MAX)]
"""A revision or version, refused when decoded if it is out of range; 0 stands for nothing yet."""

PAGE_RECORDS_MAX: Final = 1024
"""Default for `Query.limit`: how many records one page holds at most."""

PAGE_BYTES_MAX: Final = 256 * 1024
"""Default for `Query.limit_bytes`: a page ends after the record that brings its values to this size."""

ALL: Final = "/"
"""The prefix that stands for every topic."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Durability(StrEnum):
    """What a store promises about an acknowledged commit."""

    DURABLE = "durable"
    """It is on stable storage: it survives a power cut."""
    REPLICATED = "replicated"
    """It is in the memory of several machines: it survives the loss of one."""
    WEAK = "weak"
    """It survives a crash of softstate, but a crash of the store or its machine may lose it."""
    NONE = "none"
    """It lives in this process only."""


class Position(msgspec.Struct, frozen=True):
    """A point of one history: the store's `epoch`, the `lineage` in force at `revision`, and `revision` itself.

    Two positions are comparable only on one history. That a store still contains a position is a question for the
    store; a revision alone cannot tell a restored backup from the original.
    """

    epoch: str
    lineage: str
    revision: Revision

    def __str__(self) -> str:
        return f"{self.epoch}.{self.lineage}.{self.revision}"

    def at(self, revision: int) -> Position:
        """Name another revision of the same lineage."""
        return Position(self.epoch, self.lineage, revision)

    def same_lineage(self, other: Position) -> bool:
        """Tell whether both positions were made under the same lineage row of the same store."""
        return self.lineage == other.lineage and self.epoch == other.epoch

    @classmethod
    def parse(cls, text: str, field: str = "position") -> Position:
        """Read ``epoch.lineage.revision``. Raises `Invalid`, naming `field`."""
        parts = text.split(".")
        if len(parts) == 3 and parts[0] and parts[1] and parts[2].isascii() and parts[2].isdigit():
            revision = int(parts[2]) if len(parts[2]) <= 16 else REVISION_MAX + 1
            if revision <= REVISION_MAX:
                return cls(parts[0], parts[1], revision)
        raise Invalid(f"{field} must look like epoch.lineage.revision, as a Softstate-Position header or ETag has it")


class Change(msgspec.Struct, frozen=True):
    """The newest known state of one topic: its `value` at `version`, or that it was `deleted` at `version`."""

    topic: str
    version: Revision
    value: Value = None
    deleted: bool = False


class Record(msgspec.Struct, frozen=True):
    """A change as the store holds it: the value as CBOR, or None for a tombstone."""

    topic: str
    version: int
    cbor: bytes | None

    @property
    def deleted(self) -> bool:
        """Whether this is a tombstone."""
        return self.cbor is None


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody wants to know, relative to what they know already.

    `topics` maps a topic to the version held (0: none), `prefixes` a prefix to the revision up to which it is known
    (0: not at all). `witness` is the highest position the asker has seen. `after` is 0 for the first page, else the
    version of the last record of the page before: then only records above it are wanted, tombstones included.
    `listed` is, for a page after the first of an answer that lists from 0, the first page's `position.revision`.
    """

    topics: Mapping[str, int] = field(default_factory=dict)
    prefixes: Mapping[str, int] = field(default_factory=dict)
    witness: Position | None = None
    after: int = 0
    listed: int | None = None
    limit: int = PAGE_RECORDS_MAX
    limit_bytes: int = PAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Page:
    """The records that differ from what the asker holds, in version order, as of `position`.

    `more`: ask again with `after` = the last record's version. `compacted`: the prefixes whose since-revision lies
    below the floor, answered as if it were 0: the asker sweeps what was not listed. `restart`: the floor has passed
    a cursor, so this whole answer must begin anew from its first page (`records` is empty then). `lag_s` is how
    much older than the moment it was asked for the snapshot may be, in seconds; 0 unless it came from a cache.
    """

    position: Position
    floor: int
    records: Sequence[Record] = ()
    more: bool = False
    compacted: Sequence[str] = ()
    restart: bool = False
    lag_s: float = 0.0


def check_topic(name: object, field: str = "topic") -> str:
    """Return `name` if it is a valid topic, else raise `Invalid`, naming `field` and the rule that was broken."""
    if not isinstance(name, str):
        raise Invalid(f"{field} must be text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{field} must be valid Unicode (it holds a lone surrogate)") from None
    if not 1 <= size <= TOPIC_BYTES_MAX:
        raise Invalid(f"{field} must be 1 to {TOPIC_BYTES_MAX} bytes of UTF-8, this one has {size}")
    if _CONTROL.search(name):
        raise Invalid(f"{field} must not hold control characters")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise Invalid(f"{field} must not begin or end with '/', nor hold an empty, '.' or '..' segment: {name!r}")
    return name


def check_prefix(name: object, field: str = "prefix") -> str:
    """Return `name` if it is a valid prefix (``/``, or a topic followed by ``/``), else raise `Invalid`."""
    if name == ALL:
        return ALL
    if not isinstance(name, str) or not name.endswith("/"):
        raise Invalid(f"{field} must be '/' or a topic followed by '/', such as 'orders/'")
    check_topic(name[:-1], field)
    return name


def is_prefix(name: str) -> bool:
    """Tell whether a valid name is a prefix."""
    return name.endswith("/")


def covers(name: str, topic: str) -> bool:
    """Tell whether a subscription to `name` (a topic or a prefix) covers `topic`."""
    return name in (topic, ALL) or (name[-1] == "/" and topic.startswith(name))


def prefixes_of(topic: str) -> list[str]:
    """List every prefix that covers `topic`, the widest first."""
    found = [ALL]
    at = topic.find("/")
    while at >= 0:
        found.append(topic[: at + 1])
        at = topic.find("/", at + 1)
    return found
