"""Queries and the feed, as the library is asked for them, and its answers, as snapshots to answer from.

The library sends of each page one record more than belongs to it, if there is one. That is how `answer` knows that
there is more; so its limit is set to the number sent, less one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from softstate.errors import Rewound
from softstate.model import Page, Query, Record
from softstate.names import ALL, prefixes_of
from softstate.position import Position
from softstate.store.base import Feed
from softstate.store.redis.schema import StoreState, text, text_or_none
from softstate.store.remote.encoding import from_stored
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.paging import answer, feed_page, scans_of

NAMES_MAX = 4_096
"""How many topics and prefixes one call of the library is asked about, beyond what one query has."""


def in_portions(group: Sequence[Query]) -> Iterator[Sequence[Query]]:
    """Divide a group into runs of queries with about `NAMES_MAX` names each."""
    portion: list[Query] = []
    names = 0
    for query in group:
        more = len(query.topics) + len(query.prefixes)
        if portion and names + more > NAMES_MAX:
            yield portion
            portion, names = [], 0
        portion.append(query)
        names += more
    yield portion


def encode_queries(group: Sequence[Query]) -> bytes:
    """Return the argument of ``softstate_read``."""
    return msgspec.msgpack.encode([_encoded(query) for query in group])


def _encoded(query: Query) -> list[object]:
    return [
        query.after,
        query.listed is not None,
        query.limit,
        query.limit_bytes,
        query.witness.revision if query.witness is not None else 0,
        _flat(query.topics.items()),
        _flat(query.prefixes.items()),
    ]


def _flat(pairs: Iterable[tuple[str, int]]) -> list[object]:
    return [item for pair in pairs for item in pair]


def answer_query(query: Query, state: StoreState, found: Sequence[Any]) -> Page | Rewound:
    """Answer a query from the library's answer to it."""
    lineage, versions, more, flat = found
    records = records_of(flat)
    dead = {flat[index + 1] for index in range(0, len(flat), 3) if flat[index + 2] is None}
    snapshot = FetchedSnapshot(
        state.position,
        state.floor,
        lineage_of={} if query.witness is None else {query.witness.revision: text_or_none(lineage)},
        versions={topic: abs(version) for topic, version in zip(query.topics, versions, strict=True) if version},
        records=[*_ahead(query, versions), *records],
        scans=_scans(query, state.floor, records, dead),
    )
    if not more:
        return answer(query, snapshot)
    # Less what `answer` may pass over as dead though it is not, a value that cannot be carried; and more by what it
    # adds for topics that are unknown.
    limit = len(records) - 1 - sum(record.deleted and record.version not in dead for record in records)
    unknown = {
        topic: held for (topic, held), version in zip(query.topics.items(), versions, strict=True) if not version
    }
    if unknown:
        added = answer(replace(query, topics=unknown, prefixes={}), snapshot)
        limit += len(added.records) if isinstance(added, Page) else 0
    return answer(replace(query, limit=min(query.limit, limit)), snapshot)


def records_of(flat: Sequence[Any]) -> list[Record]:
    """Return records from topic, version, and value or None, of each."""
    records = []
    for index in range(0, len(flat), 3):
        topic, version, stored = text(flat[index]), flat[index + 1], flat[index + 2]
        records.append(Record(topic, version, None if stored is None else from_stored(stored, topic, version)))
    return records


def _ahead(query: Query, versions: Sequence[int]) -> Iterator[Record]:
    """Yield a record for every single topic that has one, for `answer` to see; those of the page replace these.

    It passes over tombstones that were not asked for, and looks one record beyond the page, but returns none of these.
    """
    for topic, version in zip(query.topics, versions, strict=True):
        if version:
            yield Record(topic, abs(version), None if version < 0 else b"")


def _scans(
    query: Query, floor: int, records: Sequence[Record], dead: Collection[int]
) -> dict[tuple[str, int, bool], Sequence[Record]]:
    """Deal out the records of a page to the scans that it was merged from."""
    if not query.prefixes:
        return {}
    under: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        for prefix in prefixes_of(record.topic):
            under[prefix].append(record)
    return {
        (prefix, after, tombstones): [
            record for record in under[prefix] if record.version > after and (tombstones or record.version not in dead)
        ]
        for prefix, after, tombstones in scans_of(query, floor)
    }


def answer_feed(after: Position, limit: int, state: StoreState, found: Sequence[Any]) -> Feed:
    """Cut a page of the feed from the library's answer. Raises as `feed_page` does."""
    lineage_after, more, flat, row_items = found
    records = records_of(flat)
    rows = rows_of(row_items, state.position.epoch)
    starts = [row.revision for row in rows]

    def lineage_at(revision: int) -> str | None:
        passed = bisect_right(starts, revision)
        return rows[passed - 1].lineage if passed else text_or_none(lineage_after)

    snapshot = FetchedSnapshot(
        state.position,
        state.floor,
        lineage_of={revision: lineage_at(revision) for revision in (after.revision, *[r.version for r in records])},
        rows=rows,
        scans={(ALL, after.revision, True): records},
    )
    return feed_page(after, len(records) - 1 if more else limit, snapshot)


def rows_of(flat: Sequence[bytes], epoch: str) -> list[Position]:
    """Return lineage rows from nonce and revision of each."""
    return [Position(epoch, text(flat[index]), int(flat[index + 1])) for index in range(0, len(flat), 2)]
