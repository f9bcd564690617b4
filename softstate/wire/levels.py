"""Levels of the protocol: which fields and operations a node may be sent (P-WIRE-10).

A node over HTTP refuses what it does not know, and a WebSocket ignores it in silence. So a client sends what came with
a later level only to a URL that has told such a level, in `welcome.level` or the header ``Softstate-Level``. Until it
has told one, a URL is of level 0.

A field is marked with `Since` in its annotation, ``mood: Annotated[str | None, Since(2)] = None``, and has to have a
default; an operation with ``SINCE: ClassVar[int] = 2`` in its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

LEVEL = 3
"""The level that nodes of this version tell, and the highest that clients of this version know."""

LEVEL_HEADER = "Softstate-Level"

M = TypeVar("M", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Since:
    """A mark: nodes below `level` do not know this field."""

    level: int


def fit(message: M, level: int) -> M | None:
    """Return a message without the fields that came after `level`; None if its whole operation did."""
    since, later = _later(type(message))
    if since > level:
        return None
    dropped = {
        name: default
        for name, (field_level, default) in later.items()
        if field_level > level and getattr(message, name) != default
    }
    return msgspec.structs.replace(message, **dropped) if dropped else message


@lru_cache(None)
def _later(kind: type[Any]) -> tuple[int, dict[str, tuple[int, Any]]]:
    """Return the level of an operation, and the level and default of each marked field."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, tuple[int, Any]] = {}
    for field in msgspec.structs.fields(kind):
        for mark in get_args(hints[field.name])[1:]:
            if isinstance(mark, Since):
                assert field.default is not msgspec.NODEFAULT, f"{kind.__name__}.{field.name} needs a default"
                found[field.name] = mark.level, field.default
    return getattr(kind, "SINCE", 0), found


def level_of(text: str | None) -> int:
    """Read the header ``Softstate-Level``: 0 if it is absent or no number."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else 0
