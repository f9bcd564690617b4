"""The gap buffer of a subscribe: holds pushes back between the lease entry and the answer, then sorts them out.

The order that leaves no gap: the names enter the lease (P-SUB-2); a store read *begins* (P-SUB-3); its answer is
written; the pushes held back are released, without what the read covered (P-SUB-5). A change before the read is in the
answer, a change after the lease entry is in the buffer: none is in neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from softstate.model import Record
from softstate.names import prefixes_of

GAP_TOPICS_MAX = 1_024
"""Default for how many topics a gap buffer holds; beyond it all are dropped, and one more page is read (P-SUB-6)."""

GAP_BYTES_MAX = 1024 * 1024
"""Default for how many bytes of values a gap buffer holds; beyond it, as with `GAP_TOPICS_MAX`."""


class GapBuffer:
    """Holds back the pushes of a lease, whose `names` are not copied: those of all of them, or those that `cover` adds.

    Not `whole`, it lets a topic pass that another name of the lease covers, too: its pushes must go out also while this
    subscribe is under way, or if it fails. A `whole` one follows the lease: a copy of 10,000 names, for a client that
    comes back with as many, cost as much again as entering them.
    """

    __slots__ = ("_bytes", "_bytes_max", "_covered", "_fresh", "_held", "_names", "_topics_max", "overflowed")

    def __init__(
        self, names: Collection[str], *, whole: bool, topics_max: int = GAP_TOPICS_MAX, bytes_max: int = GAP_BYTES_MAX
    ) -> None:
        self._names = names
        self._fresh: dict[str, None] | None = None if whole else {}
        self._topics_max = topics_max
        self._bytes_max = bytes_max
        self._held: dict[str, Record] = {}
        self._bytes = 0
        self._covered: int | None = None
        self.overflowed = False

    def cover(self, names: Iterable[str]) -> None:
        """Hold the pushes of more names back, which have just entered the lease."""
        if self._fresh is not None:
            self._fresh.update(dict.fromkeys(names))

    def takes(self, record: Record) -> bool:
        """Tell whether this push is held back, or dropped because the answer covers it; else it has to go out.

        Pushes come in revision order. After `release`, the first one beyond the answer makes the buffer `over`.
        """
        if not self._alone_covers(record.topic):
            return False
        if self._covered is not None:
            return record.version <= self._covered
        if not self.overflowed:
            self._hold(record)
        return True

    def _alone_covers(self, topic: str) -> bool:
        """Tell whether of all names of the lease only ones of this buffer cover a topic."""
        fresh = self._names if self._fresh is None else self._fresh
        found = False
        for name in (topic, *prefixes_of(topic)):
            if name in fresh:
                found = True
            elif name in self._names:
                return False
        return found

    def _hold(self, record: Record) -> None:
        older = self._held.get(record.topic)
        self._held[record.topic] = record
        self._bytes += _size(record) - (_size(older) if older is not None else 0)
        if len(self._held) > self._topics_max or self._bytes > self._bytes_max:
            self._clear()
            self.overflowed = True

    def _clear(self) -> None:
        self._held.clear()
        self._bytes = 0

    def restart(self) -> None:
        """Drop what is held, just before another read begins: that read covers everything so far."""
        self._clear()
        self.overflowed = False

    def release(self, revision: int) -> list[Record]:
        """Return what is held above the answer's `revision`; from now on drop what it covers, and let the rest pass."""
        assert not self.overflowed
        self._covered = revision
        released = [record for record in self._held.values() if record.version > revision]
        self._clear()
        return released

    def over(self, revision: int) -> bool:
        """Tell whether, with the hub at `revision`, this buffer is of no more use."""
        return self._covered is not None and revision >= self._covered


def _size(record: Record) -> int:
    return len(record.cbor or b"")
