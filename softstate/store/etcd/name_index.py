"""The topics under the prefixes that a group of queries asks about, in version order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import trio

from softstate.names import ALL, prefixes_of
from softstate.store.etcd.messages import span
from softstate.store.etcd.rows import read_topic, topic_in
from softstate.store.etcd.snapshot import EtcdSnapshot
from softstate.store.rules.checksum import UNRANKED

PREFIX_TOPICS_MAX = 8_192
"""A prefix with more topics than this is read in version order, passing over what it does not cover."""

TURN_ENTRIES = 1_024
"""After how many topics other tasks get their turn."""


class Entry(NamedTuple):
    """A topic, its version, and whether it is live. Not `readable`: its row is damaged, and the version is none."""

    version: int
    live: bool
    topic: str
    readable: bool = True


def _read_entry(name: bytes, value: bytes, head: int) -> Entry | None:
    """Return the entry of a topic's row, None if it is of no topic. A damaged one stands before all others."""
    try:
        topic = name.decode()
    except UnicodeDecodeError:
        return None
    state = read_topic(topic, value, head)
    if state.readable:
        return Entry(state.version, state.live, topic)
    return None if topic_in(name) is None else Entry(UNRANKED, state.live, topic, readable=False)


class NameIndex:
    """The topics under some prefixes, in version order under each: sorted once, however many queries ask."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[Entry]] = {}
        self._sorted: dict[str, list[Entry]] = {}

    async def fetch(self, snapshot: EtcdSnapshot, counts: Mapping[str, int]) -> None:
        """Read the topics under these prefixes, those nested in others with them. `counts` tells how many each has."""
        widest = [prefix for prefix in counts if not any(outer in counts for outer in _wider(prefix))]
        part: list[str] = []
        size = 0
        for prefix in widest:
            size += counts[prefix]
            if part and size > 2 * PREFIX_TOPICS_MAX:
                await self._fetch(snapshot, part)
                part, size = [], counts[prefix]
            part.append(prefix)
        await self._fetch(snapshot, part)

    async def _fetch(self, snapshot: EtcdSnapshot, prefixes: Sequence[str]) -> None:
        root = len(snapshot.data.table("topic"))
        answers = await snapshot.ranges([span(*snapshot.data.under(prefix)) for prefix in prefixes])
        for prefix, found in zip(prefixes, answers, strict=True):
            entries = self._ranges[prefix] = []
            for at, kv in enumerate(found.kvs):
                entry = _read_entry(kv.key[root:], kv.value, snapshot.position.revision)
                if entry is not None:
                    entries.append(entry)
                if at % TURN_ENTRIES == 0:
                    await trio.lowlevel.checkpoint()

    def under(self, prefix: str, after: int) -> Iterator[Entry]:
        """Yield the topics under a prefix that was fetched, or nested in one, above a version, in version order."""
        entries = self._sorted.get(prefix)
        if entries is None:
            outer = next(outer for outer in [*_wider(prefix), prefix] if outer in self._ranges)
            names = self._ranges[outer]
            begin, end = 0, len(names)
            if prefix != outer:
                begin = bisect_left(names, prefix, key=itemgetter(2))
                end = bisect_left(names, f"{prefix[:-1]}0", key=itemgetter(2))
            entries = self._sorted[prefix] = sorted(names[begin:end])
        return (entries[at] for at in range(bisect_right(entries, after, key=itemgetter(0)), len(entries)))


def _wider(prefix: str) -> list[str]:
    """List the prefixes that cover all that this one does, and more."""
    return [] if prefix == ALL else prefixes_of(prefix)[:-1]
