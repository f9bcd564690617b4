"""The client machine: `(state, event, now, random) → (state, actions)`, without I/O, clock or task.

It reads events, works out by `Trigger` what they mean, and executes the row that `softstate.client.machine.table` has
for it. Knowledge, the two paths and the publishes are parts of their own; this module joins them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random
from typing import final

from softstate.client.machine.backoff import Rotation
from softstate.client.machine.events import (
    Action,
    Arrived,
    Closed,
    Connected,
    ConnectFailed,
    Denied,
    Event,
    Jumped,
    Lost,
    ModeChanged,
    Opened,
    PollAnswered,
    PublishAnswered,
    PublishAsked,
    PublishDropped,
    RequestFailed,
    Reset,
    Send,
    Settled,
    Stopped,
    Ticked,
    Unwanted,
    Wanted,
)
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.poll_path import PollPath
from softstate.client.machine.publish_path import PublishPath
from softstate.client.machine.publish_queue import Publishing
from softstate.client.machine.push_messages import Arrivals
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.state import NO_CAUSE, Cause, Core, MachineOptions, Statistics
from softstate.client.machine.table import ROWS, TABLE, Trigger
from softstate.errors import ClientClosed, Denied as DeniedError, SoftstateError, Unauthenticated, Unsupported
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.wire.close_codes import CloseCode, may_reconnect

__all__ = ["Machine", "MachineOptions", "Statistics"]

FIRST_POLL_S_MAX = 1.0
"""The first poll of all is spread over at most this, however wide the node's advice."""

HTTP_PUBLISH_AFTER_S = 1.0
"""How long publishes wait for the first connection before they go over HTTP."""

_POLLING: frozenset[Mode] = frozenset({"connecting", "syncing", "suspect", "polling"})


@final
class Machine:
    """One client. `mode` is its state; `handle` takes it on; `deadline` says when to send `Ticked` at the latest."""

    def __init__(self, options: MachineOptions, random: Random) -> None:
        knowledge = Knowledge()
        publishing = Publishing(random, options.publishes_waiting_max, options.inflight_max)
        self._core = Core(options, random, knowledge, publishing, options.advice, self._fire, self._path_failed)
        self._knowledge = knowledge
        self._publishing = publishing
        self._push = PushPath(self._core)
        self._poll = PollPath(self._core)
        self._requests = PublishPath(self._core)
        self._arrivals = Arrivals(self._core, self._push)
        self._actions: dict[str, Callable[[Cause], None]] = {
            name: getattr(self, f"_{name}") for _, _, _, actions in ROWS for name in actions
        }
        self._http_publish_at = math.inf
        self._offline_at = math.inf
        self._not_before = -math.inf
        self._push_turn = False
        self._stopped_by: SoftstateError | None = None

    # For shells ------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The state it is in."""
        return self._core.mode

    @property
    def position(self) -> Position | None:
        """The highest position known, of the history the client is in."""
        return self._knowledge.position

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event and return what to do, in order. Never raises for what the network says.

        `now` is seconds on a clock that runs during suspend and never goes back.
        """
        self._core.now = now
        out: list[Action] = []
        self._core.out = out
        self._read(event)
        self._tick()
        self._send_publishes()
        return out

    def deadline(self) -> float:
        """Return when to send `Ticked` at the latest; infinity if nothing is due."""
        if self.mode in ("closed", "stopped"):
            return math.inf
        due = min(self._push.deadline(), self._poll.deadline(), self._publishing.due())
        if self._requests.flying:
            due = min(due, self._requests.deadline)
        elif self._publishing.ready:
            due = min(due, self._http_publish_from)
        if self.mode == "offline" and not self._attempting:
            due = min(due, self._offline_at)
        return due

    def age(self, now: float, names: Iterable[str] | None = None) -> float:
        """Return the greatest age in seconds among `names` (None: all wanted); infinite while one is uncertified."""
        return self._knowledge.age_s(now, names)

    def known(self, name: str) -> list[Change]:
        """Return the newest known state of every topic that `name` covers. After a reset, old values have version 0."""
        return self._knowledge.known(name)

    def statistics(self) -> Statistics:
        """Return the counters as they are now."""
        counts = self._core.counts
        return Statistics(**counts, dropped=self._knowledge.dropped, publishes_repeated=self._publishing.repeats)

    # Events ----------------------------------------------------------------------------------------------------------

    def _read(self, event: Event) -> None:
        match event:
            case Ticked():
                pass  # what is due is done after every event
            case Opened() | Closed() | Jumped():
                self._fire(self._plain_trigger(event))
            case Wanted() | Unwanted() | PublishAsked() | PublishDropped():
                self._read_application(event)
            case PollAnswered():
                self._poll.answered(event.request, event.message)
            case PublishAnswered():
                self._requests.answered(event.request, event.results)
            case RequestFailed():
                self._poll.failed(event.request, event.error)
                self._requests.failed(event.request, event.error)
            case Connected() | ConnectFailed() | Arrived() | Lost():
                self._read_connection(event)

    def _plain_trigger(self, event: Opened | Closed | Jumped) -> Trigger:
        match event:
            case Opened():
                return Trigger.OPENED if self._core.options.push else Trigger.OPENED_FOR_POLLING
            case Closed():
                return Trigger.CLOSED
            case Jumped():
                return Trigger.JUMPED

    def _read_application(self, event: Wanted | Unwanted | PublishAsked | PublishDropped) -> None:
        match event:
            case Wanted():
                self._wanted(event.names)
            case Unwanted():
                removed = self._knowledge.remove(event.names)
                if removed:
                    self._push.unsubscribe(removed)
            case PublishAsked() if self._core.mode in ("closed", "stopped"):
                error = self._stopped_by or ClientClosed("the client is closed")
                self._core.act(Settled(event.ticket, error))
            case PublishAsked():
                self._core.act(*self._publishing.ask(event))
            case PublishDropped():
                self._publishing.drop(event.ticket)

    def _wanted(self, names: Iterable[str]) -> None:
        added = self._knowledge.add(names)
        limits = self._core.limits
        excess = len(self._knowledge.subscriptions) - limits.subscriptions if limits else 0
        if excess > 0:
            denied = added[-excess:]
            self._knowledge.remove(denied)
            self._core.act(Denied(denied))
            added = added[:-excess]
        if not added:
            return
        self._push.subscribe(added)
        if self.mode == "connecting":
            self._poll_early(NO_CAUSE)
        elif self.mode == "offline":
            self._offline_at = min(self._offline_at, self._core.now + self._core.advice.cap_s)
        elif self.mode in _POLLING:
            self._poll.want_again(self._core.now)

    def _read_connection(self, event: Connected | ConnectFailed | Arrived | Lost) -> None:
        link = self._push.link
        if link is None or link.conn != event.conn:
            return
        match event:
            case Connected():
                if link.stage == "opening":
                    self._push.hello(link)
            case ConnectFailed():
                self._connect_failed(event)
            case Arrived():
                self._arrivals.read(link, event.message)
            case Lost():
                self._lost(event)

    def _connect_failed(self, event: ConnectFailed) -> None:
        opened = self._push.open is not None
        self._push.ended()
        if opened:  # no shell should say so of a connection that it reported as made; it is lost all the same
            self._fire(Trigger.LOST)
            return
        if event.status in (401, 403):
            kind = Unauthenticated if event.status == 401 else DeniedError
            self._fire(Trigger.FORBIDDEN, Cause(error=kind(f"the node refuses the connection: {event.reason}")))
        else:
            cause = Cause(retry_s=(event.retry_ms or 0) / 1000, barred=event.status == 404)
            self._fire(Trigger.REFUSED, cause)

    def _lost(self, event: Lost) -> None:
        if event.code == CloseCode.DROP_SESSION:
            self._push.session = None
        opened = self._push.open is not None
        self._push.ended()
        if event.code is not None and not may_reconnect(event.code):
            kind = Unauthenticated if event.code < 4200 else Unsupported
            self._fire(Trigger.FORBIDDEN, Cause(error=kind(f"closed with code {event.code}: {event.reason}")))
        else:
            self._fire(Trigger.LOST if opened else Trigger.REFUSED)

    # The table -------------------------------------------------------------------------------------------------------

    def _fire(self, trigger: Trigger, cause: Cause = NO_CAUSE) -> None:
        row = TABLE.get((self._core.mode, trigger))
        if row is None:
            return
        if row.to is not None and row.to != self._core.mode:
            self._core.mode = row.to
            self._core.act(ModeChanged(row.to))
        for action in row.actions:
            self._actions[action](cause)

    def _connect(self, _: Cause) -> None:
        self._http_publish_at = self._core.now + HTTP_PUBLISH_AFTER_S
        self._push.connect_at = self._core.now

    def _poll_early(self, _: Cause) -> None:
        self._poll.want(self._core.spread(min(FIRST_POLL_S_MAX, self._core.advice.poll_spread_s)))

    def _poll_now(self, _: Cause) -> None:
        self._poll.want(self._core.now)

    def _poll_elsewhere(self, cause: Cause) -> None:
        if self._push.link is not None:
            self._poll.avoid(self._push.link.url)
        self._poll_now(cause)

    def _poll_soon(self, _: Cause) -> None:
        self._poll.want(self._core.spread(self._core.advice.poll_spread_s))

    def _stop_polling(self, _: Cause) -> None:
        self._poll.stop()

    def _settle_in(self, _: Cause) -> None:
        self._push.rotation.succeeded()

    def _renew(self, _: Cause) -> None:
        self._push.renew()

    def _renew_once_more(self, _: Cause) -> None:
        self._push.renew_once_more()

    def _renew_later(self, _: Cause) -> None:
        self._push.renew_later()

    def _subscribe_all(self, _: Cause) -> None:
        self._push.subscribe_all()

    def _subscribe_new(self, _: Cause) -> None:
        if self._knowledge.subscriptions:
            self._push.subscribe_all()

    def _poll_doubtful(self, cause: Cause) -> None:
        self._push.poll_doubtful(cause.names, cause.version)

    def _await_lease(self, cause: Cause) -> None:
        self._push.await_lease(cause.retry_s, cause.spread_s)

    def _leave(self, _: Cause) -> None:
        self._push.leave()

    def _say_goodbye(self, _: Cause) -> None:
        self._push.say_goodbye()

    def _reset(self, cause: Cause) -> None:
        assert cause.position is not None, "a reset names the position to begin at"
        self._knowledge.reset(cause.position)
        self._poll.abandon()
        self._push.rebase(cause.position)
        self._core.counts["resets"] += 1
        self._core.act(Reset(cause.position))

    def _reconnect_spread(self, _: Cause) -> None:
        if self._core.options.push:
            self._push.connect_at = self._core.spread(self._core.advice.recover_spread_s)

    def _reconnect_after_bye(self, cause: Cause) -> None:
        self._push.connect_at = cause.retry_s + self._core.spread(cause.spread_s)

    def _back_off(self, cause: Cause) -> None:
        self._push.back_off(cause)
        self._path_failed(self._push.rotation, cause.retry_s)

    def _stop(self, cause: Cause) -> None:
        assert cause.error is not None, "whatever forbids going on says why"
        self._stopped_by = cause.error
        self._core.act(Stopped(cause.error))
        self._end(cause.error)

    def _settle_closed(self, _: Cause) -> None:
        self._stopped_by = None
        self._end(ClientClosed("the client was closed while this publish was waiting; it may have been applied"))

    def _end(self, error: SoftstateError) -> None:
        self._push.connect_at = math.inf
        self._requests.stop()
        self._core.failures = 0
        self._core.act(*self._publishing.settle_all(error))

    # Offline: one retry budget for both paths ------------------------------------------------------------------------

    @property
    def _attempting(self) -> bool:
        """Whether an attempt is under way, or the next URL of its round is about to be tried."""
        due = min(self._poll.poll_at, self._push.connect_at)
        return self._push.link is not None or self._poll.flying or due < math.inf

    def _path_failed(self, rotation: Rotation, retry_s: float) -> None:
        """Count rounds of polls that were in vain; of the other paths, while there is nothing to poll.

        Connections that fail fast must not hold back polls that would succeed.
        """
        core = self._core
        if rotation.round_over and (rotation is self._poll.rotation or not self._knowledge.subscriptions):
            core.failures += 1
        if self.mode == "offline":
            self._go_on_offline(retry_s)
        elif core.failures >= core.options.offline_after and self._push.open is None:
            self._fire(Trigger.PATH_FAILED_K, Cause(retry_s=retry_s))

    def _pool_retries(self, cause: Cause) -> None:
        self._not_before = -math.inf
        self._go_on_offline(cause.retry_s)

    def _go_on_offline(self, retry_s: float) -> None:
        """Let the round of URLs end; then draw the time of the next, of the path whose turn it is."""
        core, now = self._core, self._core.now
        if self._poll.poll_at > now:
            self._poll.poll_at = math.inf
        if self._push.connect_at > now:
            self._push.connect_at = math.inf
        tries = max(core.failures - core.options.offline_after, 0)
        self._not_before = max(self._not_before, now + retry_s)
        self._offline_at = self._not_before + core.advice.backoff_s(core.random, tries)

    def _attempt(self) -> None:
        self._offline_at, self._not_before = math.inf, -math.inf
        can_poll = bool(self._knowledge.subscriptions)
        if self._core.options.push and (self._push_turn or not can_poll):
            self._push.connect()
        elif can_poll:
            self._poll.poll()
        self._push_turn = not self._push_turn

    def _resume_paths(self, _: Cause) -> None:
        core = self._core
        if core.options.push and self._push.link is None:
            self._push.connect_at = core.now + core.advice.backoff_s(core.random, 0)
        if self._poll.poll_at == math.inf:
            self._poll.want(core.spread(core.advice.poll_spread_s))

    # Time and publishes ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.mode in ("closed", "stopped"):
            return
        self._push.tick()
        self._poll.tick()
        self._requests.tick()
        self._core.act(*self._publishing.tick(self._core.now))
        if self.mode == "offline" and not self._attempting and self._core.now >= self._offline_at:
            self._attempt()

    @property
    def _http_publish_from(self) -> float:
        """From when on publishes go over HTTP: while no connection can take them."""
        if self._push.open is not None:
            return math.inf
        waits_until = self._http_publish_at if self.mode == "connecting" else -math.inf
        return max(waits_until, self._requests.not_before)

    def _send_publishes(self) -> None:
        link, now = self._push.open, self._core.now
        if link is not None:
            self._core.act(*(Send(link.conn, publish) for publish in self._publishing.over_connection(link.conn, now)))
        elif self._publishing.ready and not self._requests.flying and now >= self._http_publish_from:
            self._requests.send()
