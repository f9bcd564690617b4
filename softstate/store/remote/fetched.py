"""A snapshot of a remote engine: what one call has fetched, for the pure functions of `softstate.store.rules.paging`.

An engine that answers only over a network cannot be asked record by record. It looks at its queries, fetches in one
atomic step all that `answer` may ask for, and shows it as a `FetchedSnapshot`. Anything that was not fetched raises
`KeyError`: a mistake of that engine, and never an incomplete answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from softstate.model import Record
from softstate.position import Position


class FetchedSnapshot:
    """Implements `softstate.store.rules.history.Snapshot`.

    `lineage_of` maps each revision that may be asked about (witnesses, what was seen, the end of a feed page) to the
    lineage in force there, None where there is none. `rows` are the lineage rows of a feed page. `versions` has every
    topic asked about that has a record, `records` the records wanted of them. `scans` has, for each triple of
    `softstate.store.rules.paging.scans_of`, the records in version order as far as a page of that query can reach: one
    more than its limit, or one more than brings it to its bytes.
    """

    def __init__(
        self,
        position: Position,
        floor: int,
        *,
        lineage_of: Mapping[int, str | None],
        rows: Sequence[Position] = (),
        versions: Mapping[str, int] | None = None,
        records: Iterable[Record] = (),
        scans: Mapping[tuple[str, int, bool], Sequence[Record]] | None = None,
    ) -> None:
        self.position = position
        self.floor = floor
        self._lineage_of = lineage_of
        self._rows = rows
        self._versions = versions or {}
        self._records = {record.version: record for record in records}
        self._scans = scans or {}

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.position.revision:
            return None
        if revision == self.position.revision:
            return self.position.lineage
        return self._lineage_of[revision]

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        return [row for row in self._rows if after < row.revision <= upto]

    def damaged(self, _held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return ()

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        return {topic: self._versions[topic] for topic in topics if topic in self._versions}

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions."""
        return map(self._records.__getitem__, versions)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order, as far as they were fetched."""
        return iter(self._scans[prefix, after, tombstones])
