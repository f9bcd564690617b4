"""Publishers: numbers that make a publish safe to repeat, and the form in which an engine stores them.

A publisher numbers what it sends 1, 2, 3, …, and tells with each publish up to which number all is settled on its
side. The store needs to remember only what lies above: what is held is bounded by the publishers times what each has
in flight, and not by how much they publish in a span of time. Sequence numbers with a cumulative acknowledgement are
the method of TCP (RFC 9293), and of exactly-once producers in Kafka (KIP-98).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from softstate.errors import KeyReused
from softstate.store.base import Applied, Number, Publisher, Use

DIGEST_BYTES = 16
"""Length of a request's digest; a shorter one is filled up with zero bytes."""

_USE = struct.Struct(f">qq?{DIGEST_BYTES}s")
"""Number, version, changed, digest."""


class Notes:
    """One publisher, while a group of writes is judged."""

    def __init__(self, publisher: str, known: Publisher | None) -> None:
        self._publisher = publisher
        self._settled = known.settled if known is not None else 0
        self._touched = known.touched if known is not None else 0
        self._uses = dict(known.uses) if known is not None else {}
        self.known = known is not None
        """Whether the store remembers it, or will after this group."""
        self.noted = False
        """Whether this group has added anything."""

    def verdict(self, number: Number, digest: bytes) -> Applied | KeyReused | None:
        """Return the verdict on a number that was used or settled before, None for one that is new."""
        if number.seq <= self._settled:
            return KeyReused(
                f"publish {number.seq} of this publisher is a late copy, everything up to {self._settled} was settled:"
                " nothing was published; give it a new number if it is still wanted"
            )
        use = self._uses.get(number.seq)
        if use is None:
            return None
        if use.digest == digest:
            return Applied(use.version, repeated=True, changed=use.changed)
        return KeyReused(
            f"number {number.seq} of this publisher stands for another request: nothing was published; take a new one"
        )

    def note(self, number: Number, digest: bytes, applied: Applied, head: int) -> None:
        """Remember what a number was used for; `head` is the newest revision after it."""
        self._settled = max(self._settled, number.settled)
        self._touched = head
        self._uses[number.seq] = Use(digest, applied.version, applied.changed)
        self.known = self.noted = True

    def publisher(self) -> Publisher:
        """Return what is to be stored: no use of a settled number is."""
        uses = {seq: use for seq, use in self._uses.items() if seq > self._settled}
        return Publisher(self._publisher, self._settled, self._touched, uses)


def pack(uses: Mapping[int, Use]) -> bytes:
    """Return the uses of a publisher as bytes, in the order of their numbers."""
    return b"".join(_USE.pack(seq, use.version, use.changed, use.digest) for seq, use in sorted(uses.items()))


def unpack(data: bytes) -> dict[int, Use]:
    """Undo `pack`. Raises ValueError for bytes of another length."""
    if len(data) % _USE.size:
        raise ValueError(f"{len(data)} bytes hold no whole number of uses")
    return {seq: Use(digest, version, changed) for seq, version, changed, digest in _USE.iter_unpack(data)}
