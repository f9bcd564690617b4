"""The cost of a read: how many names and records a store looks at for it.

Bytes of answers bound neither what a query costs nor how long others wait: a page of a prefix that has a million
tombstones, or topics that are spread thinly over a large store, may look at all of them. So a page may also end by its
cost, with `more`, and perhaps without a record (P-SUB-16); and a group is answered only as far as one call may cost.
"""

from __future__ import annotations

from softstate.position import REVISION_MAX


class ReadCost:
    """The cost of one page in the making.

    Each scan of it counts what it looks at. One that meets a spent budget ends, and says with `end_at` how far it has
    looked: at one record more than where it began, at least, so that the pages behind come to an end.
    """

    __slots__ = ("limit", "spent", "upto")

    def __init__(self, limit: int = REVISION_MAX) -> None:
        self.limit = limit
        self.spent = 0
        self.upto: int | None = None
        """The revision up to which every scan has looked, once one of them has ended early."""

    @property
    def left(self) -> int:
        """How many names and records may still be looked at."""
        return max(self.limit - self.spent, 0)

    def add(self, count: int) -> None:
        """Count names or records looked at, found or not."""
        self.spent += count

    def end_at(self, revision: int) -> None:
        """End the page at a revision: a scan has looked no further."""
        self.upto = revision if self.upto is None else min(self.upto, revision)
