"""Notes what happens to a session in the history of its lease; nothing that happens as long as all is well."""

from __future__ import annotations

from collections.abc import Callable

from softstate.lease.history import remembered
from softstate.lease.table import Lease
from softstate.server.fanout.outbox import Outbox
from softstate.wire import messages
from softstate.wire.messages import Message

OPENED, RESUMED, SUBSCRIBED = "opened", "resumed", "subscribed"
REVOKED, DENIED, AUTHENTICATED = "lease revoked", "names denied", "new credentials"
SLOW, BYE, CLOSED, ENDED = "does not read", "told goodbye", "closed", "connection ended"

_TOLD = frozenset(
    {messages.Welcome, messages.Subscribed, messages.Revoked, messages.DeniedNames, messages.Authenticated,
     messages.ServerBye}
)  # fmt: skip


def remember(lease: Lease | None, at: float, what: str, detail: str | int = "") -> None:
    """Note an event of a session, if it has, or had, a lease."""
    if lease is not None:
        lease.history = remembered(lease.history, at, what, detail)


def remember_message(lease: Lease | None, now: Callable[[], float], message: Message) -> None:
    """Note a message that a client is told, if it tells of an event; most do not."""
    if lease is None or type(message) not in _TOLD:
        return
    at = now()
    match message:
        case messages.Welcome(resumed=resumed):
            remember(lease, at, RESUMED if resumed else OPENED, lease.count if resumed else "")
        case messages.Subscribed(more=False, count=count):
            remember(lease, at, SUBSCRIBED, count)
        case messages.Revoked(reason=reason):
            remember(lease, at, REVOKED, reason)
        case messages.DeniedNames(names=names):
            remember(lease, at, DENIED, len(names))
        case messages.Authenticated():
            remember(lease, at, AUTHENTICATED)
        case messages.ServerBye(reason=reason):
            remember(lease, at, BYE, reason)


def remember_slow(lease: Lease | None, at: float, outbox: Outbox | None) -> None:
    """Note that a client does not take what it is sent."""
    if outbox is not None:
        remember(lease, at, SLOW, f"for {outbox.congested_s:.1f} s, {len(outbox):,} entries wait")
