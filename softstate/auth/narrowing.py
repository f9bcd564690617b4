"""Denied prefixes: some of the names below them that may be read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from softstate.auth.identity import Grant

NARROWED_MAX = 16
"""Most denied prefixes that are looked at for one answer; of each, it tells `softstate.auth.identity.NARROW_MAX` names
at most."""


def narrowed(grant: Grant, denied: Iterable[str]) -> dict[str, list[str]]:
    """Return, for the first of the denied prefixes, the names below them that may be read, if there are any."""
    prefixes = islice((name for name in denied if name[-1] == "/"), NARROWED_MAX)
    found = ((name, list(grant.narrow(name))) for name in prefixes)
    return {name: names for name, names in found if names}
