"""The server's side of one connection, sans-I/O: what each message means, and what to do about it.

::

             hello              welcome
    NEW ───────────▶ GREETING ───────────▶ OPEN ◀──────────┐
     │                  │                  │  revoked      │ subscribe
     │                  │                  │  no_lease     │
     │                  │                  ▼               │
     │                  │                LAPSED ───────────┘
     └──────────────────┴──────────┬───────┴ bye, replaced, rewound, draining, idle
                                   ▼
                                 ENDED

Requests that need the store are dealt with one at a time, in the order of arrival; only publishes overlap (P-CONN-4).
While one is under way (`busy`), the shell does not feed the next. What the shell has to do comes back as effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import UNSET

from softstate.errors import Behind, Denied, Invalid, NoLease, Overloaded, RequestError, Unavailable
from softstate.lease.table import NOWHERE, Lease, LeaseTable, Sink
from softstate.model import Page, Query, Record
from softstate.position import Position
from softstate.session.effects import (
    Close,
    CloseOther,
    DropPending,
    Effect,
    Read,
    ReadHead,
    Replay,
    Send,
    SendFirst,
    Submit,
)
from softstate.session.gap_buffer import HELD_MAX, GapBuffer
from softstate.session.load_advice import renew_ms
from softstate.session.request import PendingRequest, check_names, forgotten, lag_ms, missed_since, send_error, too_fast
from softstate.session.state import State
from softstate.session.terms import Terms
from softstate.wire import messages
from softstate.wire.close_codes import CLOSE_FOR, CloseCode
from softstate.wire.messages import ClientMessage, Farewell, Hello, Id, Poll, Publish, Reason, Renew, Subscribe
from softstate.wire.subscription_digest import digest_text

TTL_MS_MIN = 1_000
"""A client may ask for a shorter lease than the node's, but not for a shorter one than this (P-CONN-2)."""


class SessionMachine:
    """One connection's session. Every method returns effects, to be carried out in order; none blocks or raises.

    `sink` is what the lease table hands pushes to, `tokens` makes session tokens, `terms` says what to advise now,
    `repairs` counts repairs by kind: what had to be put right, which outside of faults is nothing.
    `now` is in seconds of one clock that never goes back.
    """

    __slots__ = (
        "_asked", "_denied", "_held_max", "_moved", "_repairs", "_sink", "_table", "_terms", "_tickets", "_token",
        "_tokens", "gap_buffer", "lease", "name", "state",
    )  # fmt: skip

    def __init__(
        self,
        table: LeaseTable,
        sink: Sink,
        terms: Callable[[], Terms],
        tokens: Callable[[], str],
        repairs: Counter[str],
        held_max: int = HELD_MAX,
    ) -> None:
        self.state = State.NEW
        self.lease: Lease | None = None
        self.name = ""
        self.gap_buffer: GapBuffer | None = None
        self._table = table
        self._sink = sink
        self._terms = terms
        self._tokens = tokens
        self._repairs = repairs
        self._held_max = held_max
        self._token = ""
        self._asked: PendingRequest | None = None
        self._tickets = 0
        self._moved: Position | None = None
        self._denied = False

    @property
    def busy(self) -> bool:
        """Whether a request is under way, so that the next message has to wait."""
        return self._asked is not None

    def expects(self, ticket: int) -> bool:
        """Tell whether a read is still wanted: the lease it was for may have ended while it waited to begin."""
        return self._asked is not None and self._asked.ticket == ticket

    # The peer speaks ------------------------------------------------------------------------------------------------

    def received(self, message: ClientMessage, now: float) -> list[Effect]:
        """Take one message. Must not be called while `busy`."""
        assert self._asked is None
        if self.state is State.ENDED:
            return []
        if isinstance(message, Hello):
            if self.state is State.NEW:
                return self._hello(message, now)
            return [send_error(Invalid("hello was said already: it opens a connection, once"), None)]
        if self.state is State.NEW:
            return self.refuse(Invalid("the first message must be hello"))
        try:
            return self._request(message, now)
        except RequestError as error:
            if isinstance(message, Subscribe):
                self._take_out(message)
            return [send_error(error, getattr(message, "id", None))]

    def _request(self, message: ClientMessage, now: float) -> list[Effect]:
        match message:
            case Subscribe():
                return self._subscribe(message, now)
            case messages.Unsubscribe():
                if self._held():
                    assert self.lease is not None
                    self._table.remove(self.lease, [*message.topics, *message.prefixes])
                return []
            case Renew():
                return self._renew(message, now)
            case Poll():
                self._check_asked(message)
                query = Query(message.topics, message.prefixes, message.position)
                return self._ask(PendingRequest(0, message, query))
            case Publish():
                return [Submit(message)]
            case _:
                self._release()
                self._detach()
                return [Close(CloseCode.DRAINING, "bye")]

    def _check_asked(self, message: Subscribe | Poll) -> None:
        if self._denied:
            raise Denied("the lease was revoked as denied: connect anew, with other credentials")
        check_names(message.topics, message.prefixes, self._table.subscriptions_max)

    def refuse(self, error: RequestError, code: CloseCode = CloseCode.PROTOCOL) -> list[Effect]:
        """End a connection that cannot go on, saying why."""
        self._detach()
        return [send_error(error, None), Close(code, error.message[:100])]

    # hello ----------------------------------------------------------------------------------------------------------

    def _hello(self, hello: Hello, now: float) -> list[Effect]:
        self.state = State.GREETING
        self.name = hello.name
        lease = self._table.get(hello.session) if hello.session is not None else None
        since, seen = hello.since, hello.position
        if lease is None or lease.deadline < now or not since or seen is None or since > seen.revision:
            return self._ask(PendingRequest(0, hello, Query(witness=seen)))
        evicted: list[Effect] = [CloseOther(lease.sink)] if lease.sink is not None else []
        lease.sink = self._sink
        self.lease = lease
        self._token = lease.token
        self._table.extend(lease, now, self._ttl_ms(hello.ttl_ms) / 1000)
        self.gap_buffer = GapBuffer(lease.names, (), self._held_max)
        query = missed_since(since, lease.names, seen, self._held_max)
        return evicted + self._ask(PendingRequest(0, hello, query, resuming=True))

    def _greet(self, asked: PendingRequest, page: Page, now: float, *, reset: bool = False) -> list[Effect]:
        request = asked.request
        assert isinstance(request, Hello)
        resumed = asked.resuming and not reset and self._resumes(request.since or 0, page, now)
        missed: list[Record] = []
        if asked.resuming:
            self._repairs["resumed" if resumed else "not_resumed"] += 1
        if reset:
            self._repairs["reset"] += 1
        if resumed:
            assert self.gap_buffer is not None
            missed = [*page.records, *self.gap_buffer.release(page.position.revision)]
        else:
            self.gap_buffer = None
            try:
                self._grant(now, self._ttl_ms(request.ttl_ms))
            except Overloaded as error:
                return self.refuse(error, CloseCode.OVERLOADED)
        self.state = State.OPEN
        assert self.lease is not None
        terms = self._terms()
        welcome = messages.Welcome(
            session=self._token,
            resumed=resumed,
            reset=reset or UNSET,
            node=terms.node,
            position=page.position,
            ttl_ms=round(self.lease.ttl_s * 1000),
            renew_ms=renew_ms(round(self.lease.ttl_s * 1000)),
            timeout_ms=terms.timeout_ms,
            poll=terms.poll,
            recover=terms.recover,
            limits=terms.limits,
            durability=terms.durability,
        )
        effects: list[Effect] = [Send(welcome)]
        if self._moved is not None and self._moved.revision > page.position.revision:
            effects.append(Send(messages.PositionMoved(self._moved)))
        if missed:
            effects.append(Replay(missed))
        return effects

    def _resumes(self, since: int, page: Page, now: float) -> bool:
        """Tell whether `page` and the hold together are everything that was missed (P-RES-3)."""
        gap_buffer = self.gap_buffer
        assert gap_buffer is not None
        return not self._over(now) and not gap_buffer.overflowed and not page.more and page.floor <= since

    def _grant(self, now: float, ttl_ms: int) -> None:
        self._release()
        self._token = self._tokens()
        self.lease = self._table.grant(self._token, now, ttl_ms / 1000, self.name)
        self.lease.sink = self._sink

    def _ttl_ms(self, asked_ms: int | None) -> int:
        most = self._terms().ttl_ms
        return most if asked_ms is None else max(min(asked_ms, most), min(TTL_MS_MIN, most))

    # subscribe, renew -----------------------------------------------------------------------------------------------

    def _subscribe(self, message: Subscribe, now: float) -> list[Effect]:
        self._check_asked(message)
        lease = self.lease
        assert lease is not None
        if self._over(now):
            # P-SUB-14: extending a lease that is over would hide that nothing was pushed since.
            self._lapse()
            lease = self.lease = self._table.grant(self._token, now, lease.ttl_s, self.name)
            lease.sink = self._sink
            self.state = State.OPEN
        self._table.extend(lease, now)
        names = [*message.topics, *message.prefixes]
        fresh = self._table.replace(lease, names) if message.replace else self._table.add(lease, names)
        entered = dict.fromkeys(fresh)
        self.gap_buffer = GapBuffer(fresh, [name for name in lease.names if name not in entered], self._held_max)
        return self._ask(PendingRequest(0, message, Query(message.topics, message.prefixes)))

    def _subscribed(self, asked: PendingRequest, page: Page, request: Subscribe) -> list[Effect]:
        gap_buffer, lease = self.gap_buffer, self.lease
        assert gap_buffer is not None
        assert lease is not None
        if not asked.continues(page):
            return self._give_up(asked, forgotten(page))
        if not self._held():
            return self._give_up(asked, NoLease("the lease ended while the store was read: subscribe anew"))
        if page.more or gap_buffer.overflowed:
            say = Send(messages.Subscribed(request.id, page.position, more=True), page.records)
            if gap_buffer.overflowed:
                self._repairs["hold_overflow"] += 1
            gap_buffer.restart()
            return [say, *self._read_on(asked, page)]
        self._asked = None
        message = messages.Subscribed(
            request.id,
            page.position,
            digest=digest_text(lease.digest),
            count=lease.count,
            compacted=list(page.compacted),
            lag_ms=lag_ms(page),
        )
        released = gap_buffer.release(page.position.revision)
        return [Send(message, page.records), *([Replay(released)] if released else [])]

    def _renew(self, message: Renew, now: float) -> list[Effect]:
        if self._over(now):
            return self._no_lease(message.id)
        assert self.lease is not None
        self._table.extend(self.lease, now, None if message.ttl_ms is None else self._ttl_ms(message.ttl_ms) / 1000)
        return self._ask(PendingRequest(0, message, Query()))

    def _no_lease(self, request: Id) -> list[Effect]:
        self._repairs["no_lease"] += 1
        self._lapse()
        return [send_error(NoLease("the lease is over: subscribe anew"), request)]

    def _renewed(self, request: Renew, position: Position, sent: int, *, store_ok: bool) -> list[Effect]:
        lease = self.lease
        assert lease is not None
        terms = self._terms()
        ttl_ms = round(lease.ttl_s * 1000)
        match = request.count == lease.count and request.digest == digest_text(lease.digest)
        if not match:
            self._repairs["mismatch"] += 1
        renewed = messages.Renewed(
            request.id,
            match=match,
            position=position,
            sent=sent,
            ttl_ms=ttl_ms,
            renew_ms=renew_ms(ttl_ms),
            poll=terms.poll,
            recover=terms.recover,
            store="ok" if store_ok else "down",
        )
        return [Send(renewed)]

    # The store answers ----------------------------------------------------------------------------------------------

    def answered(self, ticket: int, page: Page, now: float) -> list[Effect]:
        """Take the page that a `Read` asked for. Ignored if its request is no longer under way."""
        asked = self._asked
        if asked is None or asked.ticket != ticket:
            return []
        request = asked.request
        assert not isinstance(request, Renew)
        match request:
            case Hello():
                self._asked = None
                return self._greet(asked, page, now)
            case Subscribe():
                return self._subscribed(asked, page, request)
            case _:
                return self._polled(asked, page, request)

    def _polled(self, asked: PendingRequest, page: Page, request: Poll) -> list[Effect]:
        if not asked.continues(page):
            return self._give_up(asked, forgotten(page))
        if page.position.revision < request.min_revision:
            behind = f"this node is at revision {page.position.revision}, below min_revision: wait, or ask another node"
            return self._give_up(asked, Behind(behind, retry_ms=self._terms().timeout_ms // 10))
        if page.more:
            say = Send(messages.Polled(request.id, page.position, more=True), page.records)
            return [say, *self._read_on(asked, page)]
        self._asked = None
        message = messages.Polled(
            request.id,
            page.position,
            compacted=list(page.compacted),
            lag_ms=lag_ms(page),
            next_ms=self._terms().advice.poll_every_ms,
        )
        return [Send(message, page.records)]

    def caught_up(self, ticket: int, position: Position, sent: int, now: float) -> list[Effect]:
        """Take the hub's position, which has reached the head that a `ReadHead` read.

        `sent` is how many `notify`s are written, or wait to be written, ahead of the next message.
        """
        asked = self._asked
        if asked is None or asked.ticket != ticket:
            return []
        self._asked = None
        request = asked.request
        assert isinstance(request, Renew)
        if self.gap_buffer is not None and self.gap_buffer.over(position.revision):
            self.gap_buffer = None
        if self._over(now):
            return self._no_lease(request.id)
        return self._renewed(request, position, sent, store_ok=True)

    def failed(self, ticket: int, error: RequestError, position: Position, sent: int, now: float) -> list[Effect]:
        """Take the error that a `Read` or `ReadHead` ended in. `position` and `sent` are as in `caught_up`."""
        asked = self._asked
        if asked is None or asked.ticket != ticket:
            return []
        self._asked = None
        match asked.request:
            case Hello():
                if error.code == "rewound" and error.position is not None:
                    return self._greet(asked, Page(error.position, 0), now, reset=True)
                return self.refuse(
                    error, CloseCode.OVERLOADED if isinstance(error, Overloaded) else CloseCode.UNAVAILABLE
                )
            case Renew() as request:
                if self._over(now):
                    return self._no_lease(request.id)
                if isinstance(error, Unavailable):
                    return self._renewed(request, position, sent, store_ok=False)
                return [send_error(error, request.id)]
            case _:
                return self._give_up(asked, error)

    # The node speaks ------------------------------------------------------------------------------------------------

    def moved(self, position: Position) -> list[Effect]:
        """Tell the peer of a lineage row that passed through the hub."""
        if self.state is State.GREETING:
            self._moved = position
            return []
        if self.state in (State.OPEN, State.LAPSED):
            return [SendFirst(messages.PositionMoved(position))]
        return []

    def revoked(self, reason: Reason, retry_ms: int | None = None) -> list[Effect]:
        """End the lease, keep the connection (P-CONN-8). What waits to be written rests on the lease, and is dropped.

        A poll under way goes on: it needs no lease. Without a lease there is nothing to tell the peer, but to an
        outbox that gave up, `DropPending` still means to begin anew: else it would swallow the pushes of a later lease.
        """
        if self.state is State.ENDED:
            return []
        self._denied = self._denied or reason == "denied"
        if self.state is not State.OPEN:
            self._release()
            return [DropPending()]
        if reason != "expired":
            self._repairs[reason] += 1
        self._lapse()
        if self._asked is not None and not isinstance(self._asked.request, Poll):
            self._asked = None
        spread_ms = self._terms().advice.recover_spread_ms
        return [DropPending(), Send(messages.Revoked(reason, retry_ms, spread_ms))]

    def replaced(self) -> list[Effect]:
        """Another connection has resumed this session: it is not ours any more."""
        self.lease = None
        return self._leave("replaced", 0)

    def leave(self, reason: Farewell, retry_ms: int = 0) -> list[Effect]:
        """End the connection from the node's side. `rewound` and `idle` end the lease as well."""
        if reason in ("rewound", "idle"):
            self._release()
        return self._leave(reason, retry_ms)

    def _leave(self, reason: Farewell, retry_ms: int) -> list[Effect]:
        if self.state is State.ENDED:
            return []
        self._detach()
        bye = messages.ServerBye(reason, retry_ms, self._terms().advice.recover_spread_ms)
        return [Send(bye), Close(CLOSE_FOR[reason], reason)]

    def disconnected(self) -> None:
        """Take note that the connection is gone: the lease keeps its names alone, until its TTL ends (P-RES-1)."""
        self._detach()

    # ----------------------------------------------------------------------------------------------------------------

    def _ask(self, asked: PendingRequest) -> list[Effect]:
        self._tickets += 1
        asked.ticket = self._tickets
        self._asked = asked
        return [ReadHead(asked.ticket) if isinstance(asked.request, Renew) else Read(asked.ticket, asked.query)]

    def _read_on(self, asked: PendingRequest, page: Page) -> list[Effect]:
        asked.turn(page)
        if asked.endless:
            return self._give_up(asked, too_fast(self._terms().timeout_ms))
        return self._ask(asked)

    def _give_up(self, asked: PendingRequest, error: RequestError) -> list[Effect]:
        self._asked = None
        request = asked.request
        assert not isinstance(request, Hello)
        if isinstance(request, Subscribe):
            self.gap_buffer = None
            self._take_out(request)
        return [send_error(error, request.id)]

    def _take_out(self, failed: Subscribe) -> None:
        """Remove a failed subscribe's names from the lease, even those it held before (P-SUB-13)."""
        if self._held():
            assert self.lease is not None
            names = list(self.lease.names) if failed.replace else [*failed.topics, *failed.prefixes]
            self._table.remove(self.lease, names)

    def _held(self) -> bool:
        return self.lease is not None and self._table.get(self.lease.token) is self.lease

    def _over(self, now: float | None) -> bool:
        """Tell whether the lease is over, be it that nobody has found that out yet: nothing is pushed to it then."""
        lease = self.lease
        return lease is None or not self._held() or (now is not None and lease.deadline < now)

    def _lapse(self) -> None:
        self._release()
        self.gap_buffer = None
        self.state = State.LAPSED

    def _release(self) -> None:
        if self.lease is not None and self.lease.sink is self._sink:
            self._table.release(self.lease)
            self.lease.sink = None

    def _detach(self) -> None:
        self._asked = self.gap_buffer = None
        self.state = State.ENDED
        if self.lease is not None and self.lease.sink is self._sink:
            self.lease.sink = None
        self._sink = NOWHERE  # else the two would lead to each other, and wait for the garbage collector
