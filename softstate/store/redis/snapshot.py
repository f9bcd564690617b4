"""Queries and the feed, as the library is asked for them, and its answers, as snapshots to answer from.

The library sends of each page one record more than belongs to it, if there is one. That is how `answer` knows that
there is more; so its limit is set to the number sent, less one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from typing import Any

import msgspec

from softstate.errors import RequestError, Rewound
from softstate.model import Page, Query, Record
from softstate.names import ALL, prefixes_of
from softstate.position import Position
from softstate.store.base import Feed
from softstate.store.redis.schema import StoreState, text, text_or_none
from softstate.store.remote.encoding import MAGIC, cbor_of_json
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.checksum import CHECKSUM_BYTES, UNRANKED, read_record
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
    """Return the argument of the function ``read``."""
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


class RedisSnapshot(FetchedSnapshot):
    """One call's findings, with the topics that the library found `unusable`: see `Snapshot.damaged`."""

    def __init__(
        self,
        position: Position,
        floor: int,
        *,
        lineage_of: Mapping[int, str | None],
        versions: Mapping[str, int],
        records: Iterable[Record],
        scans: Mapping[tuple[str, int, bool], Sequence[Record]],
        unusable: Collection[str],
    ) -> None:
        super().__init__(position, floor, lineage_of=lineage_of, versions=versions, scans=scans)
        self.unusable = unusable
        self._named: defaultdict[int, dict[str, Record]] = defaultdict(dict)
        for record in records:
            if versions.get(record.topic) == record.version:
                self._named[record.version][record.topic] = record

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records of the topics asked about that have these versions; a damaged one may share another's."""
        for version in dict.fromkeys(versions):
            yield from self._named[version].values()

    def damaged(self, _held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return self.unusable


def answer_query(query: Query, state: StoreState, found: Sequence[Any]) -> Page | Rewound:
    """Answer a query from the library's answer to it."""
    lineage, versions, more, flat, unusable, unranked = found
    head = state.position.revision
    records = [record for record in records_of(flat, head) if record is not None]
    astray = unranked_records(unranked)
    snapshot = RedisSnapshot(
        state.position,
        state.floor,
        lineage_of={} if query.witness is None else {query.witness.revision: text_or_none(lineage)},
        versions={topic: abs(version) for topic, version in zip(query.topics, versions, strict=True) if version},
        records=[*_ahead(query, versions), *records],
        scans=_scans(query, state.floor, [*astray, *records]),
        unusable={text(topic) for topic in unusable},
    )
    if not more:
        return answer(query, snapshot)
    # More by what `answer` adds for damaged topics, which the library does not count.
    added = {record.topic for record in astray} | set(snapshot.unusable if query.after == 0 else ())
    page = answer(replace(query, limit=query.limit + len(added)), snapshot)
    if isinstance(page, Rewound) or page.restart:
        return page
    return _ended_at(page, end_of(flat))


def end_of(flat: Sequence[Any]) -> int:
    """Return the revision up to which the records of a page with more behind it are all there are.

    The library has sent one beyond it. It is above where the page began, even if no name there is a topic's.
    """
    return abs(int(flat[-5]))


def _ended_at(page: Page, upto: int) -> Page:
    """Return a page with nothing above `upto`, with more to come."""
    last = page.records[-1].version if page.records else 0
    if page.more and page.next_after <= upto:
        return page
    if last > upto:
        records = [record for record in page.records if record.version <= upto]
        last = records[-1].version if records else 0
        page = replace(page, records=records)
    return replace(page, more=True, upto=None if last == upto else upto)


def records_of(flat: Sequence[Any], head: int) -> list[Record | None]:
    """Return records from topic, version (negative for a tombstone), and sum and value, of each.

    A damaged one is unreadable; one whose name is no topic is None.
    """
    return [_record(flat[index], flat[index + 1], flat[index + 2] or b"", head) for index in range(0, len(flat), 3)]


def _record(name: bytes, version: int, kept: bytes, head: int) -> Record | None:
    if not is_text(name):
        return None
    topic = text(name)
    try:
        checksum = bytes.fromhex(text(kept[: 2 * CHECKSUM_BYTES]))
    except ValueError:
        checksum = b""
    stored = kept[2 * CHECKSUM_BYTES :]
    record = read_record(topic, abs(version), stored or None, checksum, head, sha1)
    if record is None or record.unreadable:
        return record
    if record.deleted != (version < 0):
        return Record(topic, record.version, None, unreadable=True)
    if record.cbor is None:
        return record
    if stored.startswith(MAGIC):
        return Record(topic, record.version, stored[len(MAGIC) :])
    try:
        return Record(topic, record.version, cbor_of_json(stored, items_max=math.inf))
    except RequestError:
        return Record(topic, record.version, None, unreadable=True)


def unranked_records(names: Sequence[bytes]) -> list[Record]:
    """Return records for topics whose version is not one of this history."""
    found = [read_record(text(name), 0, None, None, 0) for name in dict.fromkeys(names) if is_text(name)]
    return [record for record in found if record is not None and record.version == UNRANKED]


def is_text(name: bytes) -> bool:
    """Tell whether a name is UTF-8, as everything is that softstate has written."""
    try:
        text(name)
    except UnicodeDecodeError:
        return False
    return True


def _ahead(query: Query, versions: Sequence[int]) -> Iterator[Record]:
    """Yield a record for every single topic that has one, for `answer` to see; those of the page replace these.

    It passes over tombstones that were not asked for, and looks one record beyond the page, but returns none of these.
    """
    for topic, version in zip(query.topics, versions, strict=True):
        if version:
            yield Record(topic, abs(version), None if version < 0 else b"")


def _scans(query: Query, floor: int, records: Sequence[Record]) -> dict[tuple[str, int, bool], Sequence[Record]]:
    """Deal out the records of a page to the scans that it was merged from."""
    if not query.prefixes:
        return {}
    under: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        for prefix in prefixes_of(record.topic):
            under[prefix].append(record)
    return {
        (prefix, after, tombstones): [
            record for record in under[prefix] if record.version > after and (tombstones or not record.deleted)
        ]
        for prefix, after, tombstones in scans_of(query, floor)
    }


def answer_feed(after: Position, limit: int, state: StoreState, found: Sequence[Any]) -> Feed:
    """Cut a page of the feed from the library's answer. Raises as `feed_page` does."""
    lineage_after, more, flat, row_items = found
    end = end_of(flat) if more else state.position.revision
    kept = (record for record in records_of(flat, state.position.revision) if record is not None)
    records = [record for record in kept if after.revision < record.version <= end]
    rows = rows_of(row_items, state.position.epoch)
    starts = [row.revision for row in rows]

    def lineage_at(revision: int) -> str | None:
        passed = bisect_right(starts, revision)
        return rows[passed - 1].lineage if passed else text_or_none(lineage_after)

    snapshot = FetchedSnapshot(
        state.position,
        state.floor,
        lineage_of={
            revision: lineage_at(revision) for revision in (after.revision, end, *[r.version for r in records])
        },
        rows=rows,
        scans={(ALL, after.revision, True): records},
    )
    page = feed_page(after, limit, snapshot)
    if page.more or not more:
        return page
    upto = Position(state.position.epoch, lineage_at(end) or "", end)
    return replace(page, lineages=snapshot.lineages(after.revision, end), upto=upto, more=True)


def rows_of(flat: Sequence[bytes], epoch: str) -> list[Position]:
    """Return lineage rows from nonce and revision of each."""
    return [Position(epoch, text(flat[index]), int(flat[index + 1])) for index in range(0, len(flat), 2)]
