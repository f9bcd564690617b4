"""Messages that arrive on the connection: which triggers they fire, and what they add to the client's knowledge.

Every message that brings knowledge goes through the path rule first (P-REW-7): a connection that may be in another
history than the client is left.
"""

from __future__ import annotations

import math

from msgspec import UNSET

from softstate.client.machine.backoff import Advice, asked_s
from softstate.client.machine.connection import Connection, InFlight, Renewal, Session, Stage
from softstate.client.machine.publish_queue import error_of
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.state import Cause, Core
from softstate.client.machine.triggers import Trigger
from softstate.errors import Denied, Unauthenticated, Unavailable
from softstate.model import Change
from softstate.position import Position
from softstate.wire.messages import (
    Authenticated,
    Beat,
    DeniedNames,
    Error,
    Notify,
    Polled,
    PositionMoved,
    Published,
    Renewed,
    Revoked,
    ServerBye,
    ServerMessage,
    Subscribed,
    Welcome,
)

LATER = frozenset({"unavailable", "overloaded", "behind"})
"""Errors of a subscribe that time may mend (P-CLI-8)."""

TURNED_DOWN = frozenset({"invalid", "too_large"})
"""Errors of a subscribe behind hello that say nothing of its names: they are asked for again (P-CLI-16)."""

FORBIDDEN = frozenset({"unauthenticated", "denied"})
"""Errors after which only other credentials help."""

DROPS_SESSION = frozenset({"rewound", "replaced"})
"""Reasons of a `bye` after which the session's token is worth nothing (P-CLI-7)."""


class PushMessages:
    """Reads the messages of the present connection and fires the triggers that they mean."""

    def __init__(self, core: Core, push: PushPath) -> None:
        self._core = core
        self._push = push

    def read(self, connection: Connection, message: ServerMessage) -> None:
        """Take a message; before the welcome, only few mean anything."""
        connection.beats.heard(self._core.now)
        if connection.stage is Stage.GREETING:
            self._before_welcome(connection, message)
        elif connection.open:
            self._read(connection, message)

    def _read(self, connection: Connection, message: ServerMessage) -> None:
        match message:
            case Notify():
                self._notify(connection, message)
            case Published():
                self._core.act(*self._core.queue.published(message))  # it applies no value (P-KNOW-10)
            case PositionMoved():
                self._in_history(connection, message.position)
            case Beat():
                self._beat(connection, message)
            case Subscribed() | Polled():
                self._answer(connection, message)
            case Renewed():
                self._renewed(connection, message)
            case DeniedNames():
                self._names_lost(connection, message)
            case Authenticated():
                self._authenticated(connection, message)
            case Revoked():
                self._revoked(connection, message)
            case Error():
                self._error(connection, message)
            case ServerBye():
                self._core.fire(Trigger.BYE, self._bye_cause(message))
            case _:
                pass  # a second welcome

    # Before and at the welcome ---------------------------------------------------------------------------------------

    def _before_welcome(self, connection: Connection, message: ServerMessage) -> None:
        match message:
            case Welcome():
                self._welcome(connection, message)
            case Error(code="rewound", position=position) if position is not None:
                self._rewound(connection, position)
            case Error(code="unauthenticated"):
                if self._unauthenticated(connection, message):
                    self._core.fire(Trigger.REFUSED)  # it comes again, with the token that there is now
            case Error():
                cause = _cause_of(message)
                self._core.fire(Trigger.FORBIDDEN if message.code in FORBIDDEN else Trigger.REFUSED, cause)
            case ServerBye():
                cause = self._bye_cause(message)
                wait_s = cause.retry_s + self._core.random.uniform(0.0, cause.spread_s)
                self._core.fire(Trigger.REFUSED, Cause(retry_s=wait_s))
            case _:
                pass  # nothing else means anything before the welcome

    def _welcome(self, connection: Connection, message: Welcome) -> None:
        core, knowledge = self._core, self._core.knowledge
        connection.latest = message.position
        if not knowledge.usable(message.position, connection.base):
            self._history_mismatch()
            return
        core.advice = Advice.of(message.poll, message.recover)
        core.limit(message.limits)
        core.queue.key_s = message.limits.key_ms / 1000
        core.queue.numbers_max = max(message.limits.inflight, 1)  # with 0, every publish would wait without end
        core.failures = 0
        core.answered_url = connection.url
        core.counts["welcomes"] += 1
        connection.welcome(message, core.now)
        core.credentials.told(connection.presented, message.credentials_ms, connection.hello_sent)
        core.timeout_s = connection.timeout_s
        self._push.early.welcomed(connection.url, message.limits)
        self._push.session = Session(message.session, connection.lease_until)
        core.deny(list(knowledge.subscriptions)[message.limits.subscriptions :])
        if not connection.requests:  # else it began with hello
            knowledge.begin_lease()
        self._push.schedule_renewal(connection)
        if message.reset is True:
            connection.void_requests()
            core.fire(Trigger.WELCOME_RESET, Cause(position=message.position))
        else:
            self._move(connection, message.position)
            self._welcome_in_history(connection, resumed=message.resumed)
        if not knowledge.subscriptions:
            self._push.check_answered(connection.hello_serial)
        self._push.present_token()  # if another came meanwhile

    def _welcome_in_history(self, connection: Connection, *, resumed: bool) -> None:
        core, knowledge = self._core, self._core.knowledge
        core.counts["resumed"] += resumed
        # The digest says that the set is the same again, not that it was all the time: a name that left and came back
        # has lost its values, and the replay begins too late for them.
        same = knowledge.digest == connection.hello_digest and knowledge.unchanged_since(connection.hello_serial)
        if resumed and same:
            knowledge.resume(connection.hello_serial)
            self._push.agree(connection.hello_serial)
            core.fire(Trigger.WELCOME_RESUMED)
        else:
            core.fire(Trigger.WELCOME_NEW)

    # Pushes ----------------------------------------------------------------------------------------------------------

    def _notify(self, connection: Connection, message: Notify) -> None:
        connection.notify_count += 1  # which moves no certificate (P-KNOW-6)
        core, knowledge = self._core, self._core.knowledge
        position = knowledge.position
        if position is None or not knowledge.usable(connection.latest, connection.base):
            self._history_mismatch()
            return
        if message.version > position.revision:
            self._move(connection, position.at(message.version))
        if message.unknown:
            core.counts["repairs_unknown"] += 1
            names = tuple(knowledge.doubt(message.topic))
            if names:
                core.fire(Trigger.UNKNOWN, Cause(names=names, version=message.version))
            return
        value = None if message.value is UNSET else message.value
        change = Change(message.topic, message.version, value, message.deleted)
        if knowledge.apply(change):
            core.deliver([change])

    def _beat(self, connection: Connection, message: Beat) -> None:
        core, knowledge = self._core, self._core.knowledge
        core.counts["beats"] += 1
        connection.beats.beaten(message.next_ms, core.random.uniform(0.0, 1.0))
        # Its end is looked at here, too: after a suspend, what was received may come ahead of timers (P-BEAT-5).
        leased = connection.stage is Stage.LEASED and core.now < connection.lease_until
        if leased and message.sent != connection.notify_count:
            self._pushes_lost(connection, message.sent)
            return
        position, known = message.position, knowledge.position
        if not leased or position is None or known is None or not position.same_lineage(known):
            return
        connection.latest = position
        self._move(connection, position)
        asof = connection.beats.asof(message.clock_ms, core.now)
        if asof is not None:
            knowledge.beaten(position.revision, asof)

    def _names_lost(self, connection: Connection, message: DeniedNames) -> None:
        """Drop names that may not be read any more: renewals on their way name them (P-AUTH-5)."""
        self._core.deny(message.names, message.narrow)
        for renewal in connection.renewals.values():
            renewal.set_changed = True

    def _authenticated(self, connection: Connection, message: Authenticated) -> None:
        if connection.presenting is None or message.id != connection.presenting[0]:
            return
        sent = connection.presenting[2]
        connection.told_credentials(message.credentials_ms, sent)
        self._push.authenticated(connection)
        self._core.credentials.told(connection.presented, message.credentials_ms, sent)
        self._push.present_token()

    def _unauthenticated(self, connection: Connection, message: Error) -> bool:
        """Take note that the token of this connection was refused; tell whether there is another one already."""
        error = _cause_of(message).error
        assert isinstance(error, Unauthenticated)
        return self._core.unauthenticated(connection.presented, error, connection.url)

    def _auth_refused(self, connection: Connection, message: Error) -> None:
        """Fetch another token than the one that was presented in place: the one before is good as long as it was."""
        assert connection.presenting is not None
        _, token, _ = connection.presenting
        connection.presenting = None
        core, error = self._core, _cause_of(message).error
        if not isinstance(error, Unauthenticated):
            core.credentials.postpone(error)
            return
        if not core.token_refused(token, error, connection.url):
            core.fire(Trigger.TOKEN_FINAL, Cause(error=error))
            return
        if core.credentials.is_present(token) and not connection.awaits_credentials:
            core.credentials.cell.token = connection.presented
        core.credentials.fetch()

    def _revoked(self, connection: Connection, message: Revoked) -> None:
        if message.reason == "denied":
            text = "the node revoked the lease: these credentials do not allow it any more"
            if self._core.credentials.provider:
                self._core.unauthenticated(connection.presented, Unauthenticated(text, why="revoked"), connection.url)
            else:
                self._core.fire(Trigger.FORBIDDEN, Cause(error=Denied(text)))
            return
        retry_s, spread_s = asked_s(message.retry_ms), asked_s(message.spread_ms)
        self._core.fire(Trigger.REVOKED, Cause(retry_s=retry_s, spread_s=spread_s))

    # Answers ---------------------------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, message: Subscribed | Polled) -> None:
        core, knowledge = self._core, self._core.knowledge
        request = connection.requests.get(message.id) if isinstance(message.id, str) else None
        if request is None or not self._in_history(connection, message.position):
            return
        question = request.question
        connection.page(core.now, question.sent)
        core.take_page(question, message)
        if message.more:
            if question.endless:
                core.last_error = Unavailable(f"{connection.url} announces further pages without an end")
                core.counts["misses"] += 1
                core.fire(Trigger.STUCK)
            return
        del connection.requests[str(message.id)]
        self._denied(connection, request, message)
        lag_s = message.lag_ms / 1000
        core.deliver(knowledge.finish(question, message.position.revision, lag_s, message.compacted))
        if request.joins:
            connection.extend(question.sent)
            if isinstance(message, Subscribed):
                connection.beats.answered(question.sent, core.now, message.clock_ms)
            self._push.check_answered(question.serial)

    def _denied(self, connection: Connection, request: InFlight, message: Subscribed | Polled) -> None:
        denied = self._core.deny(message.denied, message.narrow)
        if not denied:
            return
        if request.joins:
            _expect_mismatch(connection, request)
        else:
            self._push.unsubscribe(denied)

    def _renewed(self, connection: Connection, message: Renewed) -> None:
        renewal = connection.renewals.pop(message.id, None) if isinstance(message.id, str) else None
        if renewal is None or not self._in_history(connection, message.position):
            return
        core = self._core
        core.advice = Advice.of(message.poll, message.recover)
        core.credentials.told(connection.presented, message.credentials_ms, renewal.sent)
        connection.agree_on(message, renewal.sent, core.now)
        connection.extend(renewal.sent)
        if connection.stage is not Stage.LEASED:
            return  # names have left the lease with a failed subscribe, and are about to be subscribed again
        if not message.match and renewal.set_changed:
            self._push.renew()
        elif not message.match:  # P-REN-8
            core.counts["repairs_mismatch"] += 1
            core.fire(Trigger.MISMATCH)
        elif message.sent != connection.notify_count:
            self._pushes_lost(connection, message.sent)
        else:
            self._confirmed(renewal, message)

    def _pushes_lost(self, connection: Connection, sent: int) -> None:
        """Take note that other pushes came than were sent (P-REN-9)."""
        self._core.counts["repairs_sent_unequal"] += 1
        connection.notify_count = sent
        self._core.fire(Trigger.MISMATCH)

    def _confirmed(self, renewal: Renewal, message: Renewed) -> None:
        core = self._core
        self._push.agree(renewal.serial)
        if message.store == "down":
            core.fire(Trigger.RENEWED_DOWN)
            return
        core.knowledge.renewed(renewal.serial, renewal.sent, message.position.revision, message.lag_ms / 1000)
        if core.knowledge.unanswered(renewal.serial):
            # Requests are answered in order, so the answer to a subscribe of before is lost: nothing else
            # would make renewals certify its names.
            core.counts["repairs_unanswered"] += 1
            core.fire(Trigger.MISMATCH)
        else:
            core.fire(Trigger.RENEWED_MATCH)

    # Errors and farewells --------------------------------------------------------------------------------------------

    def _error(self, connection: Connection, message: Error) -> None:
        core = self._core
        if connection.presenting is not None and message.id == connection.presenting[0]:
            self._auth_refused(connection, message)
        elif message.code == "unauthenticated" and core.credentials.provider:
            self._refused_again(connection, message)
        elif isinstance(message.id, int):
            error = error_of(
                message.code, message.message, message.retry_ms, message.current, message.position, message.why
            )
            core.act(*core.queue.refused(message.id, error, core.now, core.advice))
        elif message.id in connection.voided:
            pass
        elif message.code == "rewound":
            if message.position is not None:
                self._rewound(connection, message.position)
        elif message.code in FORBIDDEN:
            core.fire(Trigger.FORBIDDEN, _cause_of(message))
        elif message.id is None:
            pass  # it names no request: if one was lost, its timer tells
        elif (request := connection.requests.pop(message.id, None)) is not None:
            self._request_failed(connection, request, message)
        elif connection.renewals.pop(message.id, None) is not None:
            self._renewal_failed(connection, message)

    def _refused_again(self, connection: Connection, message: Error) -> None:
        """Take note that a request was refused for its credentials: it is made again with others."""
        if isinstance(message.id, int):
            error = _cause_of(message).error
            assert isinstance(error, Unauthenticated)
            self._core.queue.put_back(message.id, error)
        if not connection.awaits_credentials and self._unauthenticated(connection, message):
            # `auth` is on its way.
            self._core.fire(Trigger.REVOKED, Cause(retry_s=math.inf))
            self._push.await_credentials()

    def _request_failed(self, connection: Connection, request: InFlight, message: Error) -> None:
        core, question = self._core, request.question
        if message.code == "compacted":
            core.knowledge.relist(question.since)
        if request.early and message.code in TURNED_DOWN:
            # Its limits were not known, or were others: now they are.
            _expect_mismatch(connection, request)
            self._push.subscribe([name for name in question.since if core.knowledge.held_before(name, question.serial)])
            self._push.check_answered(question.serial)
            return
        if request.joins and message.code not in {*LATER, "compacted", "no_lease"}:
            # Waiting does not mend it, and the message names no culprit: the names of this request are reported.
            _expect_mismatch(connection, request)
            core.deny([name for name in question.since if core.knowledge.held_before(name, question.serial)])
            self._push.check_answered(question.serial)
            return
        retry_s = max(asked_s(message.retry_ms), core.advice.backoff_s(core.random, connection.tries))
        connection.tries += 1
        connection.retry(core.now + retry_s)
        core.fire(Trigger.RETRY_LATER)

    def _renewal_failed(self, connection: Connection, message: Error) -> None:
        if connection.stage is not Stage.LEASED:
            return
        if message.code == "no_lease":
            self._core.counts["repairs_no_lease"] += 1
            self._core.fire(Trigger.NO_LEASE)
        else:
            self._core.fire(Trigger.RENEWED_DOWN)

    def _rewound(self, connection: Connection, position: Position) -> None:
        if self._core.knowledge.usable(position, connection.base):
            self._core.fire(Trigger.REWOUND, Cause(position=position))
        else:
            self._history_mismatch()

    def _bye_cause(self, message: ServerBye) -> Cause:
        if message.reason in DROPS_SESSION:
            self._push.session = None
        return Cause(retry_s=asked_s(message.retry_ms), spread_s=asked_s(message.spread_ms))

    # The path rule ---------------------------------------------------------------------------------------------------

    def _in_history(self, connection: Connection, position: Position) -> bool:
        """Take note of a position that the connection names; leave it if it may be in another history."""
        connection.latest = position
        if not self._core.knowledge.usable(position, connection.base):
            self._history_mismatch()
            return False
        self._move(connection, position)
        return True

    def _move(self, connection: Connection, position: Position) -> None:
        if self._core.knowledge.move(position):
            connection.base = position

    def _history_mismatch(self) -> None:
        self._core.counts["history_mismatches"] += 1
        self._core.fire(Trigger.HISTORY_MISMATCH)


def _expect_mismatch(connection: Connection, request: InFlight) -> None:
    """Mark the renewals sent after a subscribe some of whose names the node has taken out of the lease again."""
    for renewal in connection.renewals.values():
        if renewal.serial > request.question.serial:
            renewal.set_changed = True


def _cause_of(message: Error) -> Cause:
    error = error_of(message.code, message.message, message.retry_ms, message.current, message.position, message.why)
    return Cause(retry_s=asked_s(message.retry_ms), error=error)
