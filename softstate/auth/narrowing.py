"""Denied prefixes: some of the names below them that may be read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from softstate.auth.identity import Grant

NARROWED_MAX = 16
"""Most denied prefixes for which one answer tells it: of each, `softstate.auth.identity.NARROW_MAX` names at most."""


def narrowed(grant: Grant, denied: Iterable[str]) -> dict[str, list[str]]:
    """Return, for some of the denied prefixes, the names below them that may be read."""
    found = ((name, list(grant.narrow(name))) for name in denied if name[-1] == "/")
    return dict(islice(((name, names) for name, names in found if names), NARROWED_MAX))
