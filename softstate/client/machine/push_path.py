"""The WebSocket path of the client machine: connecting, the session and its lease, subscribing, renewing.

It fires triggers for what happens on its connection; the table decides, and the actions of its rows call the methods of
the middle section.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from softstate.client.machine.backoff import LEASE_S_MIN, Rotation, jittered_s
from softstate.client.machine.connection import Connection, InFlight, Renewal, Session, Stage
from softstate.client.machine.early_names import EarlyNames
from softstate.client.machine.events import Connect, Disconnect, Send
from softstate.client.machine.state import Cause, Core
from softstate.client.machine.triggers import Trigger
from softstate.position import Position
from softstate.wire.messages import Auth, ClientBye, Hello, Poll, Renew, Subscribe, Unsubscribe

PUBLISH_TIMEOUTS = 4
"""A connection is left when a publish stays unanswered for this many times `timeout_ms`."""

IDLE_TIMEOUTS = 4
"""Names are polled beside an answer whose pages have brought nothing for this many times `timeout_ms`."""

BRIEF_MIN = 2
"""So many leases in a row end at once, before the next waits for longer than nodes advise."""

RENEWALS_MAX = 8
"""Renewals whose answers are still taken if they come late; older ones are forgotten."""


class PushPath:
    """Holds at most one connection. `connect_at` is when to open the next; infinity while there is one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.rotation = Rotation(core.options.urls, core.random, core.reach)
        self.connection: Connection | None = None
        self.session: Session | None = None
        self.early = EarlyNames(core)
        self.connect_at = math.inf
        self.placed = False
        """Whether `connect_at` was drawn from a spread; only the first of all is not."""
        self._held = False
        """Whether it waits until a URL may be dialled."""
        self._requests = 0
        self._brief = 0
        """Leases in a row that have lasted less than `LEASE_S_MIN`."""

    @property
    def open(self) -> Connection | None:
        """The connection, if it has had its welcome."""
        return self.connection if self.connection is not None and self.connection.open else None

    def asking(self) -> frozenset[str]:
        """Return the names that a subscribe in flight asks for in full, and whose answer is neither overdue nor idle.

        None before the welcome: a poll that is due then goes because the connection takes long.
        """
        if self.open is None:
            return frozenset()
        held = self._core.knowledge.subscriptions
        idle_since = self._core.now - IDLE_TIMEOUTS * self.open.timeout_s
        asked = [each for each in self.open.requests.values() if each.joins and not each.timed_out]
        names = [name for each in asked if each.question.idle_since > idle_since for name in each.question.since]
        return frozenset(name for name in names if name in held and held[name].whole)

    def deadline(self) -> float:
        """Return when something here is due."""
        if self.connection is None:
            return math.inf if self._core.credentials.held else self.connect_at
        return min(self.connection.due, self._stuck_at(self.connection))

    def tick(self) -> None:
        """Do what is due."""
        connection, now = self.connection, self._core.now
        if connection is None:
            if now >= self.connect_at and not self._core.credentials.held:
                self.connect()
        elif now < self.deadline():
            return
        elif not connection.open:
            self._core.reached(connection.url)  # it does not refuse: it is silent
            self._core.fire(Trigger.REFUSED)
        elif now >= self._stuck_at(connection):
            self._missed(Trigger.STUCK)
        elif now >= connection.lease_until and connection.leased:
            self._missed(Trigger.EXPIRED)
        elif connection.leased and connection.overdue(now):
            self._missed(Trigger.ANSWER_MISSED)
        elif now >= connection.resubscribe_at:
            connection.end_wait()
            self._core.fire(Trigger.WAIT_OVER)
        elif now >= connection.silent_at and not connection.beats.excuses(now):
            connection.beats.told()
            self._missed(Trigger.SILENT)
        elif now >= connection.due:
            if now >= connection.ask_at:
                connection.beats.asked()
            self.renew()

    # Requests of the table's actions and of the application ---------------------------------------------------------

    def connect(self) -> None:
        """Open a connection now, or as soon as a URL may be dialled."""
        core = self._core
        self.connect_at = self.rotation.choose(core.now)
        self._held = self.connect_at > core.now
        if self._held:
            return
        self.connect_at = math.inf
        timeout_s = core.options.connect_timeout_s
        core.reach.probe(self.rotation.url, core.now + timeout_s)
        self.connection = Connection(core.number(), self.rotation.url, core.now + timeout_s)
        self.connection.presented = core.credentials.cell.token
        core.counts["connects"] += 1
        core.act(Connect(self.connection.conn, self.connection.url, timeout_s))

    def hello(self, connection: Connection) -> None:
        """Open a session; ask to resume the last if its lease may live and holds the set wanted (P-RES-5).

        Behind it goes what the welcome is not needed for (P-CLI-16).
        """
        core, options, session = self._core, self._core.options, self.session
        connection.stage, connection.hello_sent = Stage.GREETING, core.now
        connection.deadline = core.now + options.hello_timeout_s
        connection.hello_serial = core.knowledge.next_serial()
        connection.hello_digest = core.knowledge.digest
        connection.base = position = core.knowledge.position
        token, since = None, None
        if session is not None and core.now < session.lease_until and session.agreed == connection.hello_digest:
            since = core.knowledge.lowest_revision()
            token = session.token if since is not None and position is not None else None
        since = since if token else None
        # The token of the handshake, if another came meanwhile: a node takes no two. That one follows the welcome.
        hello = Hello(position, token, since, options.ttl_ms, connection.presented, options.name, options.beat_ms)
        core.act(Send(connection.conn, hello))
        if not self.early.allowed(connection.url):
            return
        if token is not None:
            self._renew(connection)
        elif core.knowledge.subscriptions:
            core.knowledge.begin_lease()
            self._subscribe_portions(connection, self.early.portions(connection.url))

    def subscribe_new(self) -> None:
        """Subscribe, in a new session, all that was not subscribed behind hello since it was wanted."""
        connection, held = self._opened(), self._core.knowledge.subscriptions
        early = [each.question for each in connection.requests.values()]
        if not early:
            connection.forget_requests()  # the renewal, if the client asked to resume
            if held:
                self.subscribe_all()
            return
        asked = {name: question.serial for question in early for name in question.since}
        if unwanted := [name for name in asked if name not in held]:
            self.unsubscribe(unwanted)
        self.subscribe([name for name in held if name not in asked or held[name].added >= asked[name]])

    def subscribe_all(self) -> None:
        """Subscribe the whole set, with versions, in place of what the lease holds."""
        connection = self._opened()
        connection.resubscribe(self._core.now)
        self._core.knowledge.begin_lease()
        self.schedule_renewal(connection)
        # The node takes them in order, and the first one empties its set: what a later one adds, none takes away. A
        # renewal is sent behind the last, so that it is compared with the whole.
        self._subscribe_portions(connection, self._core.cut(self._core.knowledge.subscriptions) or [[]])

    def subscribe(self, names: Sequence[str]) -> None:
        """Add names to the lease, if there is one; else they are part of the next."""
        connection = self.open
        if connection is not None and connection.stage is Stage.LEASED:
            for portion in self._core.cut(names):
                self._subscribe(connection, portion, replace=False)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Take names out of the lease, if there is one: best effort."""
        connection = self.open
        if connection is not None and connection.leased:
            self._disagree(connection, self._core.knowledge.next_serial())
            for portion in self._core.cut(names):
                topics = [name for name in portion if not name.endswith("/")]
                prefixes = [name for name in portion if name.endswith("/")]
                self._core.act(Send(connection.conn, Unsubscribe(topics, prefixes)))

    def renew(self) -> None:
        """Extend the lease, and ask whether both sides hold the same set."""
        connection = self._opened()
        self._renew(connection)
        self.schedule_renewal(connection)

    def _renew(self, connection: Connection) -> None:
        core = self._core
        renewal_id = self._request_id("renew")
        connection.renewals[renewal_id] = Renewal(core.knowledge.next_serial(), core.now)
        if len(connection.renewals) > RENEWALS_MAX:
            del connection.renewals[next(iter(connection.renewals))]
        digest, count = core.knowledge.digest
        age_ms, ttl_ms = core.knowledge.told_age_ms(core.now), core.options.ttl_ms
        core.act(Send(connection.conn, Renew(renewal_id, digest, count, ttl_ms, age_ms=age_ms, mode=core.mode)))

    def renew_resumed(self) -> None:
        """Renew, unless that was asked for behind hello."""
        if not self._opened().renewals:
            self.renew()

    def schedule_renewal(self, connection: Connection) -> None:
        """Renew one jittered interval from now."""
        connection.renew_at = self._core.now + jittered_s(self._core.random, connection.renew_s)

    def renew_once_more(self) -> None:
        """Renew after a miss: this renewal alone decides."""
        self._opened().clear_timers()
        self.renew()

    def renew_later(self) -> None:
        """Renew after a backoff instead of a full interval: the store was down."""
        connection, core = self._opened(), self._core
        pause_s = core.advice.backoff_s(core.random, connection.tries)
        connection.tries += 1
        connection.renew_at = min(connection.renew_at, core.now + pause_s)

    def poll_uncertain(self, names: Sequence[str], min_revision: int) -> None:
        """Poll, on the connection, the names that cover a topic of which a change may be missing."""
        connection, core = self._opened(), self._core
        for portion in core.cut(names):
            question = core.knowledge.ask(portion, core.now)
            poll_id = self._request_id("poll")
            connection.requests[poll_id] = InFlight(question, joins=False)
            body = Poll(poll_id, core.knowledge.position, question.topics, question.prefixes, min_revision)
            core.act(Send(connection.conn, body))

    def await_lease(self, retry_s: float, spread_s: float) -> None:
        """Wait on the open connection, its lease revoked, until it is time to subscribe again."""
        connection, core = self._opened(), self._core
        if self.session is not None:
            self.session.agreed = None
        core.knowledge.begin_lease()
        self._note_lease(connection)
        connection.revoked(core.now + max(retry_s, self._pause_s(spread_s)))

    @property
    def awaits_credentials(self) -> bool:
        """Whether the connection is kept until other credentials were presented on it."""
        return self.connection is not None and self.connection.awaits_credentials

    def await_credentials(self) -> None:
        """Wait on the open connection, its lease over, until other credentials were taken."""
        connection = self._opened()
        if self.session is not None:
            self.session.agreed = None
        self._core.knowledge.begin_lease()
        connection.revoked(math.inf)
        connection.awaits_credentials = True

    def present_token(self) -> None:
        """Present the token in place, if the connection has not presented it (P-AUTH-6)."""
        connection, token = self.open, self._core.credentials.cell.token
        if connection is None or token is None or connection.presented == token:
            return
        auth_id = self._request_id("auth")
        connection.presenting = auth_id, token, self._core.now
        self._core.act(Send(connection.conn, Auth(auth_id, token)))

    def authenticated(self, connection: Connection) -> None:
        """Take note that the token was taken; another lease may begin, if the last has ended for want of it."""
        assert connection.presenting is not None
        _, connection.presented, _ = connection.presenting
        connection.presenting = None
        if connection.awaits_credentials:
            connection.awaits_credentials = False
            connection.resubscribe_at = self._core.now

    def leave(self) -> None:
        """Leave the connection, if there is one; a session stays worth resuming."""
        connection = self.connection
        if connection is None:
            return
        self._core.act(Disconnect(connection.conn))
        self.ended()

    def ended(self) -> None:
        """Forget the connection: it has ended."""
        if self.connection is None:
            return
        if self.session is not None and self.connection.open:
            self.session.lease_until = self.connection.lease_until
        self._note_lease(self.connection)
        self._core.queue.lost(self.connection.conn)
        self._core.knowledge.begin_lease()
        self.connection = None

    def say_goodbye(self) -> None:
        """Release the lease."""
        if self.open is not None:
            self._core.act(Send(self.open.conn, ClientBye()))
        self.session = None

    def rebase(self, position: Position) -> None:
        """Take note that a welcome on this connection reset the client to `position`."""
        if self.open is not None:
            self.open.base = position

    def reconnect(self, spread_s: float) -> None:
        """Connect at a random time within a spread, which begins when a URL may be dialled at all.

        A spread may be 0: after brief leases the time is that of a backoff that covers it.
        """
        self.connect_at = max(self._core.now, self.rotation.not_before) + self._pause_s(spread_s)
        self.placed = True

    def back_off(self, cause: Cause) -> None:
        """Choose the next URL and the time to try it, after a connection that could not be made or did not last."""
        core, url = self._core, self.rotation.url
        if cause.unsent:
            core.refused_dial(url, placed=self.placed)
        if cause.barred:
            self.connect_at = self.rotation.bar(url, core.now, core.advice)
        else:
            spread_s = core.advice.recover_spread_s
            self.connect_at = self.rotation.failed(url, core.now, core.advice, cause.retry_s, spread_s)
            self.placed = self.placed or self.connect_at > core.now

    def reach_changed(self) -> None:
        """Take note of what another path learnt of a URL.

        While all URLs refuse, the next dial comes when the next probe is due, but no earlier than it was planned.
        """
        if self.connection is not None or self.connect_at == math.inf:
            return
        probe_at = self.rotation.probe_at
        if probe_at is not None:
            self.connect_at = probe_at if self._held else max(self.connect_at, probe_at)
        elif self._held:
            self.connect_at = self._core.spread(self._core.advice.recover_spread_s)
        self._held = False

    def agree(self, serial: int) -> None:
        """Note that both sides hold the same set, as far as the answer to request `serial` can tell."""
        connection = self._opened()
        if self.session is not None and serial >= connection.changed:
            self.session.agreed = self._core.knowledge.digest

    def check_answered(self, serial: int) -> None:
        """Fire `ALL_ANSWERED` if no subscribe is owed an answer, now that request `serial` has its own."""
        connection = self.open
        if connection is None or connection.stage is not Stage.LEASED:
            return
        if any(request.joins for request in connection.requests.values()):
            return
        connection.tries = 0
        self.agree(serial)
        self._core.fire(Trigger.ALL_ANSWERED)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _opened(self) -> Connection:
        connection = self.open
        assert connection is not None, "rows with this action are reached with an open connection only"
        return connection

    def _note_lease(self, connection: Connection) -> None:
        """Take note that the lease of a connection, if it has one, has ended."""
        if connection.leased:
            brief = self._core.now - connection.lease_began < LEASE_S_MIN
            self._brief = self._brief + 1 if brief else 0

    def _pause_s(self, spread_s: float) -> float:
        """Draw how long to wait for another lease: U(0, `spread_s`), or a backoff if the last ones ended at once."""
        core = self._core
        if self._brief < BRIEF_MIN:
            return core.random.uniform(0.0, spread_s)
        return core.advice.pause_s(core.random, self._brief - BRIEF_MIN, spread_s)

    def _disagree(self, connection: Connection, serial: int) -> None:
        """Note that request `serial` changes the node's set, if it arrives: until it is answered, both may differ."""
        connection.changed = serial
        if self.session is not None and connection.open:  # else it is another session
            self.session.agreed = None

    def _stuck_at(self, connection: Connection) -> float:
        if not connection.open:
            return math.inf
        presented_at = connection.presenting[2] if connection.presenting is not None else math.inf
        since = min(self._core.queue.sent_since(connection.conn), presented_at)
        return since + PUBLISH_TIMEOUTS * connection.timeout_s

    def _missed(self, trigger: Trigger) -> None:
        self._core.counts["misses"] += 1
        self._core.fire(trigger)

    def _request_id(self, kind: str) -> str:
        # Publishes are known by their tickets, which are integers; everything else by text.
        self._requests += 1
        return f"{kind}-{self._requests}"

    def _subscribe_portions(self, connection: Connection, portions: Iterable[Sequence[str]]) -> None:
        for at, names in enumerate(portions):
            self._subscribe(connection, names, replace=at == 0)

    def _subscribe(self, connection: Connection, names: Sequence[str], *, replace: bool) -> None:
        core = self._core
        question = core.knowledge.ask(names, core.now, core.knowledge.lease)
        subscribe_id = self._request_id("subscribe")
        connection.requests[subscribe_id] = InFlight(question, joins=True, early=not connection.open)
        self._disagree(connection, question.serial)
        core.act(Send(connection.conn, Subscribe(subscribe_id, question.topics, question.prefixes, replace)))
