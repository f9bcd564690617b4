"""Scanning many prefixes at once, in version order, within the cost of a page.

There are two ways to the records under a prefix. *By name*: list all of them, and sort (`VersionIndex` keeps the
result). *By the log*: walk through what changed above a revision, and pass over what no prefix covers. By name a small
prefix of a large store is cheap, but nothing is known of its order until all of it was listed, so a page cannot end in
between; a walk can end anywhere, and costs the same for a hundred prefixes as for one. Hence, for each page:

1. Prefixes whose versions are cached, or that are small, by name.
2. The others together by the log, for as long as it is dense enough for them to fill the page.
3. Where it is not, those that are small enough to be listed with what is left of the cost, by name from there on; the
   log for the rest, until the page is full or has cost enough. What was listed is cached: later pages list more.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Protocol

from softstate.model import Record
from softstate.names import ALL, prefixes_of
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import Scan
from softstate.store.rules.version_index import VersionIndex

SMALL_TOPICS_MAX = 2_048
"""A prefix with no more records than this is listed by name at once."""

LISTED_TOPICS_MAX = 16_384
"""A prefix with more records than this is never listed by name."""

LISTED_SHARE = 8
"""A prefix is listed by name while this part of what a page may cost, or as much as it may have, is left for it."""

LISTED_COST = 16
"""The cost of listing a prefix beyond its records: that of a statement."""

LOG_ROWS_MIN = 64
LOG_ROWS_MAX = 4_096
"""Rows of the log walked at once: few at first, since a page may end at any of them."""

SPARSE_ROWS = 4_096
"""After a walk through so many rows without filling the page, listing by name is considered."""

NEAR_HEAD = 256
"""Within so many revisions of the head the log is walked, however small a prefix is."""

FRESH_ROWS_MAX = 1_024
"""A cached list is brought up to date by at most so many rows of the log; beyond that it is made again."""

LOADED_MIN = 16
LOADED_MAX = 256
LOADED_BYTES = 64 * 1024
"""Records loaded at once, as of the log's rows; four times as many after each portion whose values were smaller."""

PROBED_MAX = 16
"""Up to so many prefixes, a topic of the log is compared with all of them, in one call; beyond it, it is looked up."""

_version = attrgetter("version")


class Rows(Protocol):
    """The rows of one snapshot, as an engine reads them."""

    def versions_under(self, prefix: str, limit: int) -> Sequence[int]:
        """List the versions of all records under a prefix, in any order; `limit` at most."""

    def log(self, after: int, limit: int) -> tuple[Sequence[str], Sequence[int]]:
        """List topics and versions of the next `limit` records above a revision, in version order."""

    def load_present(self, versions: Sequence[int], prefixes: Collection[str]) -> Iterable[Record]:
        """Yield those of these versions, ascending, that are still of a record, which one of the prefixes covers."""

    def all_after(self, after: int, limit: int) -> Sequence[Record]:
        """List the next `limit` records above a revision, in version order."""


class PrefixScan:
    """The scans of one page. Implements `CountedSnapshot.scan_counted` on top of `Rows`."""

    def __init__(self, rows: Rows, head: int, index: VersionIndex, cost: ReadCost) -> None:
        self._rows = rows
        self._head = head
        self._index = index
        self._cost = cost
        self._fresh: dict[int, tuple[Sequence[str], Sequence[int]]] = {}

    def records(self, scans: Sequence[Scan]) -> Iterator[Record]:
        """Yield what the scans find, in version order, as far as the cost allows."""
        wanted = without_nested(scans)
        if set(wanted) == {ALL}:
            return self._walk_all(*wanted[ALL])
        walked: dict[str, tuple[int, bool]] = {}
        named: dict[str, array[int]] = {}
        for prefix, (after, dead) in wanted.items():
            versions = None if self._head - after <= NEAR_HEAD else self._listed(prefix, SMALL_TOPICS_MAX)
            if versions is None:
                walked[prefix] = after, dead
            else:
                named[prefix] = versions
        sources = [self._by_name(named, wanted, 0)] if named else []
        if walked:
            sources.append(self._walk(walked))
        return heapq.merge(*sources, key=_version) if len(sources) > 1 else iter(sources[0])

    # By name ---------------------------------------------------------------------------------------------------------

    def _listed(self, prefix: str, size_max: int) -> array[int] | None:
        """Return the versions under a prefix, if it has at most so many records and the cost allows; else None."""
        if prefix == ALL:
            return None
        known = self._index.get(prefix)
        if known is not None:
            if known.least:
                if self._head - known.at > known.least:
                    known = None
            elif self._is_brought_up(prefix):
                return known.versions
        # Half of what is left is kept for the records themselves.
        limit = min(size_max, self._cost.left // 2 - LISTED_COST)
        enough = max(min(size_max, self._cost.limit // LISTED_SHARE), 1)
        if limit < enough or (known is not None and limit <= known.least):
            return None
        found = self._rows.versions_under(prefix, limit + 1)
        self._cost.add(len(found) + LISTED_COST)
        if len(found) > limit:
            self._index.put_large(prefix, self._head, limit)
            return None
        return self._index.put(prefix, self._head, found).versions

    def _is_brought_up(self, prefix: str) -> bool:
        known = self._index.get(prefix)
        assert known is not None
        if known.at == self._head:
            return True
        if known.at > self._head:
            return False
        if known.at not in self._fresh:
            self._fresh[known.at] = self._rows.log(known.at, FRESH_ROWS_MAX + 1)
            self._cost.add(len(self._fresh[known.at][0]))
        topics, versions = self._fresh[known.at]
        if len(topics) > FRESH_ROWS_MAX:
            return False
        newer = [version for topic, version in zip(topics, versions, strict=True) if topic.startswith(prefix)]
        return self._index.advance(prefix, known, self._head, newer)

    def _by_name(
        self, named: Mapping[str, array[int]], wanted: Mapping[str, tuple[int, bool]], least: int
    ) -> Iterator[Record]:
        """Yield the records of lists of versions above what is wanted of each prefix, and above `least`."""
        lists: list[Sequence[int]] = []
        for prefix, versions in named.items():
            after = wanted[prefix][0]
            begin = bisect_right(versions, max(after, least))
            # A copy: a view would keep the array from growing, while another query of the group brings it up to date.
            lists.append(versions[begin:])
        merged = _once(heapq.merge(*lists)) if len(lists) > 1 else iter(lists[0])
        size = LOADED_MIN
        while some := list(islice(merged, size)):
            self._cost.add(len(some))
            yield from self._load(some, wanted)
            if not self._cost.left:
                self._cost.end_at(some[-1])
                return
            size = min(size * 4, LOADED_MAX)

    # By the log ------------------------------------------------------------------------------------------------------

    def _walk(self, walked: Mapping[str, tuple[int, bool]]) -> Iterator[Record]:
        """Walk the log for prefixes; where it is sparse, go on by name for those that can be listed."""
        cursor = min(after for after, _ in walked.values())
        size, passed = LOG_ROWS_MIN, 0
        while passed < SPARSE_ROWS:
            limit = min(size, max(self._cost.left, LOG_ROWS_MIN))
            topics, versions = self._rows.log(cursor, limit)
            yield from self._load_covered(topics, versions, walked)
            if len(versions) < limit:
                return
            cursor = versions[-1]
            if not self._cost.left:
                self._cost.end_at(cursor)
                return
            passed += limit
            size = min(size * 4, LOG_ROWS_MAX)
        yield from self._walk_on(walked, cursor)

    def _walk_on(self, walked: Mapping[str, tuple[int, bool]], cursor: int) -> Iterator[Record]:
        named: dict[str, array[int]] = {}
        for prefix in walked:
            versions = self._listed(prefix, LISTED_TOPICS_MAX)
            if versions is not None:
                named[prefix] = versions
        rest = {prefix: (max(after, cursor), dead) for prefix, (after, dead) in walked.items() if prefix not in named}
        sources = [self._by_name(named, walked, cursor)] if named else []
        if rest:
            sources.append(self._walk_to_end(rest))
        yield from heapq.merge(*sources, key=_version)

    def _walk_to_end(self, walked: Mapping[str, tuple[int, bool]]) -> Iterator[Record]:
        cursor = min(after for after, _ in walked.values())
        while True:
            limit = min(LOG_ROWS_MAX, max(self._cost.left, LOG_ROWS_MIN))
            topics, versions = self._rows.log(cursor, limit)
            yield from self._load_covered(topics, versions, walked)
            if len(versions) < limit:
                return
            cursor = versions[-1]
            if not self._cost.left:
                self._cost.end_at(cursor)
                return

    def _load_covered(
        self, topics: Sequence[str], versions: Sequence[int], walked: Mapping[str, tuple[int, bool]]
    ) -> Iterator[Record]:
        self._cost.add(len(topics))
        found = _covered(topics, versions, walked)
        at, size = 0, LOADED_MIN
        while at < len(found):
            yield from self._load(found[at : at + size], walked)
            at += size
            size = min(size * 4, LOADED_MAX)

    def _load(self, versions: Sequence[int], wanted: Mapping[str, tuple[int, bool]]) -> Iterator[Record]:
        """Yield the records of versions that are wanted of a prefix, without tombstones that are not."""
        for record in self._rows.load_present(versions, wanted):
            if not record.deleted or any(
                prefix in wanted and wanted[prefix][1] and record.version > wanted[prefix][0]
                for prefix in prefixes_of(record.topic)
            ):
                yield record

    def _walk_all(self, after: int, dead: bool) -> Iterator[Record]:
        size = LOADED_MIN
        while True:
            records = self._rows.all_after(after, size)
            self._cost.add(len(records))
            yield from (record for record in records if dead or not record.deleted)
            if len(records) < size:
                return
            after = records[-1].version
            if not self._cost.left:
                self._cost.end_at(after)
                return
            if sum(len(record.cbor or b"") for record in records) < LOADED_BYTES:
                size = min(size * 4, LOADED_MAX)


def names_below(prefix: str) -> tuple[str, str]:
    """Return the half-open range of names under a prefix: "0" follows "/" in UTF-8, as engines compare names."""
    return prefix, prefix[:-1] + "0"


def without_nested(scans: Sequence[Scan]) -> dict[str, tuple[int, bool]]:
    """Return what is wanted of each prefix, without those of which a wider one wants as much."""
    wanted = {prefix: (after, dead) for prefix, after, dead in scans}
    return {
        prefix: (after, dead)
        for prefix, (after, dead) in wanted.items()
        if not any(
            wider in wanted and wanted[wider][0] <= after and wanted[wider][1] >= dead
            for wider in (prefixes_of(prefix[:-1]) if prefix != ALL else ())
        )
    }


def _covered(topics: Sequence[str], versions: Sequence[int], walked: Mapping[str, tuple[int, bool]]) -> list[int]:
    """Return the versions of the topics that one of the prefixes wants."""
    rows = zip(topics, versions, strict=True)
    if len(walked) <= PROBED_MAX and len({after for after, _ in walked.values()}) == 1:
        after = next(iter(walked.values()))[0]
        begins = tuple("" if prefix == ALL else prefix for prefix in walked)
        return [version for topic, version in rows if version > after and topic.startswith(begins)]
    return [
        version
        for topic, version in rows
        if any(prefix in walked and version > walked[prefix][0] for prefix in prefixes_of(topic))
    ]


def _once(versions: Iterable[int]) -> Iterator[int]:
    """Leave out repetitions, which follow each other."""
    last = 0
    for version in versions:
        if version != last:
            yield version
        last = version
