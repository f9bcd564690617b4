"""The sink of a lease: its connection, as far as the lease table, the session and the hub know it."""

from __future__ import annotations

from typing import Any, Protocol

from softstate.position import Position
from softstate.wire.codec import Codec
from softstate.wire.messages import Farewell, Reason
from softstate.wire.push import PushBatch


class Sink(Protocol):
    """One connection. The lease table stores it, and never calls it; the hub and the node do, and none of these waits.

    One that raises has met a bug, and is told to `fail`: all others go on (S18).
    """

    @property
    def codec(self) -> Codec:
        """How it wants changes encoded."""

    def offer(self, batch: PushBatch) -> None:
        """Take committed changes to be pushed."""

    def flush(self) -> None:
        """Write what was queued in this turn; called after `Hub.flush_later` was."""

    def moved(self, position: Position) -> None:
        """Tell the peer that a lineage row passed (P-REW-6)."""

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        """End the lease and tell the peer, and when it may ask for another; the connection goes on (P-CONN-8)."""

    def judge(self) -> bool:
        """Judge the lease by rules that have changed, and tell the peer what it has lost; False if that has to wait."""

    def leave(self, reason: Farewell) -> None:
        """Tell the peer goodbye, and end the connection once that is written."""

    def fail(self) -> None:
        """End this connection alone, and its lease: it has met a bug (P-CONN-12)."""


class _Nowhere:
    """The sink of a session whose connection has ended. No lease has it."""

    def _refuse(self, *given: object, **_named: object) -> None:
        """Raise: no lease leads here."""
        raise AssertionError(f"a connection that has ended was called with {given}")

    codec: Any = property(_refuse)
    judge: Any = _refuse
    offer = flush = moved = revoked = leave = fail = _refuse


NOWHERE: Sink = _Nowhere()
