"""Revisions and positions: points of a store's history."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

REVISION_MAX = 2**53 - 1
"""Revisions stay exact in a JSON number, which many parsers read as a double."""

Revision: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=REVISION_MAX)]
"""A revision or version, refused when decoded if it is out of range; 0 stands for nothing yet."""


class Position(msgspec.Struct, frozen=True):
    """A point of one history: the store's `epoch`, the `lineage` in force at `revision`, and `revision` itself.

    Two positions are comparable only on one history (P-REW-1). That a store still contains a position is a question for
    the store; a revision alone cannot tell a restored backup from the original.
    """

    epoch: str
    lineage: str
    revision: Revision

    def __str__(self) -> str:
        return f"{self.epoch}.{self.lineage}.{self.revision}"

    def at(self, revision: int) -> Position:
        """Name another revision of the same lineage."""
        return Position(self.epoch, self.lineage, revision)

    def same_lineage(self, other: Position) -> bool:
        """Tell whether both positions were made under the same lineage row of the same store."""
        return self.lineage == other.lineage and self.epoch == other.epoch

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read ``epoch.lineage.revision``, as a Softstate-Position header or an ETag has it; None if it is not that."""
        parts = text.split(".")
        if len(parts) == 3 and parts[0] and parts[1] and parts[2].isascii() and parts[2].isdigit():
            revision = int(parts[2]) if len(parts[2]) <= 16 else REVISION_MAX + 1
            if revision <= REVISION_MAX:
                return cls(parts[0], parts[1], revision)
        return None
