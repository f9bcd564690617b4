"""The gap buffer of a subscribe: holds pushes back between the lease entry and the answer, then sorts them out.

The order that leaves no gap: the names enter the lease (P-SUB-2); a store read *begins* (P-SUB-3); its answer is
written; the pushes held back are released, without what the read covered (P-SUB-5). A change before the read is in the
answer, a change after the lease entry is in the buffer: none is in neither.

The hub may be behind an answer for a while, and other subscribes may be answered meanwhile: each buffer takes over what
the one before it knows of answers that the hub has not reached.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable

from softstate.model import Record
from softstate.names import reaching

GAP_TOPICS_MAX = 1_024
"""Default for how many topics a gap buffer holds; beyond it all are dropped, and one more page is read (P-SUB-6)."""

GAP_BYTES_MAX = 1024 * 1024
"""Default for how many bytes of values a gap buffer holds; beyond it, as with `GAP_TOPICS_MAX`."""

_UNANSWERED = sys.maxsize
"""The revision of an answer that is not there yet."""


class GapBuffer:
    """Holds back the pushes of a lease, whose `names` are not copied: those of all of them, or those that `cover` adds.

    Not `whole`, it lets a topic pass that another name of the lease covers, too: its pushes must go out also while this
    subscribe is under way, or if it fails. A `whole` one follows the lease: a copy of 10,000 names, for a client that
    comes back with as many, cost as much again as entering them.

    `earlier` is the buffer of the subscribe before this one, on the same lease, unless that is `over`. It was released
    or given up, and is used no more: this one takes over what it knows, of names of the lease alone.
    """

    __slots__ = (
        "_answered", "_base", "_bytes", "_bytes_max", "_covered", "_covered_before", "_fresh", "_held", "_names",
        "_topics_max", "overflowed",
    )  # fmt: skip

    def __init__(
        self,
        names: Collection[str],
        *,
        whole: bool,
        earlier: GapBuffer | None = None,
        topics_max: int = GAP_TOPICS_MAX,
        bytes_max: int = GAP_BYTES_MAX,
    ) -> None:
        self._names = names
        self._fresh: dict[str, None] | None = None if whole else {}
        # Of the names that entered earlier: the revision of the answer to each, and to those that are not in there.
        self._answered: dict[str, int] = {}
        self._base = 0
        self._covered_before = 0
        self._topics_max = topics_max
        self._bytes_max = bytes_max
        self._held: dict[str, Record] = {}
        self._bytes = 0
        self._covered = _UNANSWERED
        self.overflowed = False
        if earlier is not None and not whole:
            self._follow(earlier)

    def _follow(self, earlier: GapBuffer) -> None:
        self._covered_before = max(earlier._covered, earlier._covered_before)
        if earlier._fresh is None:
            self._base = earlier._covered
        else:
            self._base, self._answered = earlier._base, earlier._answered
            self._answered.update(dict.fromkeys(earlier._fresh, earlier._covered))

    def cover(self, names: Iterable[str]) -> None:
        """Hold the pushes of more names back, which have just entered the lease."""
        if self._fresh is not None:
            self._fresh.update(dict.fromkeys(names))

    def uncover(self, names: Iterable[str]) -> None:
        """Forget names that have just left the lease: no more are known than it holds."""
        for name in names:
            self._answered.pop(name, None)
            if self._fresh is not None:
                self._fresh.pop(name, None)

    def takes(self, record: Record) -> bool:
        """Tell whether this push is held back, or dropped because an answer covers it; else it has to go out.

        Pushes come in revision order. After `release`, the first one beyond all answers makes the buffer `over`.
        """
        answered = self._first_answer(record.topic)
        if answered != _UNANSWERED:
            return record.version <= answered
        if not self.overflowed:
            self._hold(record)
        return True

    def _first_answer(self, topic: str) -> int:
        """Return the revision of the first of the answers to the names of the lease that cover a topic; 0 for none.

        That one alone counts: from then on the name that it answered is promised all pushes, whichever others cover the
        topic, too.
        """
        names = self._names
        return min([self._answer(name) for name in (topic, *reaching(topic)) if name in names], default=0)

    def _answer(self, name: str) -> int:
        if self._fresh is None or name in self._fresh:
            return self._covered
        return self._answered.get(name, self._base)

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

    def give_up(self) -> GapBuffer | None:
        """Drop what is held, for there will be no answer, and its names have left the lease.

        Return what has to stay for the sake of earlier answers, if anything has.
        """
        self.restart()
        self._covered = 0
        return self if self._covered_before else None

    def over(self, revision: int) -> bool:
        """Tell whether, with the hub at `revision`, this buffer is of no more use."""
        return revision >= max(self._covered, self._covered_before)


def _size(record: Record) -> int:
    return len(record.cbor or b"")
