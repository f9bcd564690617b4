"""The WebSocket path of the client machine: connecting, the session and its lease, subscribing, renewing.

It tells the machine, by triggers, what its connection's events mean; the table decides, and its rows' actions call
back into the methods of the middle section.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from softstate.client.machine.backoff import Rotation, jittered_s
from softstate.client.machine.connection import Asked, Link, Renewal, Session
from softstate.client.machine.events import Connect, Disconnect, Send
from softstate.client.machine.state import NAMES_MAX, Cause, Core
from softstate.client.machine.table import Trigger
from softstate.position import Position
from softstate.wire.messages import ClientBye, Hello, Poll, Renew, Subscribe, Unsubscribe

PUBLISH_TIMEOUTS = 4
"""A connection is left when a publish stays unanswered for this many times `timeout_ms`."""

RENEWALS_MAX = 8
"""Renewals whose answers are still taken if they come late; older ones are forgotten."""


class PushPath:
    """Holds at most one connection. `connect_at` is when to open the next; infinity while there is one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.rotation = Rotation(core.options.urls, core.random)
        self.link: Link | None = None
        self.session: Session | None = None
        self.connect_at = math.inf
        self._requests = 0

    @property
    def open(self) -> Link | None:
        """The connection, if it has had its welcome."""
        return self.link if self.link is not None and self.link.stage == "open" else None

    def deadline(self) -> float:
        """Return when something here is due."""
        if self.link is None:
            return self.connect_at
        return min(self.link.due, self._stuck_at(self.link))

    def tick(self) -> None:
        """Do what is due."""
        link, now = self.link, self._core.now
        if link is None:
            if now >= self.connect_at:
                self.connect()
        elif now < self.deadline():
            return
        elif link.stage != "open":
            self._core.fire(Trigger.REFUSED)
        elif now >= self._stuck_at(link):
            self._missed(Trigger.STUCK)
        elif now >= link.lease_until and link.leased:
            self._missed(Trigger.EXPIRED)
        elif link.leased and link.overdue(now):
            self._missed(Trigger.ANSWER_MISSED)
        elif now >= link.again_at:
            link.again_at = math.inf
            self._core.fire(Trigger.WAIT_OVER)
        else:
            self.renew()

    # What the table's actions and the application ask for ------------------------------------------------------------

    def connect(self) -> None:
        """Open a connection now."""
        core = self._core
        self.connect_at = math.inf
        timeout_s = core.options.connect_timeout_s
        self.link = Link(core.number(), self.rotation.url, core.now + timeout_s)
        core.counts["connects"] += 1
        core.act(Connect(self.link.conn, self.link.url, timeout_s))

    def hello(self, link: Link) -> None:
        """Open a session; ask to resume the last if its lease may live and holds the set wanted (P-RES-5)."""
        core, options, session = self._core, self._core.options, self.session
        link.stage, link.hello_sent, link.deadline = "hello", core.now, core.now + options.hello_timeout_s
        link.hello_serial = core.knowledge.next_serial()
        link.hello_digest = core.knowledge.digest
        link.base = position = core.knowledge.position
        token, since = None, None
        if session is not None and core.now < session.lease_until and session.agreed == link.hello_digest:
            since = core.knowledge.lowest_revision()
            token = session.token if since is not None and position is not None else None
        hello = Hello(position, token, since if token else None, options.ttl_ms, options.token, options.name)
        core.act(Send(link.conn, hello))

    def subscribe_all(self) -> None:
        """Subscribe the whole set anew, with versions, as the whole set of the lease."""
        link = self._opened()
        link.forget_requests()
        link.leased, link.again_at = True, math.inf
        self._core.knowledge.begin_lease()
        self.schedule_renewal(link)
        batches = self._core.batches() or [[]]
        for at, names in enumerate(batches):
            self._subscribe(link, names, replace=at == 0)

    def subscribe(self, names: Sequence[str]) -> None:
        """Add names to the lease, if there is one; else they come with the next."""
        link = self.open
        if link is not None and link.leased and link.again_at == math.inf:
            for at in range(0, len(names), NAMES_MAX):
                self._subscribe(link, names[at : at + NAMES_MAX], replace=False)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Take names out of the lease, if there is one: best effort."""
        link = self.open
        if link is not None and link.leased:
            topics = [name for name in names if not name.endswith("/")]
            prefixes = [name for name in names if name.endswith("/")]
            self._disagree(link, self._core.knowledge.next_serial())
            self._core.act(Send(link.conn, Unsubscribe(topics, prefixes)))

    def renew(self) -> None:
        """Extend the lease, and ask whether both sides hold the same set."""
        link, core = self._opened(), self._core
        renewal_id = self._request_id("renew")
        link.renewals[renewal_id] = Renewal(core.knowledge.next_serial(), core.now)
        if len(link.renewals) > RENEWALS_MAX:
            del link.renewals[next(iter(link.renewals))]
        self.schedule_renewal(link)
        digest, count = core.knowledge.digest
        core.act(Send(link.conn, Renew(renewal_id, digest, count, core.options.ttl_ms)))

    def schedule_renewal(self, link: Link) -> None:
        """Renew one jittered interval from now."""
        link.renew_at = self._core.now + jittered_s(self._core.random, link.renew_s)

    def renew_once_more(self) -> None:
        """Renew after a miss: this renewal alone decides."""
        self._opened().forgive()
        self.renew()

    def renew_later(self) -> None:
        """Renew after a backoff instead of a full interval: the store was down."""
        link, core = self._opened(), self._core
        pause_s = core.advice.backoff_s(core.random, link.tries)
        link.tries += 1
        link.renew_at = min(link.renew_at, core.now + pause_s)

    def poll_doubtful(self, names: Sequence[str], min_revision: int) -> None:
        """Poll, on the connection, the names that cover a topic of which something may be missing."""
        link, core = self._opened(), self._core
        question = core.knowledge.ask(names, core.now)
        poll_id = self._request_id("poll")
        link.asked[poll_id] = Asked(question, joins=False)
        body = Poll(poll_id, core.knowledge.position, question.topics, question.prefixes, min_revision)
        core.act(Send(link.conn, body))

    def await_lease(self, retry_s: float, spread_s: float) -> None:
        """Wait on the open connection, its lease revoked, until it is time to subscribe again."""
        link, core = self._opened(), self._core
        link.forget_requests()
        link.leased = False
        if self.session is not None:
            self.session.agreed = None
        core.knowledge.begin_lease()
        link.again_at = max(core.now + retry_s, core.spread(spread_s))

    def leave(self) -> None:
        """Leave the connection, if there is one; a session stays worth resuming."""
        link = self.link
        if link is None:
            return
        self._core.act(Disconnect(link.conn))
        self.ended()

    def ended(self) -> None:
        """Forget the connection: it is no more."""
        if self.link is None:
            return
        if self.session is not None and self.link.stage == "open":
            self.session.lease_until = self.link.lease_until
        self._core.publishing.lost(self.link.conn)
        self._core.knowledge.begin_lease()
        self.link = None

    def say_goodbye(self) -> None:
        """Release the lease."""
        if self.open is not None:
            self._core.act(Send(self.open.conn, ClientBye()))
        self.session = None

    def rebase(self, position: Position) -> None:
        """Take note that a welcome on this connection reset the client to `position`."""
        if self.open is not None:
            self.open.base = position

    def back_off(self, cause: Cause) -> None:
        """Choose the next URL and the time to try it, after a connection that did not come to be or did not last."""
        core = self._core
        if cause.barred:
            self.connect_at = self.rotation.bar(core.now, core.advice)
        else:
            self.connect_at = self.rotation.failed(core.now, core.advice, cause.retry_s)

    def agree(self, serial: int) -> None:
        """Note that both sides hold the same set, as far as the answer to request `serial` can tell."""
        link = self._opened()
        if self.session is not None and serial >= link.changed:
            self.session.agreed = self._core.knowledge.digest

    def check_answered(self, serial: int) -> None:
        """Fire `ALL_ANSWERED` if no subscribe is owed an answer, now that request `serial` has its own."""
        link = self.open
        if link is None or not link.leased or link.again_at < math.inf:
            return
        if any(asked.joins for asked in link.asked.values()):
            return
        link.tries = 0
        self.agree(serial)
        self._core.fire(Trigger.ALL_ANSWERED)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _opened(self) -> Link:
        link = self.open
        assert link is not None, "rows with this action are reached with an open connection only"
        return link

    def _disagree(self, link: Link, serial: int) -> None:
        """Note that request `serial` changes the node's set, if it arrives: until then nobody knows what it holds."""
        link.changed = serial
        if self.session is not None:
            self.session.agreed = None

    def _stuck_at(self, link: Link) -> float:
        if link.stage != "open":
            return math.inf
        return self._core.publishing.sent_since(link.conn) + PUBLISH_TIMEOUTS * link.timeout_s

    def _missed(self, trigger: Trigger) -> None:
        self._core.counts["misses"] += 1
        self._core.fire(trigger)

    def _request_id(self, kind: str) -> str:
        # Publishes are known by their tickets, which are integers; everything else by text.
        self._requests += 1
        return f"{kind}-{self._requests}"

    def _subscribe(self, link: Link, names: Sequence[str], *, replace: bool) -> None:
        core = self._core
        question = core.knowledge.ask(names, core.now, core.knowledge.lease)
        subscribe_id = self._request_id("subscribe")
        link.asked[subscribe_id] = Asked(question, joins=True)
        self._disagree(link, question.serial)
        core.act(Send(link.conn, Subscribe(subscribe_id, question.topics, question.prefixes, replace)))
