"""The function library that does the work inside Redis: its text, and which one a server has.

The text is in `lua`, a few files that make one library. A library is global to a server, and serves every
namespace and every node there; other programs call it too (`lua/direct.lua`). So its functions keep their names
and meanings from one `REVISION` to the next, and a node replaces a library only by a newer one.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

REVISION = 1
"""Goes up with every release that changes the library."""

NAME = "softstate"

_PARTS = ("layout", "history", "publish", "direct", "merge", "read", "adopt", "build")


def _text() -> tuple[str, str]:
    folder = files(__package__) / "lua"
    body = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS)
    build = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f"#!lua name={NAME}\n{body.replace('@REVISION@', str(REVISION)).replace('@BUILD@', build)}", build


TEXT, BUILD = _text()
"""What FUNCTION LOAD is given; and a digest, by which two texts of one revision differ."""


def must_be_replaced(revision: int, build: bytes) -> bool:
    """Tell whether a node must load this library where it found another."""
    return revision < REVISION or (revision == REVISION and build.decode() != BUILD)
