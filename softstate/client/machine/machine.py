"""The client machine: `(state, event, now, random) → (state, actions)`, without I/O, clock or task.

It reads events, finds out which `Trigger` each one means, and runs the row that `softstate.client.machine.table` has
for it. Knowledge, the two paths and the publishes are parts of their own; this module joins them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random
from typing import final

from softstate.client.machine.actions import Parts, poll_early
from softstate.client.machine.backoff import JITTER, Advice, Rotation, asked_s
from softstate.client.machine.connection import Connection, Stage
from softstate.client.machine.credentials import Credentials, TokenCell
from softstate.client.machine.description import ConnectionDescription, Description
from softstate.client.machine.events import (
    Action,
    Arrived,
    Closed,
    Connected,
    ConnectFailed,
    Event,
    Forked,
    FreshWanted,
    Jumped,
    Lost,
    ModeChanged,
    NamesDenied,
    Narrowing,
    Opened,
    PollAnswered,
    PublishAnswered,
    PublishDropped,
    PublishRequested,
    RequestFailed,
    Send,
    Settled,
    Ticked,
    TokenFailed,
    TokenGot,
    TokenRefused,
    Unwanted,
    Wanted,
)
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.poll_path import PollPath
from softstate.client.machine.publish_path import PublishPath
from softstate.client.machine.publish_queue import PublishQueue
from softstate.client.machine.push_messages import PushMessages
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.reach import Reach
from softstate.client.machine.retry_budget import RetryBudget
from softstate.client.machine.state import NO_CAUSE, Cause, Core, MachineOptions, Statistics, bars
from softstate.client.machine.table import TABLE
from softstate.client.machine.triggers import BECAUSE, TOLD_BY_FAILURES, Trigger
from softstate.errors import (
    ClientClosed,
    Denied,
    RequestError,
    SoftstateError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.wire.close_codes import CloseCode, may_reconnect

__all__ = ["Machine", "MachineOptions", "Statistics"]

_POLLING: frozenset[Mode] = frozenset({"connecting", "syncing", "suspect", "polling"})


@final
class Machine:
    """One client. `mode` is its state; `handle` takes it on; `deadline` says when to send `Ticked` at the latest."""

    def __init__(self, options: MachineOptions, random: Random, cell: TokenCell | None = None) -> None:
        self._knowledge = Knowledge()
        self._credentials = Credentials(cell or TokenCell(options.token), random, provider=options.provider)
        self._queue = PublishQueue(random, options.publishes_waiting_max, options.inflight_max)
        self._core = Core(
            options,
            random,
            self._knowledge,
            self._queue,
            options.advice,
            self._fire,
            self._path_failed,
            self._credentials,
            Reach(random),
            self._connect_at,
            self._reach_changed,
        )
        self._credentials.core = self._core
        self._push = PushPath(self._core)
        self._poll = PollPath(self._core, self._push.asking)
        self._publishes = PublishPath(self._core)
        self._retries = RetryBudget(self._core, self._push, self._poll)
        self._messages = PushMessages(self._core, self._push)
        self._parts = Parts(self._core, self._push, self._poll, self._publishes, self._retries)

    # For shells ------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The state it is in."""
        return self._core.mode

    @property
    def position(self) -> Position | None:
        """The highest position known, of the history the client is in."""
        return self._knowledge.position

    @property
    def value_bytes_max(self) -> int:
        """The longest value that may be published, as CBOR: the limit of the last node that told one."""
        return self._core.portions.value_bytes

    @property
    def last_error(self) -> SoftstateError | None:
        """The newest error that a node answered with, of those that waiting does not mend."""
        return self._core.last_error

    @property
    def newest_error(self) -> SoftstateError | None:
        """The newest failure of a connection or a request, or refusal by a node."""
        return self._core.newest_error

    @property
    def url(self) -> str | None:
        """The node that the present connection leads to, or else the one that answered last; None so far."""
        return self._core.answered_url if self._push.open is None else self._push.open.url

    @property
    def advice(self) -> Advice:
        """The advice of the last node that gave any: how often to poll, over how long to spread a return."""
        return self._core.advice

    @property
    def bound_s(self) -> float:
        """How old, in seconds, what is known becomes at most until a node counts as silent; infinite when closed.

        By beats, or else by renewals, if the lease is in order; else by the time between polls.
        """
        if self.mode in ("closed", "stopped"):
            return math.inf
        if self._push.open is not None and self._push.open.leased:
            return self._push.open.bound_s
        advice = self._core.advice
        return advice.poll_every_s * (1 + JITTER) + self._core.poll_timeout_s

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event and return what to do, in order. Never raises for what the network says.

        `now` is seconds on a clock that runs during suspend and never goes back.
        """
        self._core.now = now
        out: list[Action] = []
        self._core.out = out
        if self._core.fired:
            self._core.fired = []
        self._core.failure = None
        refusal = self._core.last_error
        self._read(event)
        if self._core.narrowed:
            narrowed, self._core.narrowed = self._core.narrowed, []
            self._ask_for(narrowed)
        self._tick()
        self._send_publishes()
        if self._core.last_error is not refusal:
            self._core.newest_error = self._core.last_error
        return out

    def deadline(self) -> float:
        """Return when to send `Ticked` at the latest; infinity if nothing is due."""
        if self.mode in ("closed", "stopped"):
            return math.inf
        due = min(self._push.deadline(), self._poll.deadline(), self._retries.deadline(), self._queue.due())
        due = min(due, self._credentials.deadline())
        if self._publishes.in_flight:
            due = min(due, self._publishes.deadline)
        elif self._queue.ready and self._push.open is None:
            due = min(due, self._publishes.due)
        return due

    def age(self, now: float, names: Iterable[str] | None = None) -> float:
        """Return the greatest age in seconds among `names` (None: all wanted); infinite while one is uncertified."""
        return self._knowledge.age_s(now, names)

    def unreadable(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the topics among those of `names` (None: all) whose stored records are damaged."""
        return self._knowledge.unreadable(names)

    def known(self, name: str) -> list[Change]:
        """Return the newest known state of every topic that `name` covers. After a reset, old values have version 0."""
        return self._knowledge.known(name)

    def refusal(self, ticket: int) -> RequestError | None:
        """Return why a publish is still waiting if it is certain not to be applied, else None."""
        return self._queue.refusal(ticket)

    def statistics(self) -> Statistics:
        """Return the counters as they are now."""
        counts = self._core.counts
        return Statistics(**counts, dropped=self._knowledge.dropped, publishes_repeated=self._queue.repeats)

    def describe(self) -> Description:
        """Return what it is doing, as it is now: for tests and for people; nothing may depend on it."""
        core, connection = self._core, self._push.connection
        return Description(
            core.mode,
            tuple(core.fired),
            None if connection is None else ConnectionDescription.of(connection),
            self._push.connect_at,
            self._poll.poll_at,
            polling=self._poll.in_flight,
            publishing=self._publishes.in_flight,
            names=tuple(self._knowledge.subscriptions),
            failures=core.failures,
            token=self._credentials.cell.token,
            fetching=self._credentials.fetching,
        )

    # Events ----------------------------------------------------------------------------------------------------------

    def _read(self, event: Event) -> None:
        match event:
            case Ticked():
                pass  # what is due is done after every event
            case Opened():
                self._credentials.begin()
                self._fire(Trigger.OPENED if self._core.options.push else Trigger.OPENED_FOR_POLLING)
            case Closed():
                self._fire(Trigger.CLOSED)
            case Jumped():
                if self._push.connection is not None:
                    self._push.connection.beats.forget_anchor()
                self._fire(Trigger.JUMPED)
            case Wanted() | Unwanted() | Narrowing() | PublishRequested() | PublishDropped():
                self._read_application(event)
            case FreshWanted():
                self._ask_now()
            case Forked():
                self._core.random.seed(event.seed)
                self._core.act(*self._queue.forked())
            case PollAnswered() | PublishAnswered() | RequestFailed():
                self._read_answer(event)
            case TokenGot() | TokenFailed() | TokenRefused():
                self._read_token(event)
            case Connected() | ConnectFailed() | Arrived() | Lost():
                self._read_connection(event)

    def _read_application(self, event: Wanted | Unwanted | Narrowing | PublishRequested | PublishDropped) -> None:
        match event:
            case Wanted():
                self._ask_for(self._knowledge.add(event.names))
            case Narrowing():
                self._core.narrowing = event.names
            case Unwanted():
                removed = self._knowledge.remove(event.names)
                if removed:
                    self._push.unsubscribe(removed)
            case PublishRequested() if self._core.mode in ("closed", "stopped"):
                error = self._core.stopped_by or ClientClosed("the client is closed")
                self._core.act(Settled(event.ticket, error))
            case PublishRequested():
                self._core.act(*self._queue.ask(event))
            case PublishDropped():
                self._queue.drop(event.ticket)

    def _read_answer(self, event: PollAnswered | PublishAnswered | RequestFailed) -> None:
        match event:
            case PollAnswered():
                self._poll.answered(event.request, event.message)
            case PublishAnswered():
                self._publishes.answered(event.request, event.results)
            case RequestFailed():
                url = self._poll.url_of(event.request) or self._publishes.url_of(event.request)
                self._failed(event.error, event.reason, url)
                self._poll.failed(event.request, event.error, unsent=event.unsent)
                self._publishes.failed(event.request, event.error, unsent=event.unsent)

    def _read_token(self, event: TokenGot | TokenFailed | TokenRefused) -> None:
        credentials = self._credentials
        match event:
            case TokenGot():
                if credentials.got(event.number, event.token):
                    self._fire(Trigger.TOKEN_GOT)
            case TokenFailed(final=True):
                self._fire(Trigger.TOKEN_FINAL, Cause(error=event.error))
            case TokenFailed():
                credentials.failed(event.number, event.error)
            case TokenRefused() if credentials.provider and credentials.is_present(event.token):
                if credentials.refused(event.token, event.error):
                    credentials.fetch()
                else:
                    self._fire(Trigger.TOKEN_FINAL, Cause(error=event.error))

    def _ask_now(self) -> None:
        """Have a node say what is new: by a renewal, if there is a lease, else by a poll."""
        connection = self._push.open
        if connection is not None and connection.stage is Stage.LEASED:
            if not connection.renewing:
                self._push.renew()
        elif self.mode == "offline":
            self._retries.hurry()
        elif self.mode in _POLLING:
            self._poll.schedule(self._core.now)

    def _failed(self, error: RequestError | None, reason: str, url: str | None) -> None:
        """Take note of a failure, and of its words, for those who ask why."""
        self._core.failure = reason, url
        if error is None or not isinstance(error, Unauthenticated):
            self._core.newest_error = error or Unavailable(reason)

    def _ask_for(self, added: list[str]) -> None:
        """Have names that are new in the set answered, as far as the node's limit reaches."""
        limits = self._core.limits
        excess = len(self._knowledge.subscriptions) - limits.subscriptions if limits else 0
        if excess > 0:
            denied = added[-excess:]
            self._knowledge.remove(denied)
            self._core.act(NamesDenied(denied))
            added = added[:-excess]
        if not added:
            return
        self._push.subscribe(added)
        if self.mode == "connecting":
            poll_early(self._parts, NO_CAUSE)
        elif self.mode == "offline":
            self._retries.hurry()
        elif self.mode in _POLLING:
            self._poll.schedule_again(self._core.now)

    def _read_connection(self, event: Connected | ConnectFailed | Arrived | Lost) -> None:
        connection = self._push.connection
        if connection is None or connection.conn != event.conn:
            return
        match event:
            case Connected():
                if connection.stage is Stage.OPENING:
                    self._core.reached(connection.url)
                    self._push.hello(connection)
            case ConnectFailed():
                self._connect_failed(event)
            case Arrived():
                self._messages.read(connection, event.message)
            case Lost():
                self._lost(event)

    def _connect_failed(self, event: ConnectFailed) -> None:
        opened, connection = self._push.open is not None, self._push.connection
        self._failed(event.error, event.reason, connection.url if connection else None)
        if not event.unsent and self._push.connection is not None:
            self._core.reached(self._push.connection.url)
        if self._push.connection is not None:
            self._core.mistrusted(self._push.connection.url, event.error)
        if (bars(event.error) or isinstance(event.error, Unsupported)) and self._push.connection is not None:
            assert event.error is not None
            self._core.refused(self._push.connection.url, event.error)
        self._push.ended()
        if opened:  # no shell should say so of a connection that it reported as made; it is lost all the same
            self._fire(Trigger.LOST)
            return
        if event.status in (401, 403) and not bars(event.error):
            text, why = f"the node refuses the connection: {event.reason}", event.error.why if event.error else None
            self._forbidden(connection, Unauthenticated(text, why=why) if event.status == 401 else Denied(text))
        else:
            barred = event.status in (403, 404) or bars(event.error)
            self._fire(Trigger.REFUSED, Cause(retry_s=asked_s(event.retry_ms), barred=barred, unsent=event.unsent))

    def _lost(self, event: Lost) -> None:
        if event.code == CloseCode.DROP_SESSION:
            self._push.session = None
        opened, connection = self._push.open is not None, self._push.connection
        self._failed(None, event.reason, connection.url if connection else None)
        if connection is not None and not opened:
            self._push.early.lost(connection, event.code)
        self._push.ended()
        if event.code is not None and not may_reconnect(event.code):
            text = f"closed with code {event.code}: {event.reason}"
            self._forbidden(connection, Unauthenticated(text) if event.code < 4200 else Unsupported(text))
        else:
            self._fire(Trigger.LOST if opened else Trigger.REFUSED)

    def _forbidden(self, connection: Connection | None, error: RequestError) -> None:
        """Take note of an end that waiting does not mend; other credentials may."""
        if not isinstance(error, Unauthenticated):
            self._fire(Trigger.FORBIDDEN, Cause(error=error))
        elif connection is None or self._core.unauthenticated(connection.presented, error, connection.url):
            self._fire(Trigger.REFUSED)

    # The table -------------------------------------------------------------------------------------------------------

    def _fire(self, trigger: Trigger, cause: Cause = NO_CAUSE) -> None:
        cell = self._core.mode, trigger
        self._core.fired.append(cell)
        row = TABLE.get(cell)
        if row is None:
            return
        if row.to is not None and row.to != self._core.mode:
            self._core.mode = row.to
            failure = self._core.failure if trigger in TOLD_BY_FAILURES else None
            because, url = failure or (BECAUSE[trigger], self.url)
            self._core.act(ModeChanged(row.to, because, url))
        for action in row.actions:
            action(self._parts, cause)

    def _path_failed(self, rotation: Rotation) -> None:
        self._retries.failed(rotation)

    def _connect_at(self) -> float:
        return self._push.connect_at

    def _reach_changed(self) -> None:
        self._push.reach_changed()
        self._poll.reach_changed(self._core.now + self._core.patience_s())

    # Time and publishes ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.mode in ("closed", "stopped"):
            return
        self._credentials.tick()
        self._push.tick()
        self._poll.tick()
        self._publishes.tick()
        self._core.act(*self._queue.tick(self._core.now))
        self._retries.tick()

    def _send_publishes(self) -> None:
        connection, now = self._push.open, self._core.now
        if self._push.awaits_credentials:
            return
        if connection is not None:
            ready = self._queue.over_connection(connection.conn, now)
            self._core.act(*(Send(connection.conn, publish) for publish in ready))
        elif self._queue.ready and not self._publishes.in_flight and now >= self._publishes.due:
            self._publishes.send()
