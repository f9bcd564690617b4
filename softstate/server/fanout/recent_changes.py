"""The topics that have changed not long ago: what a long poll waits for, and what an answer of the store may lack."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping

import trio

from softstate.names import reaching
from softstate.server.fanout.name_watches import NameWatches

RECENT_MAX = 4_096
"""Topics whose last change is remembered, so that a long poll notices a change that passed just before it."""


class RecentChanges:
    """Wakes those that wait for a change of one topic, or of some names. `revision` is where the hub begins."""

    def __init__(self, revision: int) -> None:
        self.watches = NameWatches()
        """Those that wait for a change of any of some names."""
        self._watched: dict[str, trio.lowlevel.ParkingLot] = {}
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._floor = revision

    def note(self, topic: str, version: int) -> None:
        """Note a change that passes through the hub."""
        self._versions[topic] = version
        self._versions.move_to_end(topic)
        if len(self._versions) > RECENT_MAX:
            _, self._floor = self._versions.popitem(last=False)
        lot = self._watched.get(topic)
        if lot is not None:
            lot.unpark_all()
        self.watches.note(topic, version)

    def any_changed(self, names: Collection[str], after: int) -> bool:
        """Tell whether a change above revision `after` that one of `names` covers has passed, or may have."""
        if after < self._floor:
            return True
        for topic in reversed(self._versions):
            if self._versions[topic] <= after:
                return False
            if topic in names or any(prefix in names for prefix in reaching(topic)):
                return True
        return False

    def changed_of(self, topics: Mapping[str, object], after: int) -> Collection[str]:
        """Return those of `topics` of which a change above revision `after` has passed, or may have."""
        if after < self._floor:
            return topics
        versions = self._versions
        return [topic for topic in versions.keys() & topics.keys() if versions[topic] > after]

    def restart(self, revision: int) -> None:
        """Begin a new history at `revision`: all who wait are woken."""
        self._versions.clear()
        self._floor = revision
        for lot in self._watched.values():
            lot.unpark_all()
        self.watches.wake_all()

    async def changed(self, topic: str, after: int) -> None:
        """Return when a change of `topic` above revision `after` has passed; perhaps early, never late."""
        if after < self._floor or self._versions.get(topic, 0) > after:
            await trio.lowlevel.checkpoint()
            return
        lot = self._watched.setdefault(topic, trio.lowlevel.ParkingLot())
        try:
            await lot.park()
        finally:
            if not lot and self._watched.get(topic) is lot:
                del self._watched[topic]
