"""Which beats a session gets, and when one is true of it (P-BEAT).

A beat says: all up to a position was pushed before. It holds for a lease that lives, and has held the same names all
the time. Both sides know that of a set on which they have *agreed*: the empty one of a new lease, that of a subscribe
of the whole set, once it is answered, or that of a renewal that matched. The client's own changes since then, both make
alike. Any other change of the lease makes its digest another, and so ends the beats; the client renews, finds out, and
subscribes again.
"""

from __future__ import annotations

from softstate.position import Position
from softstate.session.effects import Effect, SetBeat
from softstate.session.load_advice import renew_ms
from softstate.session.state import SessionCore

BEAT_MS_MIN = 1_000
"""The shortest time between two beats. All others are this, doubled so many times."""

PER_RENEWAL = 2
"""Beats come at least so often between two renewals, or not at all: a renewal would tell as much."""


def granted_beat_ms(asked_ms: int, ttl_ms: int) -> int:
    """Return the time between two beats for a client that asks for `asked_ms` at most; 0 for none (P-BEAT-1)."""
    longest_ms = renew_ms(ttl_ms) // PER_RENEWAL
    if not asked_ms or longest_ms < BEAT_MS_MIN:
        return 0
    seconds = max(min(asked_ms, longest_ms) // BEAT_MS_MIN, 1)
    return BEAT_MS_MIN << (seconds.bit_length() - 1)


def set_beat(session: SessionCore, asked_ms: int | None) -> list[Effect]:
    """Grant the beat that `hello` or `renew` asks for; None leaves it as it is, but for what the TTL allows."""
    if asked_ms is not None:
        session.beat_asked_ms = asked_ms
    granted_ms = granted_beat_ms(session.beat_asked_ms, round(session.ttl_s * 1000))
    if granted_ms == session.beat_ms:
        return []
    session.beat_ms = granted_ms
    return [SetBeat(granted_ms)]


def vouches(session: SessionCore, position: Position | None, now: float) -> bool:
    """Tell whether a beat up to `position`, or one that certifies nothing, may be sent now (P-BEAT-2)."""
    lease = session.living_lease(now)
    if lease is None or session.agreed != lease.digest:
        return False
    return position is None or names_history_of(session, position)


def names_history_of(session: SessionCore, position: Position) -> bool:
    """Tell whether the last position that this client was told is of the same history as `position`.

    A node may read of a history that another node has begun before it notices that its own is over.
    """
    return session.named is not None and position.same_lineage(session.named)
