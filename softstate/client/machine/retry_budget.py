"""Offline: one retry budget for both paths, so that a client without any node tries one thing at a time."""

from __future__ import annotations

import math

from softstate.client.machine.backoff import Rotation
from softstate.client.machine.poll_path import PollPath
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.state import Core
from softstate.client.machine.triggers import Trigger


class RetryBudget:
    """Counts failed rounds until the client is offline; from then on decides when which path tries again."""

    def __init__(self, core: Core, push: PushPath, poll: PollPath) -> None:
        self._core = core
        self._push = push
        self._poll = poll
        self._due = math.inf
        self._push_turn = False

    def deadline(self) -> float:
        """Return when the next attempt is due."""
        waits = self._core.mode == "offline" and not self._attempting and not self._core.credentials.held
        return self._due if waits else math.inf

    def tick(self) -> None:
        """Make the attempt that is due: the paths take turns, unless no URL takes connections, which is so for both."""
        now = self._core.now
        if now < self.deadline():
            return
        connect_at, poll_at = self._allowed_at()
        self._due = min(connect_at, poll_at)
        if self._due > now:
            return
        self._due = math.inf
        if connect_at <= now and (self._push_turn or poll_at > now or self._probe_at is not None):
            self._push.connect()
        else:
            self._poll.poll()
            if not self._poll.in_flight:  # every question was turned down before: that is no attempt
                self._end_round()
        self._push_turn = not self._push_turn

    def failed(self, rotation: Rotation) -> None:
        """Count a failure of a path.

        Only rounds of polls count; of connections too, while there is nothing to poll, or nothing that nodes have not
        turned down, or no URL takes any, which polls would meet too (P-CLI-15): connections that fail fast must not
        hold back polls that would succeed. A single failure says nothing: a dead node refuses within a millisecond.
        """
        core = self._core
        shares = rotation in (self._poll.rotation, self._push.rotation)
        if core.mode == "offline" and not shares:
            return  # publishes have a backoff of their own, and leave the shared timer alone
        polls = core.knowledge.subscriptions and self._poll.asks_at <= core.now
        tells = rotation is self._poll.rotation or not polls
        if rotation.round_over and (tells or (shares and self._probe_at is not None)):
            core.failures += 1
        if core.mode == "offline":
            self._end_round()
        elif core.failures >= core.options.offline_after and self._push.open is None:
            core.fire(Trigger.OFFLINE_THRESHOLD)

    def share(self) -> None:
        """Begin: the client has just gone offline."""
        self._end_round()

    def hurry(self) -> None:
        """Make the next attempt within one backoff cap: names were added."""
        self._due = min(self._due, self._core.now + self._core.advice.cap_s)

    def resume_paths(self) -> None:
        """Give both paths their own budgets again."""
        core = self._core
        if core.options.push and self._push.connection is None:
            earliest = max(core.now, self._push.rotation.not_before)
            self._push.connect_at = earliest + core.advice.backoff_s(core.random, 0)
        if self._poll.poll_at == math.inf:
            self._poll.schedule(core.spread(core.advice.poll_spread_s))

    @property
    def _probe_at(self) -> float | None:
        """When the next probe is due, if no URL of either path takes connections; else None.

        A URL that serves no WebSocket counts for polls all the same.
        """
        polls = self._poll.rotation.probe_at
        if polls is None or not self._core.options.push:
            return polls
        connections = self._push.rotation.probe_at
        return None if connections is None else min(polls, connections)

    @property
    def _attempting(self) -> bool:
        """Whether an attempt is under way, or the next URL of its round is about to be tried."""
        due = min(self._poll.poll_at, self._push.connect_at)
        return self._push.connection is not None or self._poll.in_flight or due < math.inf

    def _allowed_at(self) -> tuple[float, float]:
        """Return from when on a connection may be tried, and a poll; infinity for what is not wanted."""
        core = self._core
        connect_at = self._push.rotation.choose(core.now) if core.options.push else math.inf
        poll_at = self._poll.rotation.choose(core.now) if core.knowledge.subscriptions else math.inf
        return connect_at, max(poll_at, self._poll.asks_at)

    def _end_round(self) -> None:
        """Let the round of URLs end; then draw the time of the next, of the path whose turn it is.

        A URL that asked one path to be left alone is left alone by both.
        """
        core, now = self._core, self._core.now
        if self._poll.poll_at > now:
            self._poll.poll_at = math.inf
        if self._push.connect_at > now:
            self._push.connect_at = math.inf
        tries = max(core.failures - core.options.offline_after, 0)
        self._push.rotation.heed(self._poll.rotation)
        self._poll.rotation.heed(self._push.rotation)
        if (probe_at := self._probe_at) is not None:
            self._due = probe_at
            return
        spread_s = max(core.advice.recover_spread_s if core.options.push else 0.0, core.advice.poll_spread_s)
        self._due = max(now + core.advice.pause_s(core.random, tries, spread_s), min(self._allowed_at()))
