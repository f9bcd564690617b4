"""The work that a connection is for its node, as the advice to clients needs it (P-CONN-10).

The work for a client that comes live is measured from its handshake to its first answered `subscribe` or resumed
`welcome`, and that for each poll; not what the client does meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.server.websocket.parts import Parts
from softstate.session import Effect, Inquire, MeasuredRequest, Send, ServiceRate, SessionMachine
from softstate.session.request import PendingRenew
from softstate.wire import messages
from softstate.wire.messages import Polled, Subscribed, Welcome


def after_request(
    measured: MeasuredRequest | None, message: messages.Message, polls: ServiceRate, now: float
) -> MeasuredRequest | None:
    """Return what is measured from a client's message on."""
    if measured is not None and not isinstance(message, messages.Hello | messages.Subscribe):
        measured.left(now)
        measured = None
    if isinstance(message, messages.Poll):
        measured = MeasuredRequest(polls)
    if measured is not None:
        measured.works(now)
    return measured


def after_effects(measured: MeasuredRequest, effects: Sequence[Effect], now: float) -> MeasuredRequest | None:
    """Return what is still measured once effects were carried out, and what they send was written.

    Reading a message and writing the answers count: they are a third of the work for a client that comes live.
    """
    for effect in effects:
        if isinstance(effect, Inquire):
            measured.waits(now)  # for another program, which is no work here
        if not isinstance(effect, Send):
            continue
        match effect.message:
            case Subscribed(more=True) | Polled(more=True):
                pass
            case Welcome(resumed=False):
                measured.waits(now)
            case Subscribed() | Polled() | Welcome():
                measured.served(now)
                return None
            case _:
                measured.left(now)
                return None
    return measured


def after_renewal(parts: Parts, session: SessionMachine, report: int, now: float) -> int:
    """Note how long a renewal took that is answered now, and what its client says; return what stands for that.

    See P-REN-13.
    """
    pending = session.pending
    if not isinstance(pending, PendingRenew) or (lease := session.held_lease()) is None:
        return report
    parts.access.heads.durations.observe(now - pending.at)
    return parts.reports.say(lease.deadline, pending.request.age_ms, pending.request.mode, report)
