"""Subscribing without a gap: what is pushed between the lease entry and the answer is held back, then sorted out.

The order that makes it gapless: the names enter the lease (P-SUB-2); a store read *begins* (P-SUB-3); its answer is
written; what was held is released, without what the read covered (P-SUB-5). A change before the read is in the answer,
a change after the lease entry is in the hold: none is in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from softstate.model import Record
from softstate.names import is_prefix, prefixes_of

HELD_MAX = 1_024
"""Default for how many topics a hold keeps; beyond it the hold is dropped, and one more page is read (P-SUB-6)."""

HELD_BYTES_MAX = 1024 * 1024
"""Default for how many bytes of values a hold keeps; beyond it, as with `HELD_MAX`."""


class GapBuffer:
    """Pushes held for names that have just entered the lease.

    A topic that a name held before covers as well is not held: its pushes must go out whatever becomes of this hold.
    """

    __slots__ = ("_before", "_bytes", "_held", "_held_bytes_max", "_held_max", "_until", "names", "overflowed")

    def __init__(
        self,
        names: Iterable[str],
        before: Iterable[str],
        held_max: int = HELD_MAX,
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        self.names = dict.fromkeys(names)
        self._before = dict.fromkeys(before)
        self._held_max = held_max
        self._held_bytes_max = held_bytes_max
        self._held: dict[str, Record] = {}
        self._bytes = 0
        self._until: int | None = None
        self.overflowed = False

    def takes(self, record: Record) -> bool:
        """Tell whether the hold keeps this push, or drops it because the answer covers it; else let it pass.

        Pushes come in revision order. After `release`, the first one beyond the answer makes the hold `over`.
        """
        if not _covered(self.names, record.topic) or _covered(self._before, record.topic):
            return False
        if self._until is not None:
            return record.version <= self._until
        if not self.overflowed:
            self._keep(record)
        return True

    def _keep(self, record: Record) -> None:
        older = self._held.get(record.topic)
        self._held[record.topic] = record
        self._bytes += _size(record) - (_size(older) if older is not None else 0)
        if len(self._held) > self._held_max or self._bytes > self._held_bytes_max:
            self._clear()
            self.overflowed = True

    def _clear(self) -> None:
        self._held.clear()
        self._bytes = 0

    def restart(self) -> None:
        """Hold anew, just before another read begins: that read covers everything so far."""
        self._clear()
        self.overflowed = False

    def release(self, revision: int) -> list[Record]:
        """Return what was held above the answer's `revision`; from now on drop what it covers, and pass the rest."""
        assert not self.overflowed
        self._until = revision
        released = [record for record in self._held.values() if record.version > revision]
        self._clear()
        return released

    def over(self, revision: int) -> bool:
        """Tell whether, with the hub at `revision`, this hold can be forgotten."""
        return self._until is not None and revision >= self._until


def _size(record: Record) -> int:
    return len(record.cbor or b"")


def _covered(names: Mapping[str, None], topic: str) -> bool:
    return topic in names or any(prefix in names for prefix in prefixes_of(topic))


def split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Sort names into topics and prefixes."""
    topics: list[str] = []
    prefixes: list[str] = []
    for name in names:
        (prefixes if is_prefix(name) else topics).append(name)
    return topics, prefixes
