"""The server's side of one connection, sans-I/O: looks up in the table what an input means, and does it.

Requests that need the store are dealt with one at a time, in the order of arrival; only publishes overlap (P-CONN-4),
and a subscribe behind hello joins it (P-CONN-16). While `busy`, the shell does not feed the next message. What the
shell has to do comes back as effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, cast

from softstate.auth.answers import Unasked
from softstate.auth.name_answers import QUESTIONS_MAX, NamesUnasked, too_many_questions
from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.errors import RequestError, Unauthenticated
from softstate.lease.sink import Sink
from softstate.lease.table import LeaseTable
from softstate.model import Page
from softstate.position import Position
from softstate.session import events
from softstate.session.beats import names_history_of, vouches
from softstate.session.effects import Effect, Inquire, Send, SendFirst
from softstate.session.events import NodeEvent
from softstate.session.gap_buffer import GAP_TOPICS_MAX
from softstate.session.gate import OPEN_GATE, Gate
from softstate.session.load_advice import NodeTerms
from softstate.session.request import (
    NAMES_PER_TURN,
    PendingHello,
    PendingInquiry,
    PendingPoll,
    PendingRenew,
    PendingRequest,
    PendingSubscribe,
    PendingWork,
    Unreadable,
    send_error,
)
from softstate.session.state import SessionCore
from softstate.session.table import TABLE
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import Auth, ClientMessage, Farewell, Hello, Id, Publish, Reason

P = ParamSpec("P")

LEASE_ENDS: dict[Reason, NodeEvent[[Reason, int | None]]] = {
    "expired": events.EXPIRED,
    "slow_consumer": events.REVOKED,
    "overloaded": events.REVOKED,
    "denied": events.DENIED,
}
FAREWELLS: dict[Farewell, NodeEvent[[Farewell, int]]] = {
    "draining": events.DRAINING,
    "rewound": events.REWOUND,
    "replaced": events.REPLACED,
    "idle": events.IDLE,
}


class SessionMachine(SessionCore):
    """One connection's session. Every method returns effects, to be carried out in order; none blocks or raises.

    `sink` is where the lease table's owner offers pushes, `tokens` makes session tokens, `terms` says what to tell
    clients now, `repairs` counts repairs by kind: all zero unless faults occur. A gap buffer holds `gap_topics_max`
    topics; a turn deals with `names_per_turn` names. `gate` knows who presents credentials,
    `presented` is what came with the handshake. `now` is in seconds of one clock that never goes back.
    """

    __slots__ = ()

    def __init__(
        self,
        leases: LeaseTable,
        sink: Sink,
        terms: Callable[[], NodeTerms],
        tokens: Callable[[], str],
        repairs: Counter[str],
        gap_topics_max: int = GAP_TOPICS_MAX,
        names_per_turn: int = NAMES_PER_TURN,
        gate: Gate = OPEN_GATE,
        presented: Presented = NOTHING_PRESENTED,
    ) -> None:
        super().__init__(leases, sink, terms, tokens, repairs, gap_topics_max, names_per_turn, gate, presented)

    @property
    def busy(self) -> bool:
        """Whether a request is under way, so that the next message has to wait."""
        pending = self.pending
        return pending is not None and not (type(pending) is PendingHello and pending.takes_more)

    @property
    def replays(self) -> bool:
        """Whether the records of the read under way will be told as pushes, not as changes of an answer."""
        pending = self.pending
        return type(pending) is PendingHello and pending.gap_buffer is not None

    @property
    def inquires(self) -> bool:
        """Whether somebody is asked first about the request under way."""
        return type(self.pending) is PendingInquiry

    def expects(self, ticket: int) -> bool:
        """Tell whether a read is still wanted: the lease it was for may have ended while it waited to begin."""
        return self._pending(ticket) is not None

    def _pending(self, ticket: int) -> PendingRequest | None:
        pending = self.pending
        return pending if pending is not None and pending.ticket == ticket else None

    def _take(self, event: NodeEvent[P], *args: P.args, **kwargs: P.kwargs) -> list[Effect]:
        rule = TABLE.get((self.state, event))
        if rule is None:
            return []
        effects = rule.act(self, *args, **kwargs)
        assert self.state in rule.to
        self._note_named(effects)
        return effects

    def _note_named(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send | SendFirst):
                self.named = getattr(effect.message, "position", None) or self.named

    # The client speaks -----------------------------------------------------------------------------------------------

    def received(self, message: ClientMessage, now: float) -> list[Effect]:
        """Take one message. Must not be called while `busy`."""
        assert not self.busy
        self.questions = 0
        return self._receive(message, now)

    def _receive(self, message: ClientMessage, now: float) -> list[Effect]:
        rule = TABLE.get((self.state, type(message)))
        if rule is None:
            return []
        try:
            effects = rule.act(self, message, now)
        except (Unasked, NamesUnasked) as unasked:
            # Taken again once it was asked about; nothing has changed yet.
            assert isinstance(message, Hello | Auth | Publish)
            return self.ask(PendingInquiry(message, unasked))
        except Unauthenticated as error:
            request: Id | None = getattr(message, "id", None)
            # New credentials that are not good leave the old ones as they are.
            new = isinstance(message, Auth)
            effects = [send_error(error, request)] if new else self.give_up_credentials(error, request)
        except RequestError as error:
            effects = [send_error(error, getattr(message, "id", None))]
        assert self.state in rule.to
        self._note_named(effects)
        return effects

    def unreadable(self, error: RequestError, request: Id | None = None) -> list[Effect]:
        """Take note of a message that could not be decoded; `request` is its id, if that could be read."""
        return self._take(events.UNREADABLE, error, request)

    def turn_begun(self, ticket: int) -> list[Effect]:
        """Do the portion for which a `Turn` asked. Ignored if its request is no longer under way."""
        pending = self._pending(ticket)
        return self._take(events.TURN_BEGUN, pending) if isinstance(pending, PendingWork) else []

    def _take_kept(self, hello: PendingHello, now: float) -> list[Effect]:
        """Take the message that was kept until hello was answered."""
        match hello.kept:
            case None:
                return []
            case Unreadable(error, request):
                return self.unreadable(error, request)
            case message:
                return self.received(cast("ClientMessage", message), now)

    def inquire(self, pending: PendingInquiry) -> list[Effect]:
        """Have the callout asked, or fail a request about whose names it was asked `QUESTIONS_MAX` times."""
        if isinstance(pending.about, NamesUnasked):
            self.questions += 1
            if self.questions > QUESTIONS_MAX:
                return self._take(events.INQUIRY_FAILED, pending, too_many_questions())
        return [Inquire(pending.ticket, pending.about)]

    def inquired(self, ticket: int, error: RequestError | None, now: float) -> list[Effect]:
        """Take an answer to an `Inquire`: the gate knows now what it says; or the reason why there is none."""
        pending = self._pending(ticket)
        if not isinstance(pending, PendingInquiry):
            return []
        if error is not None:
            return self._take(events.INQUIRY_FAILED, pending, error)
        self.pending = None
        return self._receive(pending.request, now)

    # Beats -----------------------------------------------------------------------------------------------------------

    def vouches(self, position: Position | None, now: float) -> bool:
        """Tell whether a beat up to `position`, or one that certifies nothing, may be sent now (P-BEAT-2)."""
        return vouches(self, position, now)

    def names_history_of(self, position: Position) -> bool:
        """Tell whether the client was told last of the history of `position`, so that a level of it may answer."""
        return names_history_of(self, position)

    # The store answers -----------------------------------------------------------------------------------------------

    def answered(self, ticket: int, page: Page, now: float) -> list[Effect]:
        """Take the page that a `Read` asked for. Ignored if its request is no longer under way."""
        match self._pending(ticket):
            case PendingSubscribe() as pending:
                return self._take(events.SUBSCRIBE_ANSWERED, pending, page, now)
            case PendingPoll() as pending:
                return self._take(events.POLL_ANSWERED, pending, page, now)
            case PendingHello() as pending:
                return [*self._take(events.HELLO_ANSWERED, pending, page, now), *self._take_kept(pending, now)]
            case _:
                return []

    def caught_up(self, ticket: int, position: Position, sent: int, now: float, lag_s: float = 0.0) -> list[Effect]:
        """Take the hub's position, which has reached the head that a `ReadHead` read.

        `sent` is how many `notify`s are written, or wait to be written, ahead of the next message. `lag_s` is how long
        before the effect the read began at most, in seconds; 0 if it began after it.
        """
        pending = self.pending
        if not isinstance(pending, PendingRenew) or pending.ticket != ticket:
            return []
        return self._take(events.RENEW_CAUGHT_UP, pending, position, sent, now, lag_s)

    def failed(self, ticket: int, error: RequestError, position: Position, sent: int, now: float) -> list[Effect]:
        """Take the error that a `Read` or `ReadHead` ended in. `position` and `sent` are as in `caught_up`."""
        match self._pending(ticket):
            case PendingHello() as pending:
                return [*self._take(events.HELLO_FAILED, pending, error, now), *self._take_kept(pending, now)]
            case PendingSubscribe() as pending:
                return self._take(events.SUBSCRIBE_FAILED, pending, error)
            case PendingPoll() as pending:
                return self._take(events.POLL_FAILED, pending, error)
            case PendingRenew() as pending:
                return self._take(events.RENEW_FAILED, pending, error, position, sent, now)
            case _:
                return []

    # The node speaks -------------------------------------------------------------------------------------------------

    def passed(self, revision: int) -> None:
        """Take note that the hub has passed a revision: nothing below it has to be held back any more."""
        if self.gap_buffer is not None and self.gap_buffer.over(revision):
            self.gap_buffer = None

    @property
    def outdated(self) -> bool:
        """Whether the lease was judged by rules that are not in force any more."""
        lease = self.held_lease()
        return lease is not None and lease.identity is not None and lease.identity.generation != self.gate.generation

    def rules_changed(self, now: float) -> list[Effect]:
        """Judge the lease by the rules that are in force (P-AUTH-4). Not while a request is under way."""
        assert self.pending is None
        return self._take(events.RULES_CHANGED, now)

    def moved(self, position: Position) -> list[Effect]:
        """Take a lineage row that passed through the hub."""
        return self._take(events.POSITION_MOVED, position)

    def revoked(self, reason: Reason, retry_ms: int | None = None) -> list[Effect]:
        """End the lease, keep the connection (P-CONN-8)."""
        return self._take(LEASE_ENDS[reason], reason, retry_ms)

    def leave(self, reason: Farewell, retry_ms: int = 0) -> list[Effect]:
        """End the connection from the node's side. `rewound` and `idle` end the lease as well.

        `replaced`: another connection has resumed this session.
        """
        return self._take(FAREWELLS[reason], reason, retry_ms)

    def refuse(self, error: RequestError, code: CloseCode = CloseCode.PROTOCOL) -> list[Effect]:
        """End a connection that cannot go on, with the reason."""
        return self._take(events.REFUSED, error, code)

    def disconnected(self) -> None:
        """Take note that the connection is gone: the lease keeps its names alone, until its TTL ends (P-RES-1)."""
        self._take(events.DISCONNECTED)
