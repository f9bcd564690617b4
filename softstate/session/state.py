"""The state of one session, and the steps that its rules share.

A state is entered together with what belongs to it: OPEN with a lease, LAPSED without one, ENDED without a connection.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator
from enum import StrEnum

from softstate.auth.identity import Identity
from softstate.auth.lasting import CREDENTIALS_S_MIN, NOBODY, credentials_ms, lasting
from softstate.auth.presented import Presented
from softstate.errors import Denied, NoLease, RequestError
from softstate.lease.sink import NOWHERE, Sink
from softstate.lease.table import OVER, Lease, LeaseTable
from softstate.position import Position
from softstate.session.effects import DropPending, Effect, Read, ReadHead, Turn
from softstate.session.gap_buffer import GapBuffer
from softstate.session.gate import Gate
from softstate.session.load_advice import NodeTerms
from softstate.session.request import (
    PendingInquiry,
    PendingPoll,
    PendingRead,
    PendingRenew,
    PendingRequest,
    PendingWork,
    Steps,
    check_count,
    check_prefixes,
    check_topics,
    in_portions,
    send_error,
)
from softstate.wire.messages import Id
from softstate.wire.subscription_digest import MASK

TTL_MS_MIN = 1_000
"""Shortest TTL: a client may ask for less than the node grants, but not for less than this (P-CONN-2)."""


class State(StrEnum):
    """The stages of a session; `softstate.session.table` draws the transitions."""

    NEW = "new"
    """The client has not said anything."""
    GREETING = "greeting"
    """A hello waits for the store."""
    OPEN = "open"
    """The session has a lease. It may be past its deadline; the sweep, or the next request, finds that out."""
    LAPSED = "lapsed"
    """The lease has ended; the connection goes on."""
    ENDED = "ended"
    """The connection is over, or about to be closed."""


class SessionCore:
    """All that is held for one session. The shell reads `state`, `lease`, `name` and `busy`, and clears `gap_buffer`.

    `lease` is the last one, whether it still lives or not: None before the first, and once another connection has the
    session. `pending` is the request under way. `gap_buffer` holds pushes back from the moment their names enter the
    lease until the hub is past the answer. `token` is the session's secret, once the client knows it. `moved_to` is the
    last position that passed through the hub during the greeting. `presented` is what came with the
    handshake; `identity` is whose session it is, maybe by rules that have changed since: see `credentials`. `denied`:
    the lease was revoked as denied. `unresumed`: the client asked to resume, its session is new, and it has not
    subscribed since. `unaware`: it was denied names, and neither a subscribe nor a renewal that matched shows that it
    knows. `agreed` is the digest of the set that both sides hold, None if that is not known; `named` the last position
    that the client was told; `beat_ms` the time between two beats that was granted, for the `beat_asked_ms` that the
    client asked for. `since`: a subscribe asks for the changes of its names above this revision, tombstones included,
    and is `compacted` if some are forgotten (0: for what its names say). `questions`: how often the callout was asked
    about names of the request under way.
    """

    __slots__ = (
        "_tickets", "agreed", "beat_asked_ms", "beat_ms", "denied", "gap_buffer", "gap_topics_max", "gate",
        "identity", "lease", "leases", "moved_to", "name", "named", "names_per_turn", "pending", "presented",
        "questions", "repairs", "since", "sink", "state", "terms", "token", "tokens", "unaware", "unresumed",
    )  # fmt: skip

    def __init__(
        self,
        leases: LeaseTable,
        sink: Sink,
        terms: Callable[[], NodeTerms],
        tokens: Callable[[], str],
        repairs: Counter[str],
        gap_topics_max: int,
        names_per_turn: int,
        gate: Gate,
        presented: Presented,
    ) -> None:
        self.leases = leases
        self.sink = sink
        self.terms = terms
        self.tokens = tokens
        self.repairs = repairs
        self.gap_topics_max = gap_topics_max
        self.names_per_turn = names_per_turn
        self.gate = gate
        self.presented = presented
        self.identity = NOBODY
        self.state = State.NEW
        self.name = ""
        self.token = ""
        self.lease: Lease | None = None
        self.gap_buffer: GapBuffer | None = None
        self.pending: PendingRequest | None = None
        self.moved_to: Position | None = None
        self.denied = False
        self.unaware = self.unresumed = False
        self.agreed: int | None = None
        self.named: Position | None = None
        self.since = 0
        self.beat_asked_ms = self.beat_ms = 0
        self._tickets = self.questions = 0

    # Requests --------------------------------------------------------------------------------------------------------

    def ask(self, pending: PendingRead | PendingInquiry) -> list[Effect]:
        """Return the effect that asks for what a request needs; until it is answered, no other is taken."""
        ticket = pending.ticket = self._tickets = self._tickets + 1
        self.pending = pending
        if isinstance(pending, PendingRenew):
            return [ReadHead(ticket)]
        if isinstance(pending, PendingInquiry):
            return self.inquire(pending)
        if isinstance(pending, PendingPoll) and pending.query.after == 0:
            return [Read(ticket, pending.query, pending.request.min_revision)]
        return [Read(ticket, pending.query)]

    def inquire(self, pending: PendingInquiry) -> list[Effect]:
        """Return the effects of a request about which the callout has to be asked first."""
        raise NotImplementedError

    def work_through(self, steps: Steps, request: Id | None = None, *, rests_on_lease: bool = True) -> list[Effect]:
        """Begin work on many names, and finish it if they are few. Raises what the first portion raises."""
        try:
            names = next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        return self._await_turn(PendingWork(steps, request, rests_on_lease), names)

    def go_on(self, work: PendingWork) -> list[Effect]:
        """Do the next portion of the request under way."""
        self.pending = None
        try:
            names = next(work.steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except RequestError as error:
            return [send_error(error, work.request)]
        return self._await_turn(work, names)

    def _await_turn(self, work: PendingWork, names: int) -> list[Effect]:
        work.ticket = self._tickets = self._tickets + 1
        self.pending = work
        return [Turn(work.ticket, names)]

    def in_portions(
        self, names: Collection[str], act: Callable[[Collection[str]], object], weight: int = 1
    ) -> Generator[int, None, None]:
        """Call `act` with names of one portion at a time; a part of `Steps`."""
        return in_portions(names, self.names_per_turn, act, weight)

    def check_request(self, topics: Collection[str], prefixes: Collection[str]) -> Generator[int, None, None]:
        """Check that a subscribe or poll may be answered. Raises `Denied`, `Invalid` or `TooLarge`."""
        if self.denied:
            raise Denied("the lease was revoked as denied: present other credentials, with auth or by another hello")
        check_count(len(topics) + len(prefixes), self.leases.subscriptions_max)
        yield from self.in_portions(topics, check_topics)
        yield from self.in_portions(prefixes, check_prefixes)

    # Credentials -----------------------------------------------------------------------------------------------------

    def credentials(self, now: float) -> Identity:
        """Return the identity with its grant under the present rules.

        Raises `Unauthenticated` if it is over, and `Unavailable` if nobody can tell any more.
        """
        identity = self.identity
        if identity.generation != self.gate.generation:
            identity = self.identity = self.gate.again(identity, now, self.presented.address)
        return identity if identity.until - now >= CREDENTIALS_S_MIN else lasting(identity, now)

    def may_read(self, topic: str, now: float) -> bool:
        """Tell whether the session may be told of a topic now."""
        try:
            return self.credentials(now).grant.may_read(topic)
        except RequestError:
            return False

    def stands(self, generation: int, now: float) -> bool:
        """Tell whether what was judged under the rules of a generation may be told: they are in force, and it lasts."""
        return generation == self.gate.generation and now < self.identity.until

    def credentials_ms(self, at: float) -> int | None:
        """Return for how long after the arrival of a request, `at`, the credentials are good; None for no end."""
        return credentials_ms(self.identity, at)

    @property
    def subject(self) -> str | None:
        """The subject that clients are told."""
        return self.identity.subject or None

    def give_up_credentials(self, error: RequestError, request: Id | None) -> list[Effect]:
        """Answer a request without valid credentials, and end what rests on them, which is the lease (P-AUTH-3)."""
        self.lapse()
        return [DropPending(), send_error(error, request)]

    # The lease -------------------------------------------------------------------------------------------------------

    def held_lease(self) -> Lease | None:
        """Return the lease unless it has ended. It may be past its deadline."""
        lease = self.lease
        return None if lease is None or lease.deadline == OVER else lease

    def living_lease(self, now: float) -> Lease | None:
        """Return the lease unless it has ended or is past its deadline, from which on nothing is pushed (P-REN-7)."""
        lease = self.lease
        return None if lease is None or lease.deadline < now else lease

    def granted_ttl_ms(self, asked_ms: int | None) -> int:
        """Return the TTL for a client that asks for `asked_ms`, or for none (P-CONN-2)."""
        most_ms = self.terms().ttl_ms
        return most_ms if asked_ms is None else max(min(asked_ms, most_ms), min(TTL_MS_MIN, most_ms))

    @property
    def ttl_s(self) -> float:
        """The TTL that the client was told last."""
        return self.terms().ttl_ms / 1000 if self.lease is None else self.lease.ttl_s

    def grant_lease(self, token: str, now: float, ttl_s: float) -> Lease:
        """Hold a new lease, without names, for a token. Raises `Overloaded` when there is no room for one more."""
        self.end_lease()
        accountable = self.gate.accountable(self.identity, self.presented.address)
        lease = self.lease = self.leases.grant(token, now, ttl_s, self.name, self.identity, accountable)
        self.leases.attach(lease, self.sink)
        self.agreed = lease.digest
        return lease

    def begin_lease(self, now: float, ttl_s: float) -> Lease:
        """Enter OPEN with a new lease, without names, for `token`. Raises `Overloaded` when the table is full."""
        lease = self.grant_lease(self.token, now, ttl_s)
        self.state = State.OPEN
        return lease

    @staticmethod
    def told_ttl_ms(lease: Lease, at: float) -> int:
        """Return the TTL to be told in answer to a request that arrived `at`: not beyond the end of the credentials."""
        ttl_ms = round(lease.ttl_s * 1000)
        return ttl_ms if lease.until == math.inf else max(0, min(ttl_ms, math.floor((lease.until - at) * 1000)))

    def announce_lease(self, lease: Lease, now: float) -> None:
        """Enter OPEN with the lease that was granted ahead of the welcome, from which on it lasts for its TTL."""
        self.leases.extend(lease, now)
        self.token = lease.token
        self.state = State.OPEN

    def end_lease(self) -> None:
        """Release the lease, unless another connection has the session, and what is held back for it."""
        lease = self.lease
        if lease is not None and lease.sink is self.sink:
            self.leases.release(lease)
            lease.sink = None
        self.gap_buffer = self.agreed = None

    def agree_to(self, lease: Lease, before: int) -> None:
        """Note that the client has changed its set as the lease's digest has changed since it was `before`."""
        if self.agreed is not None:
            self.agreed = (self.agreed + lease.digest - before) & MASK

    def leave_names(self, lease: Lease, names: Collection[str]) -> Generator[int, None, None]:
        """Take names out of the lease, and out of what is held back; both sides know of it."""

        def leave(portion: Collection[str]) -> None:
            before = lease.digest
            self.leases.remove(lease, portion)
            self.agree_to(lease, before)
            if self.gap_buffer is not None:
                self.gap_buffer.uncover(portion)

        return self.in_portions(names, leave)

    def lapse(self) -> None:
        """Enter LAPSED: end the lease, keep the connection."""
        self.end_lease()
        self.state = State.LAPSED

    def lose_lease(self) -> NoLease:
        """Enter LAPSED, since a request rests on a lease that is over; return the error that says so."""
        self.repairs["no_lease"] += 1
        self.lapse()
        return NoLease("the lease is over: subscribe the whole set again, with replace")

    def detach(self) -> None:
        """Enter ENDED: forget the request under way, and leave the lease to its TTL (P-RES-1).

        A lease that was granted ahead of its welcome ends: no client knows its token.
        """
        lease = self.lease
        if lease is not None and lease.token != self.token:
            self.end_lease()
        self.pending = self.gap_buffer = self.agreed = None
        self.state = State.ENDED
        if lease is not None and lease.sink is self.sink:
            self.leases.detach(lease)
        self.sink = NOWHERE  # else the two would lead to each other, and wait for the garbage collector
