"""Grants that credentials bring along: `read` and `write`, each a list of patterns, checked and bounded."""

from __future__ import annotations

from collections.abc import Collection

from softstate.auth.identity import Why, refused
from softstate.auth.patterns import ANY, check_pattern
from softstate.auth.rules import WILD_MAX, Allow, Who
from softstate.errors import Invalid, Unauthenticated

MET_MAX = 2_048
"""Most patterns that credentials may bring along, times those of a ceiling: each is met with each."""


def brought(claim: object, field: str, ceiling: Collection[str] | None, where: str) -> Allow | None:
    """Return what an object of `read` and `write` grants, None if nothing. Raises `Unauthenticated`, naming `field`."""
    if not isinstance(claim, dict) or "admin" in claim:
        raise malformed(f"{field} must be an object of 'read' and 'write': only a rule makes an administrator")
    read = patterns_in(claim.get("read", []), f"{field}.read")
    write = patterns_in(claim.get("write", []), f"{field}.write")
    check_few(read, write, ceiling, field)
    return Allow(Who(), tuple(read), tuple(write), where=where) if read or write else None


def patterns_in(value: object, field: str) -> list[str]:
    """Return a list of patterns. Raises `Unauthenticated`, naming `field`."""
    if not isinstance(value, list):
        raise malformed(f"{field} must be a list of patterns")
    try:
        return [check_pattern(text, field) for text in value]
    except Invalid as error:
        raise malformed(error.message) from None


def check_few(read: Collection[str], write: Collection[str], ceiling: Collection[str] | None, who: str) -> None:
    """Raise `Unauthenticated` if there are more patterns than may be brought along."""
    if max(sum(ANY in text for text in read), sum(ANY in text for text in write)) > WILD_MAX:
        raise malformed(f"{who} brings along more than {WILD_MAX} patterns with a '*'")
    if ceiling is not None and (len(read) + len(write)) * len(ceiling) > MET_MAX:
        few = MET_MAX // len(ceiling)
        raise malformed(f"{who} brings along more than {few} patterns, which is too many to hold to 'may_grant'")


def malformed(message: str) -> Unauthenticated:
    """Return the error of credentials that are not made as they should be."""
    return refused(Why.MALFORMED, message)
