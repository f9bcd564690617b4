"""What a message on the open connection means: the reading half of the client machine's WebSocket path.

Every message that brings knowledge goes through the path rule first (P-REW-7): a connection that may be in another
history than the client is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from msgspec import UNSET

from softstate.client.machine.backoff import Advice
from softstate.client.machine.connection import Asked, Link, Renewal, Session
from softstate.client.machine.publish_queue import error_of
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.state import Cause, Core
from softstate.client.machine.table import Trigger
from softstate.errors import Denied
from softstate.model import Change
from softstate.position import Position
from softstate.wire.messages import (
    Error,
    Message,
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

M = TypeVar("M", bound=Message)

LATER = frozenset({"unavailable", "overloaded", "behind"})
"""Errors of a subscribe that time may mend (P-CLI-8)."""

FORBIDDEN = frozenset({"unauthenticated", "denied"})
"""Errors after which only other credentials help."""

DROPS_SESSION = frozenset({"rewound", "replaced"})
"""Farewells after which the session's token is worth nothing (P-CLI-7)."""


class Arrivals:
    """Reads the messages of the present connection and fires the triggers that they mean."""

    def __init__(self, core: Core, push: PushPath) -> None:
        self._core = core
        self._push = push
        self._readers: dict[type[Message], Callable[[Link, ServerMessage], None]] = {
            Notify: _only(Notify, self._notify),
            PositionMoved: _only(PositionMoved, self._moved),
            Subscribed: _only(Subscribed, self._answer),
            Polled: _only(Polled, self._answer),
            Renewed: _only(Renewed, self._renewed),
            Revoked: _only(Revoked, self._revoked),
            Published: _only(Published, self._published),
            Error: _only(Error, self._error),
            ServerBye: _only(ServerBye, self._bye),
        }

    def read(self, link: Link, message: ServerMessage) -> None:
        """Take a message; before the welcome, only few mean anything."""
        if link.stage == "opening":
            return
        if link.stage == "hello":
            self._before_welcome(link, message)
        elif (reader := self._readers.get(type(message))) is not None:
            reader(link, message)

    # Before and at the welcome ---------------------------------------------------------------------------------------

    def _before_welcome(self, link: Link, message: ServerMessage) -> None:
        match message:
            case Welcome():
                self._welcome(link, message)
            case Error(code="rewound", position=position) if position is not None:
                self._rewound(link, position)
            case Error():
                cause = _cause_of(message)
                self._core.fire(Trigger.FORBIDDEN if message.code in FORBIDDEN else Trigger.REFUSED, cause)
            case ServerBye():
                cause = self._bye_cause(message)
                wait_s = cause.retry_s + self._core.random.uniform(0.0, cause.spread_s)
                self._core.fire(Trigger.REFUSED, Cause(retry_s=wait_s))
            case _:
                pass  # nothing else means anything before the welcome

    def _welcome(self, link: Link, message: Welcome) -> None:
        core, knowledge = self._core, self._core.knowledge
        link.latest = message.position
        if not knowledge.usable(message.position, link.base):
            self._stray()
            return
        core.limits, core.advice = message.limits, Advice.of(message.poll, message.recover)
        core.publishing.key_s = message.limits.key_ms / 1000
        core.failures = 0
        core.timeout_s = message.timeout_ms / 1000
        core.counts["welcomes"] += 1
        link.welcome(message)
        self._push.session = Session(message.session, link.lease_until)
        core.deny(list(knowledge.subscriptions)[message.limits.subscriptions :])
        knowledge.begin_lease()
        self._push.schedule_renewal(link)
        if message.reset is True:
            core.fire(Trigger.WELCOME_RESET, Cause(position=message.position))
        else:
            self._move(link, message.position)
            self._welcome_in_history(link, resumed=message.resumed)
        if not knowledge.subscriptions:
            self._push.check_answered(link.hello_serial)

    def _welcome_in_history(self, link: Link, *, resumed: bool) -> None:
        core, knowledge = self._core, self._core.knowledge
        core.counts["resumed"] += resumed
        if resumed and knowledge.digest == link.hello_digest:
            knowledge.resume(link.hello_serial)
            self._push.agree(link.hello_serial)
            core.fire(Trigger.WELCOME_RESUMED)
        else:
            core.fire(Trigger.WELCOME_NEW)

    # Pushes ----------------------------------------------------------------------------------------------------------

    def _notify(self, link: Link, message: Notify) -> None:
        link.notifies += 1  # which moves no certificate (P-KNOW-6)
        core, knowledge = self._core, self._core.knowledge
        position = knowledge.position
        if position is None or not knowledge.usable(link.latest, link.base):
            self._stray()
            return
        if message.version > position.revision:
            self._move(link, position.at(message.version))
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

    def _moved(self, link: Link, message: PositionMoved) -> None:
        self._in_history(link, message.position)

    def _revoked(self, _: Link, message: Revoked) -> None:
        if message.reason == "denied":
            error = Denied("the node revoked the lease: these credentials do not allow it any more")
            self._core.fire(Trigger.FORBIDDEN, Cause(error=error))
            return
        spread_s = (message.spread_ms or 0) / 1000
        self._core.fire(Trigger.REVOKED, Cause(retry_s=(message.retry_ms or 0) / 1000, spread_s=spread_s))

    # Answers ---------------------------------------------------------------------------------------------------------

    def _answer(self, link: Link, message: Subscribed | Polled) -> None:
        core, knowledge = self._core, self._core.knowledge
        asked = link.asked.get(message.id) if isinstance(message.id, str) else None
        if asked is None or not self._in_history(link, message.position):
            return
        link.page(core.now, asked.question.sent)
        core.deliver(knowledge.apply_page(asked.question, message.changes))
        if message.more:
            return
        del link.asked[str(message.id)]
        self._denied(link, asked, message)
        lag_s = message.lag_ms / 1000
        core.deliver(knowledge.finish(asked.question, message.position.revision, lag_s, message.compacted))
        if asked.joins:
            link.extend(asked.question.sent)
            self._push.check_answered(asked.question.serial)

    def _denied(self, link: Link, asked: Asked, message: Subscribed | Polled) -> None:
        denied = self._core.deny(message.denied)
        if not denied:
            return
        if asked.joins:
            _expect_mismatch(link, asked)
        else:
            self._push.unsubscribe(denied)

    def _renewed(self, link: Link, message: Renewed) -> None:
        renewal = link.renewals.pop(message.id, None) if isinstance(message.id, str) else None
        if renewal is None or not self._in_history(link, message.position):
            return
        core = self._core
        core.advice = Advice.of(message.poll, message.recover)
        link.ttl_s, link.renew_s = message.ttl_ms / 1000, message.renew_ms / 1000
        link.extend(renewal.sent)
        if link.again_at < math.inf:
            return  # names have left the lease with a failed subscribe, and are about to be subscribed again
        if not message.match and renewal.set_changed:
            self._push.renew()
        elif not message.match:  # P-REN-8
            core.counts["repairs_mismatch"] += 1
            core.fire(Trigger.MISMATCH)
        elif message.sent != link.notifies:
            core.counts["repairs_sent_unequal"] += 1
            link.notifies = message.sent
            core.fire(Trigger.MISMATCH)
        else:
            self._confirmed(renewal, message)

    def _confirmed(self, renewal: Renewal, message: Renewed) -> None:
        core = self._core
        self._push.agree(renewal.serial)
        if message.store == "down":
            core.fire(Trigger.RENEWED_DOWN)
            return
        core.knowledge.renewed(renewal.serial, renewal.sent, message.position.revision, message.lag_ms / 1000)
        if core.knowledge.unanswered(renewal.serial):
            # Requests are answered in order, so the answer to a subscribe of before is lost: nothing else would ever
            # begin what renewals certify.
            core.counts["repairs_unanswered"] += 1
            core.fire(Trigger.MISMATCH)
        else:
            core.fire(Trigger.RENEWED_MATCH)

    # It applies no value (P-KNOW-10).
    def _published(self, _: Link, message: Published) -> None:
        self._core.act(*self._core.publishing.published(message))

    # Errors and farewells --------------------------------------------------------------------------------------------

    def _error(self, link: Link, message: Error) -> None:
        core = self._core
        if isinstance(message.id, int):
            error = error_of(message.code, message.message, message.retry_ms, message.current, message.position)
            core.act(*core.publishing.refused(message.id, error, core.now, core.advice))
        elif message.code == "rewound":
            if message.position is not None:
                self._rewound(link, message.position)
        elif message.code in FORBIDDEN:
            core.fire(Trigger.FORBIDDEN, _cause_of(message))
        elif message.id is None:
            pass  # it names no request: if one was lost, its timer tells
        elif (asked := link.asked.pop(message.id, None)) is not None:
            self._asked_in_vain(link, asked, message)
        elif link.renewals.pop(message.id, None) is not None:
            self._renewed_in_vain(link, message)

    def _asked_in_vain(self, link: Link, asked: Asked, message: Error) -> None:
        core = self._core
        if message.code == "compacted":
            core.knowledge.relist(asked.question.since)
        if asked.joins and message.code not in {*LATER, "compacted", "no_lease"}:
            # Waiting does not mend it, and the message names no culprit: the names of this request are reported.
            _expect_mismatch(link, asked)
            core.deny([name for name in asked.question.since if self._held_since(name, asked)])
            self._push.check_answered(asked.question.serial)
            return
        link.asked.clear()
        retry_s = max((message.retry_ms or 0) / 1000, core.advice.backoff_s(core.random, link.tries))
        link.tries += 1
        link.again_at = core.now + retry_s
        core.fire(Trigger.RETRY_LATER)

    def _held_since(self, name: str, asked: Asked) -> bool:
        held = self._core.knowledge.subscriptions.get(name)
        return held is not None and held.added < asked.question.serial

    def _renewed_in_vain(self, link: Link, message: Error) -> None:
        if link.again_at < math.inf:
            return
        if message.code == "no_lease":
            self._core.counts["repairs_no_lease"] += 1
            self._core.fire(Trigger.NO_LEASE)
        else:
            self._core.fire(Trigger.RENEWED_DOWN)

    def _rewound(self, link: Link, position: Position) -> None:
        if self._core.knowledge.usable(position, link.base):
            self._core.fire(Trigger.REWOUND, Cause(position=position))
        else:
            self._stray()

    def _bye(self, _: Link, message: ServerBye) -> None:
        self._core.fire(Trigger.BYE, self._bye_cause(message))

    def _bye_cause(self, message: ServerBye) -> Cause:
        if message.reason in DROPS_SESSION:
            self._push.session = None
        return Cause(retry_s=message.retry_ms / 1000, spread_s=message.spread_ms / 1000)

    # The path rule ---------------------------------------------------------------------------------------------------

    def _in_history(self, link: Link, position: Position) -> bool:
        """Take note of a position that the connection names; leave it if it may be in another history."""
        link.latest = position
        if not self._core.knowledge.usable(position, link.base):
            self._stray()
            return False
        self._move(link, position)
        return True

    def _move(self, link: Link, position: Position) -> None:
        if self._core.knowledge.move(position):
            link.base = position

    def _stray(self) -> None:
        self._core.counts["strays"] += 1
        self._core.fire(Trigger.STRAYED)


def _only(kind: type[M], reader: Callable[[Link, M], None]) -> Callable[[Link, ServerMessage], None]:
    def read(link: Link, message: ServerMessage) -> None:
        assert isinstance(message, kind)
        reader(link, message)

    return read


def _expect_mismatch(link: Link, asked: Asked) -> None:
    """Mark the renewals sent after a subscribe some of whose names the node has taken out of the lease again."""
    for renewal in link.renewals.values():
        if renewal.serial > asked.question.serial:
            renewal.set_changed = True


def _cause_of(message: Error) -> Cause:
    error = error_of(message.code, message.message, message.retry_ms, message.current, message.position)
    return Cause(retry_s=(message.retry_ms or 0) / 1000, error=error)
