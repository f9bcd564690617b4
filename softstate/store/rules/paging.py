"""Answering from one snapshot: the pure functions that every engine shares, so that none has rules of its own.

`answer` turns a `Query` into a page of a `Snapshot`, `feed_page` cuts the change feed, `dump_page` a dump.

Pages come in version order, so a topic that changes while a client pages moves to a later page (P-SUB-4): nothing is
missed, and no page has to be of the same snapshot as the one before. Only a tombstone can be missed that compaction
removed between two pages; the checks on the floor below are about that, and about nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import cast

from softstate.errors import Compacted, Rewound
from softstate.model import PAGE_BYTES_MAX, Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Dump, Feed, Key, Publisher
from softstate.store.rules.checksum import UNRANKED
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import CountedSnapshot, Scan, Snapshot, check_seen, on_history

UNCOUNTED = ReadCost()
"""The cost of a page that no budget ends."""


def answer(query: Query, snapshot: Snapshot) -> Page | Rewound:
    """Answer a query: a page, or `Rewound` when the asker has seen a position or version that is not on this history.

    A caller that pages has to know two things. The tombstones that stand in for topics which the store does not know
    all have version `floor`; a page never ends between them, so they alone may carry it over `Query.limit`. And every
    page names in `compacted` the prefixes below the floor *now*: if a later page names a prefix that the first did not,
    the floor has passed its since-revision in between, and the answer cannot be continued, as after `restart`. To
    sweep instead would lose topics that are alive, because the first page left them out as known. Either way the
    caller must ask again with the versions held by then: topics of earlier pages may be dead and forgotten now.
    """
    position, floor = snapshot.position, snapshot.floor
    if query.witness is not None and not on_history(query.witness, snapshot):
        return _rewound(f"{query.witness} is not on the store's history", position)
    versions = snapshot.versions(query.topics)
    damaged = snapshot.damaged(query.topics)
    for topic, held in query.topics.items():
        if held > versions.get(topic, floor) and topic not in damaged:
            return _rewound(f"version {held} of {topic!r} is above what the store holds", position)
    for prefix, since in query.prefixes.items():
        if since > position.revision:
            return _rewound(f"since-revision {since} of {prefix!r} is above the store's head", position)

    compacted = _compacted(query, floor)
    if query.after and any(floor > _intact_from(query, since) for since in _sinces(query, compacted).values()):
        return Page(position, floor, restart=True)
    sources = [_topics(query, snapshot, versions, damaged)]
    cost = ReadCost(query.limit_cost)
    cost.add(cost_of_names(query))
    sources += _scan(scans_of(query, floor), snapshot, cost)
    records, more = _cut(heapq.merge(*sources, key=attrgetter("version")), query.limit, query.limit_bytes, cost)
    upto = None if more else cost.upto
    return Page(position, floor, records, more or upto is not None, compacted, upto=upto, cost=cost.spent)


def answer_group(group: Sequence[Query], snapshot: Snapshot) -> Sequence[Page | Rewound]:
    """Answer the queries at the head of a group, as many as one call may cost.

    The first is always answered. A query is begun while at least half of what a call may cost is left, so that no page
    is cut short only because of those before it; its page costs no more than what is left.
    """
    limit = max(query.limit_cost for query in group)
    answers: list[Page | Rewound] = []
    spent = 0
    for query in group:
        names = cost_of_names(query)
        if spent and (2 * spent > limit or spent + names > limit):
            break
        page = answer(replace(query, limit_cost=min(query.limit_cost, max(limit - spent, 0))), snapshot)
        spent += page.cost if isinstance(page, Page) else names
        answers.append(page)
    return answers


def within_cost(group: Sequence[Query]) -> Sequence[Query]:
    """Return the queries at the head of a group whose names alone cost no more than one call may; one at least."""
    left = max(query.limit_cost for query in group)
    for number, query in enumerate(group):
        left -= cost_of_names(query)
        if left < 0:
            return group[: max(number, 1)]
    return group


def cost_of_names(query: Query) -> int:
    """Return what it costs to look up the names of a query, on each of its pages."""
    return len(query.topics) + len(query.prefixes)


def _scan(scans: Sequence[Scan], snapshot: Snapshot, cost: ReadCost) -> Iterable[Iterator[Record]]:
    # By the name alone: `isinstance` of a protocol costs 20 us.
    if scans and hasattr(snapshot, "scan_counted"):
        return [cast("CountedSnapshot", snapshot).scan_counted(scans, cost)]
    return [_counted(snapshot.scan(prefix, after, tombstones=dead), cost) for prefix, after, dead in scans]


def _counted(records: Iterator[Record], cost: ReadCost) -> Iterator[Record]:
    for record in records:
        cost.add(1)
        yield record
        if not cost.left:
            cost.end_at(record.version)
            return


def scans_of(query: Query, floor: int) -> Sequence[Scan]:
    """List what `Snapshot.scan` is asked for when a query is answered: (prefix, after, tombstones) each."""
    return [
        (prefix, max(query.after, since), query.after > 0 or since > 0)
        for prefix, since in _sinces(query, _compacted(query, floor)).items()
    ]


def _sinces(query: Query, compacted: Collection[str]) -> Mapping[str, int]:
    return {prefix: 0 if prefix in compacted else since for prefix, since in query.prefixes.items()}


def _rewound(why: str, position: Position) -> Rewound:
    # The answer to this client alone (P-REW-4), which has shown to know another history (P-REW-3).
    message = f"{why}: it was restored from an older copy, or wiped; forget what you hold and begin at {position}"
    return Rewound(message, position=position)


def _compacted(query: Query, floor: int) -> list[str]:
    """List the prefixes to be answered as if nothing of them were known: the floor has passed them (P-SUB-9).

    There are none on a page after a first one that did not list from 0, hence named none: what the floor passes later
    only matters to the tombstones still to come.
    """
    if query.after and query.listed is None:
        return []
    return [prefix for prefix, since in query.prefixes.items() if 0 < since < floor]


def _intact_from(query: Query, since: int) -> int:
    """Return the revision above which a later page needs every tombstone of a prefix known up to `since`.

    Pages so far brought everything up to the cursor. When listing from 0, what was dead at the first page was never
    listed, so only tombstones newer than that page matter.
    """
    return max(query.after, since or query.listed or 0)


def _topics(
    query: Query, snapshot: Snapshot, versions: Mapping[str, int], damaged: Collection[str]
) -> Iterator[Record]:
    """Yield the single topics that differ, in version order, loading each value only when it is asked for.

    A topic without a record reads as a tombstone at the floor (P-SUB-12). The `damaged`, whose version is of no use,
    come on the first page.
    """
    if not query.after:
        for topic in sorted(damaged):
            yield Record(topic, UNRANKED, None, unreadable=True)
    wanted: list[int] = []
    buried: list[str] = []
    for topic, held in query.topics.items():
        if topic in damaged:
            continue
        version = versions.get(topic)
        if version is not None and version > max(held, query.after):
            wanted.append(version)
        elif version is None and (held or query.after) and snapshot.floor > _intact_from(query, held):
            buried.append(topic)
    tombstones = [Record(topic, snapshot.floor, None) for topic in sorted(buried)]
    records = snapshot.load(sorted(wanted)) if wanted else iter(())
    for record in heapq.merge(tombstones, records, key=attrgetter("version")) if buried else records:
        if not record.deleted or query.after or query.topics[record.topic]:
            yield record


def _cut(
    records: Iterable[Record], limit: int, limit_bytes: int, cost: ReadCost = UNCOUNTED
) -> tuple[list[Record], bool]:
    """Take one page, each record once, and tell whether there is more; if `cost` ends it, `cost.upto` tells."""
    page: list[Record] = []
    same: set[str] = set()
    size = 0
    for record in records:
        if cost.upto is not None and record.version > cost.upto:
            break
        if page and record.version == page[-1].version:
            # The same record from two sources; or tombstones standing in for unknown topics, or damaged records: such
            # share a version and so must share a page, since a cursor cannot point between them.
            if record.topic not in same:
                same.add(record.topic)
                page.append(record)
            continue
        if page and (len(page) >= limit or size >= limit_bytes):
            return page, True
        page.append(record)
        same = {record.topic}
        size += len(record.cbor or b"")
    return page, False


def feed_page(after: Position, limit: int, snapshot: Snapshot) -> Feed:
    """Cut one page of the change feed, of at most `limit` records and about `PAGE_BYTES_MAX` bytes of values.

    Raises `StoreRewound` when `after` is not on the history, `Compacted` when it is below the floor.
    """
    check_seen(after, snapshot)
    if after.revision < snapshot.floor:
        raise Compacted(
            f"the feed is asked for from revision {after.revision}, but tombstones up to {snapshot.floor} may be"
            " forgotten: take the full list, then sweep what is not in it",
            position=snapshot.position,
        )
    records, more = _cut(snapshot.scan(ALL, after.revision, tombstones=True), limit, PAGE_BYTES_MAX)
    upto = snapshot.position
    if more:
        revision = records[-1].version
        lineage = snapshot.lineage_at(revision)
        assert lineage is not None
        upto = Position(upto.epoch, lineage, revision)
    return Feed(records, snapshot.lineages(after.revision, upto.revision), upto, more)


def dump_page(
    after: int, limit: int, snapshot: Snapshot, keys: Sequence[Key], publishers: Sequence[Publisher] = ()
) -> Dump:
    """Cut one page of a dump: at most `limit` records, keys and lineage rows each, about `PAGE_BYTES_MAX` of values.

    `keys` are the idempotency keys above `after` in revision order; those beyond `limit` + 1 may be left out.
    `publishers` are those touched above `after`, in the order of `touched`; those beyond `limit` + 1 may be left out,
    but not one that was touched at the same revision as the last of them. All touched at one revision share a page.
    """
    records, more = _cut(snapshot.scan(ALL, after, tombstones=True), limit, PAGE_BYTES_MAX)
    rows = snapshot.lineages(after, snapshot.position.revision)
    upto = min(
        records[-1].version if more else snapshot.position.revision,
        keys[limit - 1].version if len(keys) > limit else snapshot.position.revision,
        rows[limit - 1].revision if len(rows) > limit else snapshot.position.revision,
        publishers[limit - 1].touched if len(publishers) > limit else snapshot.position.revision,
    )
    return Dump(
        after,
        snapshot.position,
        snapshot.floor,
        [row for row in rows if row.revision <= upto],
        [record for record in records if record.version <= upto],
        [key for key in keys if key.version <= upto],
        upto,
        more=upto < snapshot.position.revision,
        publishers=[publisher for publisher in publishers if publisher.touched <= upto],
    )
