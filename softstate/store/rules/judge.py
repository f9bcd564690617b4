"""Judging one publish: idempotency and compare-and-set, the same in every engine."""

from __future__ import annotations

from dataclasses import dataclass

from softstate.errors import Conflict, KeyReused, Overloaded
from softstate.store.base import Applied, Verdict, Write

KEYS_RETRY_MS = 5_000
"""What `Overloaded` asks for when no idempotency key can be added: keys go as they age, a few every second."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a store knows that bears on one publish, at its place in the group.

    `version` is the topic's, 0 when there is no record; `live` tells a value from a tombstone. `used` is what the
    idempotency key stands for already, as (digest, version). `witnessed` is whether the witness, if any, is on the
    history.
    """

    version: int
    live: bool
    used: tuple[bytes, int] | None
    witnessed: bool
    keys_full: bool


def judge(publish: Write, standing: Standing) -> Verdict | None:
    """Return the verdict on a publish that must not be applied, or None when it must be.

    The key is looked up first: a repeated request gets the first success even if its `expect` would lose now, for it
    was this very request that moved the version.
    """
    if standing.used is not None:
        digest, version = standing.used
        if digest == publish.digest:
            return Applied(version, repeated=True)
        return KeyReused(
            f"idempotency key {publish.key!r} was used on {publish.topic!r} for another request: choose a new key"
        )
    if not standing.witnessed:
        return Conflict(
            f"{publish.topic!r} was read before the store was rewound: read it again, then decide",
            current=standing.version,
        )
    if publish.expect is not None and not _expected(publish.expect, standing):
        return Conflict(
            f"{publish.topic!r} is at version {standing.version}, not {publish.expect}: read it, then decide again",
            current=standing.version,
        )
    if publish.key is not None and standing.keys_full:
        return Overloaded("too many idempotency keys are held: retry, or publish without one", retry_ms=KEYS_RETRY_MS)
    return None


def _expected(expect: int, standing: Standing) -> bool:
    """Tell whether a compare-and-set wins (P-PUB-3). A tombstone counts as absent, and as being at its version."""
    return expect == standing.version or (expect == 0 and not standing.live)
