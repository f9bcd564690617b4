"""A snapshot of a store, and whether a position is still a point of its history (P-REW-1).

After a backup was restored or the store was wiped, a position that a client or a node has seen may be of a history that
is lost. Every engine shows itself as a `Snapshot`, so that all decide alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from softstate.errors import StoreRewound
from softstate.model import Record
from softstate.position import Position
from softstate.store.rules.cost import ReadCost


class Snapshot(Protocol):
    """A store as it stood at one commit."""

    @property
    def position(self) -> Position:
        """The newest commit."""

    @property
    def floor(self) -> int:
        """The revision up to which tombstones may have been forgotten."""

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`, each as the position that it begins."""

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record, tombstones included; leave the others out.

        One whose row has a version that is not from 1 to the head may be left out too.
        """

    def damaged(self, held: Mapping[str, int]) -> Collection[str]:
        """Return topics of `held` whose damaged row has a version of no use: not from 1 to the head, or below `held`.

        `held` maps a topic to the version that the asker has. Such a version is no evidence of another history.
        """

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions, which `versions` named, given in ascending order; lazily."""

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after` in version order, lazily, with or without tombstones.

        Damaged records are yielded in either case, those without a usable version as of `UNRANKED`.
        """


Scan: TypeAlias = tuple[str, int, bool]
"""The part of a query that concerns one prefix: the prefix, the revision above which, and whether with tombstones."""


class CountedSnapshot(Snapshot, Protocol):
    """A snapshot that counts what it looks at, and ends a scan when that is enough."""

    def scan_counted(self, scans: Sequence[Scan], cost: ReadCost) -> Iterator[Record]:
        """Yield what several scans find, in version order, as far as `cost` allows; perhaps one record twice.

        May also yield a tombstone under a prefix without tombstones, if it is wanted of another that covers it.
        """


def on_history(position: Position, snapshot: Snapshot) -> bool:
    """Tell whether `position` is a point of the history that the snapshot ends."""
    return (
        position.epoch == snapshot.position.epoch
        and position.revision <= snapshot.position.revision
        and position.lineage == snapshot.lineage_at(position.revision)
    )


def check_seen(seen: Position, snapshot: Snapshot) -> None:
    """Raise `StoreRewound` when what a store object has `seen` is not on the history any more.

    `seen` must have been noted before the snapshot was begun, or a commit in between looks like a rewind.
    """
    if not on_history(seen, snapshot):
        raise StoreRewound(
            f"the store stands at {snapshot.position} and its history does not contain {seen}, which was seen here"
            " before: an older copy was restored, or the store was wiped; reopen it and reset every client"
        )
