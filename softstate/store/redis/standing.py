"""What every answer of the library begins with: where the store stands, and whether what was seen is still true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softstate.position import Position
from softstate.store.remote.fetched import Fetched
from softstate.store.rules.paging import check_seen


@dataclass(frozen=True, slots=True)
class Standing:
    """The store as of one call: its newest commit, its floor, and the lineage at the revision that was seen."""

    position: Position
    floor: int
    lineage_seen: str | None

    @classmethod
    def read(cls, answer: Sequence[Any]) -> Standing:
        """Read what `standing_of` in ``lua/layout.lua`` makes."""
        epoch, lineage, head, floor, lineage_seen = answer
        return cls(Position(text(epoch), text(lineage), head), floor, text_or_none(lineage_seen))

    def check(self, seen: Position) -> None:
        """Raise `StoreRewound` if what was seen is not on the history."""
        check_seen(seen, Fetched(self.position, self.floor, lineage_of={seen.revision: self.lineage_seen}))


def text(data: bytes) -> str:
    """Return text from the library, which is UTF-8 since it was when it was put there."""
    return data.decode()


def text_or_none(data: bytes | None) -> str | None:
    """Return text, or None for Lua's false."""
    return None if data is None else data.decode()
