"""The time for which the peer of a session may be silent, and the end of a session whose peer was."""

from __future__ import annotations

from collections.abc import Sequence

from softstate.auth.identity import Why, refused
from softstate.errors import Invalid
from softstate.lease import GRACE
from softstate.server.config import ServerConfig
from softstate.session import Effect, SessionMachine, State
from softstate.wire import CloseCode

IDLE_LEASES = 2
"""A connection is closed when it was silent for this many times TTL plus grace (P-CONN-5)."""


def silence_s_max(session: SessionMachine, config: ServerConfig) -> float:
    """Return for how long the peer of a session may be silent now, in seconds."""
    lease = session.lease
    if session.denied:
        return config.reauth_s
    if session.state is State.NEW or lease is None:
        return config.hello_s_max
    return IDLE_LEASES * lease.ttl_s * (1 + GRACE)


def end_silent(session: SessionMachine, config: ServerConfig) -> Sequence[Effect]:
    """End a session whose peer was silent for too long."""
    if session.state is State.NEW:
        return session.refuse(Invalid(f"no hello within {config.hello_s_max} s"), code=CloseCode.SLOW_HELLO)
    if session.denied:
        error = refused(Why.REVOKED, "the credentials of this session were revoked: open another with new ones")
        return session.refuse(error, code=CloseCode.REVOKED)
    return session.leave("idle")
