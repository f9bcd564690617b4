"""Vocabulary of all packages, beside names and positions: changes, records, queries and pages. Frozen, no I/O."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import msgspec

from softstate.position import Position, Revision

Value: TypeAlias = Any
"""None, bool, 64-bit int, finite float, str, bytes, list, or dict with str keys (`softstate.wire.check_value`)."""

Mode: TypeAlias = Literal["closed", "connecting", "syncing", "live", "suspect", "polling", "offline", "stopped"]
"""The states of the client machine."""

PAGE_RECORDS_MAX = 1024
"""Default for `Query.limit`: how many records one page holds at most."""

PAGE_BYTES_MAX = 256 * 1024
"""Default for `Query.limit_bytes`: a page ends after the record that brings its values to this size."""


READ_COST_MAX = 50_000
"""Default for `Query.limit_cost`: names and records that a store looks at for one page, and for one call, at most."""


class Durability(StrEnum):
    """A store's promise about an acknowledged commit."""

    DURABLE = "durable"
    """It is on stable storage: it survives a power cut."""
    REPLICATED = "replicated"
    """It is in the memory of several machines: it survives the loss of one."""
    WEAK = "weak"
    """It survives a crash of softstate, but a crash of the store or its machine may lose it."""
    NONE = "none"
    """It lives in this process only."""


class Change(msgspec.Struct, frozen=True):
    """The newest known state of one topic: its `value` at `version`, or that it was `deleted` at `version`."""

    topic: str
    version: Revision
    value: Value = None
    deleted: bool = False


class Record(msgspec.Struct, frozen=True):
    """A change as the store holds it: the value as CBOR, or None for a tombstone.

    `unreadable`: the stored row is damaged, so its value is not known, nor whether it is a tombstone; `cbor` is None.
    """

    topic: str
    version: int
    cbor: bytes | None
    unreadable: bool = False

    @property
    def deleted(self) -> bool:
        """Whether this is a tombstone."""
        return self.cbor is None and not self.unreadable


class SharedRecords(list[Record]):
    """The records of a page that answers several equal queries; `made` keeps what was encoded of them, for all.

    It lives as long as one of those it answers holds it.
    """

    __slots__ = ("made",)

    def __init__(self, records: Iterable[Record]) -> None:
        super().__init__(records)
        self.made: dict[object, Any] = {}


@dataclass(frozen=True, slots=True)
class Query:
    """A request for changes, relative to what its sender knows.

    `topics` maps a topic to the version held (0: none), `prefixes` a prefix to the revision up to which it is known
    (0: not at all). `witness` is the highest position that the sender has seen. `after` is 0 for the first page, else
    the version of the last record of the page before: then only records above it are wanted, tombstones included.
    `listed` is, for a page after the first of an answer that lists from 0, the first page's `position.revision`.
    A page ends when it has `limit` records, `limit_bytes` of values, or has cost `limit_cost`.
    """

    topics: Mapping[str, int] = field(default_factory=dict)
    prefixes: Mapping[str, int] = field(default_factory=dict)
    witness: Position | None = None
    after: int = 0
    listed: int | None = None
    limit: int = PAGE_RECORDS_MAX
    limit_bytes: int = PAGE_BYTES_MAX
    limit_cost: int = READ_COST_MAX

    @property
    def key(self) -> Hashable:
        """A key that queries with the same page share, in any order of their names.

        Their witnesses may differ: each is on the history or not, and the page does not depend on it.
        """
        return (
            frozenset(self.topics.items()), frozenset(self.prefixes.items()), self.after, self.listed, self.limit,
            self.limit_bytes, self.limit_cost,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """The records that differ from what the sender of a `Query` holds, in version order, as of `position`.

    `more`: ask again with `after` = `next_after`, which is above this query's, though a page that was ended by its cost
    may have no record. `upto` is that revision, None for the version of the last record. `compacted`: the prefixes
    whose since-revision lies below the floor, answered as if it were 0: the sender sweeps what was not listed.
    `restart`: the floor has passed a cursor, so this whole answer must begin again from its first page (`records` is
    empty then). `lag_s` is how much older than the moment it was asked for the snapshot may be, in seconds; 0 unless it
    came from a cache. `cost` is how many names and records were looked at, 0 if the store does not count.
    """

    position: Position
    floor: int
    records: Sequence[Record] = ()
    more: bool = False
    compacted: Sequence[str] = ()
    restart: bool = False
    lag_s: float = 0.0
    upto: int | None = None
    cost: int = field(default=0, compare=False)

    @property
    def next_after(self) -> int:
        """The `Query.after` of the page behind this one, if there is `more`."""
        return self.records[-1].version if self.upto is None else self.upto
