"""The answer to a publish, for somebody who may not read the topic (P-AUTH-4)."""

from __future__ import annotations

from dataclasses import replace

from softstate.errors import Conflict, RequestError
from softstate.store.base import Applied


def without_current(error: RequestError) -> RequestError:
    """Return the refusal of a publish without what it tells of the topic: its message has the version, too."""
    if not isinstance(error, Conflict):
        return error
    return Conflict("the topic is not as this publish expects it; to learn how it is takes the right to read it")


def without_version(applied: Applied, *, by_key: bool) -> Applied:
    """Return the success of a publish without a version that somebody else may have made.

    A key may be another's, a number is its publisher's own.
    """
    if applied.changed and not (applied.repeated and by_key):
        return applied
    return replace(applied, version=0)
