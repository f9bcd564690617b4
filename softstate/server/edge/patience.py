"""The time for which a node waits for its peers: one coarse wheel instead of a timer and a cancel scope each.

Deadlines move later all the time (each message that a peer sends moves one) and hardly ever sooner. So a deadline is a
number that the peer's object keeps, and the wheel asks for it only when it reaches the slot in which it filed the peer:
at most once in a TTL, however much the peer says meanwhile. It files a stub, a *watch*, so that the state of a
peer that has gone does not stay in memory until the deadline that it once had.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Protocol

import trio

from softstate.lease.timer_wheel import Wheel
from softstate.server.bulkhead import RETRY_S, Bulkhead

TICK_S = 0.25
"""Length of a tick, in seconds: a deadline is found to be over up to two ticks late, unless the node is late."""

LATE_PER_TURN = 32
"""Peers whose deadline is looked at in one turn of the loop: 40 us each, if each is to be told to leave."""


class Patient(Protocol):
    """A peer's object that is not to wait for its peer without an end."""

    def late(self, now: float) -> float:
        """Do what is due; return the time of the next deadline, `math.inf` for none any more.

        It may be called before the deadline.
        """

    def fail(self) -> None:
        """End: the call of `late` has met a bug."""


class Watch:
    """A deadline of a peer in the wheel; `at` is when to look."""

    __slots__ = ("at", "patient")

    def __init__(self, patient: Patient, at: float) -> None:
        self.patient: Patient | None = patient
        self.at = at

    def end(self) -> None:
        """Look no more: the peer has gone."""
        self.patient = None
        self.at = -math.inf


_AT = attrgetter("at")


class Patience:
    """The deadlines of all peers of one node, in seconds of Trio's clock."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead
        self._wheel: Wheel[Watch] = Wheel(trio.current_time(), TICK_S)
        self._sleep = trio.CancelScope()
        # The deadline of that scope: to read and set it there costs 2 us, and a connect watches three times.
        self._until = -math.inf

    def watch(self, patient: Patient, at: float) -> Watch:
        """Call `patient.late` at `at`, or up to two ticks later."""
        watch = Watch(patient, at)
        self._wheel.add(watch, at)
        if at + TICK_S < self._until:
            self._sleep.deadline = self._until = at + TICK_S
        return watch

    def sooner(self, watch: Watch, at: float) -> Watch:
        """Look at a peer at `at`, if that is sooner than it was to be; return the watch that counts from now on."""
        if at >= watch.at or watch.patient is None:
            return watch
        patient = watch.patient
        watch.end()
        return self.watch(patient, at)

    async def run(self) -> None:
        """Look at the peers whose time has come, until cancelled."""
        while True:
            with self._bulkhead.contain("patience"):
                await self._run_once()
                continue
            await trio.sleep(RETRY_S)

    async def _run_once(self) -> None:
        now = trio.current_time()
        self._until = now + self._wheel.next_tick_s(now)
        with trio.CancelScope(deadline=self._until) as self._sleep:
            await trio.sleep_forever()
        self._advance(trio.current_time())

    def _advance(self, now: float) -> None:
        due = [watch for watch in self._wheel.advance(now, _AT, LATE_PER_TURN) if watch.patient is not None]
        self._bulkhead.each("connection", self._look, due, failed=_fail)

    def _look(self, watch: Watch) -> None:
        patient, now = watch.patient, trio.current_time()
        if patient is None:
            return
        # Should it meet a bug, it is looked at no more: it ends.
        watch.at = math.inf
        at = patient.late(now)
        if at < math.inf and watch.patient is not None:
            watch.at = at
            self._wheel.add(watch, at)


def _fail(watch: Watch) -> None:
    if watch.patient is not None:
        watch.patient.fail()
