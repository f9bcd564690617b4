"""The last second of credentials: for less than that, nothing is begun under them."""

from __future__ import annotations

import math

from softstate.auth.identity import NOTHING, Identity, Why, refused
from softstate.wire.messages import DURATION_MS_MAX

CREDENTIALS_S_MIN = 1.0
"""Credentials that are good for less than this count as expired (P-AUTH-3)."""

NOBODY = Identity("", "", NOTHING, until=-math.inf)
"""The identity of those who were not asked who they are: it may do nothing."""


def lasting(identity: Identity, now: float) -> Identity:
    """Return an identity. Raises `Unauthenticated` if its credentials are over, or hardly good any more."""
    if identity.until - now < CREDENTIALS_S_MIN:
        raise refused(Why.EXPIRED, "these credentials are over: present new ones")
    return identity


def credentials_ms(identity: Identity, at: float) -> int | None:
    """Return for how long after the arrival of a request, `at`, credentials are good; None for no end, or nobody's."""
    until = identity.until
    if until in (math.inf, -math.inf):
        return None
    left_ms = int((until - at) * 1000)
    return left_ms if 0 <= left_ms <= DURATION_MS_MAX else max(0, min(left_ms, DURATION_MS_MAX))
