"""Effects of a session that end something of another connection, or of names that are not its own any more."""

from __future__ import annotations

from functools import partial

from softstate.names import covered
from softstate.server.fanout.outbox import Outbox
from softstate.session import CloseOther, DropUncovered


def end_others(outbox: Outbox, effect: DropUncovered | CloseOther) -> None:
    """Drop the pushes of names that have left the lease, or end the connection that had the session before."""
    if isinstance(effect, DropUncovered):
        outbox.discard(partial(covered, effect.names))
    else:
        effect.sink.leave("replaced")
