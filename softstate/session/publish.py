"""Publishes over WebSocket: a request that rests on no lease, and that overlaps with all others."""

from __future__ import annotations

from softstate.session.effects import Effect, Submit
from softstate.session.state import SessionCore
from softstate.wire.messages import Publish


def submit(_session: SessionCore, message: Publish, _now: float) -> list[Effect]:
    """Hand a publish on; it is answered when it is durable (P-PUB-1), and overlaps with all else (P-CONN-4)."""
    return [Submit(message)]
