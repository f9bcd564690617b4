"""A cache of the versions under prefixes, sorted once and not for every page of an answer.

An index by name leads to the topics under a prefix, but not in the order of their versions, in which answers are paged.
Sorting all of them again for every page costs the square of their number. So the sorted versions of a prefix are kept,
and brought up to a newer head by what the log has above the old one: superseded versions stay in the list, and are
passed over when they are loaded.

Sans-I/O. Of one history only: clear it when the store is opened again. Only for one thread.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

VERSIONS_CACHED = 1_000_000
"""Most versions that a cache holds, at 8 bytes each; the prefixes used least recently are dropped."""

ENTRY_VERSIONS = 64
"""An entry counts as so many versions more than it has: what it costs by itself."""

STALE_FRACTION = 0.5
"""A list is made again once more than this fraction of it was added since it was made: as many may be superseded."""


@dataclass(slots=True)
class PrefixVersions:
    """The versions of the records under a prefix, ascending, as of revision `at`; some may be superseded.

    `least`: there are more than so many, and they were not listed.
    """

    at: int
    versions: array[int] = field(default_factory=lambda: array("q"))
    least: int = 0
    listed: int = 0

    @property
    def size(self) -> int:
        """The size of the entry, in versions."""
        return len(self.versions) + ENTRY_VERSIONS


class VersionIndex:
    """The cache: prefixes, each with what is known of its versions."""

    def __init__(self, versions_max: int = VERSIONS_CACHED) -> None:
        self._versions_max = versions_max
        self._entries: OrderedDict[str, PrefixVersions] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """Return the size of all entries, in versions."""
        return self._size

    def clear(self) -> None:
        """Forget everything: the history may be another."""
        self._entries.clear()
        self._size = 0

    def get(self, prefix: str) -> PrefixVersions | None:
        """Return what is known of a prefix."""
        entry = self._entries.get(prefix)
        if entry is not None:
            self._entries.move_to_end(prefix)
        return entry

    def put(self, prefix: str, at: int, versions: Iterable[int]) -> PrefixVersions:
        """Keep the versions under a prefix as of a revision, given in any order."""
        ordered = array("q", sorted(versions))
        return self._keep(prefix, PrefixVersions(at, ordered, listed=len(ordered)))

    def put_large(self, prefix: str, at: int, least: int) -> None:
        """Keep that there were more than `least` records under a prefix."""
        self._keep(prefix, PrefixVersions(at, least=least))

    def advance(self, prefix: str, entry: PrefixVersions, at: int, newer: Sequence[int]) -> bool:
        """Bring an entry up to revision `at` with the versions since, ascending; False: it has to be made again."""
        if len(entry.versions) + len(newer) - entry.listed > max(STALE_FRACTION * entry.listed, ENTRY_VERSIONS):
            self._drop(prefix)
            return False
        entry.versions.extend(newer)
        entry.at = at
        self._size += len(newer)
        self._evict()
        return True

    def _keep(self, prefix: str, entry: PrefixVersions) -> PrefixVersions:
        self._drop(prefix)
        self._entries[prefix] = entry
        self._size += entry.size
        self._evict()
        return entry

    def _drop(self, prefix: str) -> None:
        entry = self._entries.pop(prefix, None)
        if entry is not None:
            self._size -= entry.size

    def _evict(self) -> None:
        while self._size > self._versions_max:
            _, entry = self._entries.popitem(last=False)
            self._size -= entry.size
