"""The versions that this node knows to be the newest: a poll that names just those has nothing to learn.

Of a topic this holds *one* version, for which it is proven that an asker who holds it misses no change that the hub has
passed: the newest change that passed, or the version that the store had nothing newer for. An asker with any other
version is for the store to answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import final

from softstate.model import Page, Query, Record
from softstate.server.fanout.recent_changes import RecentChanges

LEARNT_MAX = 1_024
"""Topics that one answer teaches at most: of a poll for more, none. So many take 0.5 ms of a turn."""


@final
class KnownVersions:
    """Topic to version, of `topics_max` topics; those learnt first go first. `revision` is where the hub begins.

    It learns topics from answers of the store to polls, and their changes from the hub. Of prefixes it only knows that
    nothing at all has changed since the newest change.
    """

    def __init__(self, revision: int, recent: RecentChanges, topics_max: int) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._newest = revision
        self._recent = recent
        self._topics_max = topics_max

    def __len__(self) -> int:
        """Return how many topics it knows."""
        return len(self._versions)

    def note(self, record: Record) -> None:
        """Note a change that passes through the hub."""
        topic, version = record.topic, record.version
        self._newest = max(self._newest, version)
        known = self._versions.get(topic)
        if known is None:
            return
        if record.unreadable:
            # An answer has to name it as such.
            del self._versions[topic]
        elif known < version:
            self._versions[topic] = version

    def learn(self, query: Query, page: Page) -> None:
        """Take what an answer of the store, in the hub's lineage, says of the topics that were asked for.

        The hub may be ahead of that answer, or behind it: what it passes later is noted then, and a topic whose change
        it may have passed already is left out.
        """
        if page.more or page.restart or query.after or len(query.topics) > LEARNT_MAX:
            return
        revision, versions = page.position.revision, self._versions
        learnt = dict(query.topics)
        for record in page.records:
            if record.unreadable:
                learnt.pop(record.topic, None)
            elif record.topic in learnt:
                learnt[record.topic] = record.version
        if revision < self._newest:
            for topic in self._recent.changed_of(query.topics, revision):
                learnt.pop(topic, None)
        versions.update(learnt)
        while len(versions) > self._topics_max:
            versions.popitem(last=False)

    def nothing_newer(self, topics: Mapping[str, int], prefixes: Mapping[str, int], revision: int) -> bool:
        """Tell whether an asker who holds these versions, and prefixes up to these, misses nothing up to `revision`.

        If not, it may miss something or not.
        """
        if not topics.items() <= self._versions.items():
            return False
        newest = self._newest
        return all(newest <= since <= revision and since > 0 for since in prefixes.values())

    def restart(self, revision: int) -> None:
        """Begin a new history at `revision`."""
        self._versions.clear()
        self._newest = revision
