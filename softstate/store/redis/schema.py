"""The function library that runs inside Redis, and the state of the store that each of its answers begins with.

The library's text is in `lua`, a few files that make one library; ``lua/layout.lua`` lists the keys. A library is
global to a server, and serves every namespace and every node there; other programs call it too (``lua/direct.lua``).
So its functions keep their names and meanings from one `REVISION` to the next, unless the layout changes, and a node
replaces a library only by a newer one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from softstate.position import Position
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.history import check_seen

REVISION = 2
"""Goes up with every release that changes the library."""

LAYOUT = 2
"""The layout of the keys. It is in the names of the functions for nodes, so a node of another layout finds none."""

NAME = "softstate"

_PARTS = ("layout", "history", "publish", "direct", "merge", "read", "adopt", "migrate", "build")


def _library() -> tuple[str, str]:
    folder = files(__package__) / "lua"
    body = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS)
    build = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f"#!lua name={NAME}\n{body.replace('@REVISION@', str(REVISION)).replace('@BUILD@', build)}", build


LIBRARY, BUILD = _library()
"""The argument of FUNCTION LOAD; and a digest, by which two texts of one revision differ."""


def must_be_replaced(revision: int, build: bytes) -> bool:
    """Tell whether a node must load this library where it found another."""
    return revision < REVISION or (revision == REVISION and build.decode() != BUILD)


def function(name: str) -> str:
    """Return the full name of a function for nodes."""
    return f"softstate_{LAYOUT}_{name}"


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store as of one call: its newest commit, its floor, and the lineage at the revision that the caller saw."""

    position: Position
    floor: int
    lineage_seen: str | None

    @classmethod
    def read(cls, answer: Sequence[Any]) -> StoreState:
        """Read what `state_of` in ``lua/layout.lua`` returns."""
        epoch, lineage, head, floor, lineage_seen = answer
        return cls(Position(text(epoch), text(lineage), head), floor, text_or_none(lineage_seen))

    def check(self, seen: Position) -> None:
        """Raise `StoreRewound` if the position `seen` is not on the history."""
        check_seen(seen, FetchedSnapshot(self.position, self.floor, lineage_of={seen.revision: self.lineage_seen}))


def text(data: bytes) -> str:
    """Return text from the library, which is UTF-8 since it was when it was put there."""
    return data.decode()


def text_or_none(data: bytes | None) -> str | None:
    """Return text, or None for Lua's false."""
    return None if data is None else data.decode()
