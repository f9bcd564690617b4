"""Beats: what the node knows of its own knowledge, told to all sessions that asked for it, a share in each turn.

Sessions are dealt into *slots* of 50 ms, so that no turn writes to thousands. A beat is the newest level, in the same
bytes for all connections of a codec (P-BEAT-2), but for the number of pushes ahead of it. Each session has a time
between two beats of its own; if all of them together take more than ``beat_share`` of a core, they come less often, and
each beat tells when the next is due.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias, final

import trio

from softstate.position import Position
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.storage.heads import HeadReads
from softstate.server.storage.level import LEVEL_S_MAX, Level
from softstate.session.beats import BEAT_MS_MIN
from softstate.wire import Codec, frame
from softstate.wire.event_stream import Synced, sync_event
from softstate.wire.messages import Beat

SLOT_MS = 50
"""The time between two slots, in milliseconds."""

SLOT_S = SLOT_MS / 1000

SLOT_FILL = 256
"""Connections of a slot, before another slot is used: their beats take 1 to 3 ms, and each slot wakes a node that is
idle, for up to a millisecond of CPU. Of 1,000 connections, beats took 3.3 % of a core in slots of 32, 1.6 of 128, 1.1
of 256, and 0.3 to 1.2 in a single one (three rounds each)."""

STRETCH_MAX = 6
"""Beats are lengthened to 64 s at most: from there on the node is not the cheaper for it."""

MEASURED_S = 2.0
"""Time over which the cost of beats is measured, in seconds, before they are lengthened or shortened."""

SHORTEN_BELOW = 0.25
"""Part of ``beat_share`` below which beats become shorter again; that doubles their cost."""

ROUNDING = 1e-6
"""The part of a slot by which a time may be wrong that was added up from many."""

Slot: TypeAlias = "dict[Beaten, None]"
"""The connections that get their beats in one slot."""


class Beaten(Protocol):
    """A connection that gets beats. `beat_slot` is where it is dealt to, `beat_every` the slots between two beats."""

    beat_slot: Slot | None
    beat_every: int

    def beat(self, beat: SharedBeat) -> None:
        """Queue a beat, if it is true of this session now."""

    def fail(self) -> None:
        """End this connection alone."""


@final
class SharedBeat:
    """A beat for all connections: encoded once a codec, but for `sent`. `now` is when it is sent, in seconds."""

    __slots__ = ("_event", "_frames", "_message", "_parts", "now", "position")

    def __init__(self, certified: tuple[Position, float] | None, next_s: float, now: float) -> None:
        self.now = now
        self.position: Position | None = None
        clock_s = 0.0
        if certified is not None:
            self.position, clock_s = certified
        # Rounded down, as lags are rounded up: what it vouches for must not seem younger than it is.
        self._message = Beat(round(next_s * 1000), 0, self.position, math.floor(clock_s * 1000))
        self._event = b""
        self._parts: dict[str, tuple[bytes, bytes]] = {}
        self._frames: dict[tuple[str, int], bytes] = {}

    def event(self, next_ms: int) -> bytes:
        """Return it as the event of streams, which are all told the same `next_ms`; it has a position."""
        if not self._event:
            assert self.position is not None
            self._event = sync_event(self.position, Synced(self._message.clock_ms, next_ms))
        return self._event

    def frame(self, codec: Codec, sent: int) -> bytes:
        """Return its frame for a codec, and a connection on which `sent` pushes go ahead of it.

        Connections that were sent as many share it: most that are idle. Else it takes 4 us.
        """
        data = self._frames.get((codec.name, sent))
        if data is None:
            parts = self._parts.get(codec.name)
            if parts is None:
                parts = self._parts[codec.name] = codec.cut(self._message, "sent")
            before, behind = parts
            data = self._frames[codec.name, sent] = frame(
                b"%b%b%b" % (before, codec.number(sent), behind), text=codec.text
            )
        return data


@final
class Beats:
    """All beats of one node. `now` is its clock; `spending` another one, in seconds, by which their cost is measured.

    `down` tells whether the store is: its head is not read then, since others look already whether it is back.
    `share_max` is the part of a core that beats may take; 0 stands for no limit.
    """

    def __init__(
        self,
        level: Level,
        heads: HeadReads,
        bulkhead: Bulkhead,
        now: Callable[[], float],
        down: Callable[[], bool],
        share_max: float,
        spending: Callable[[], float] = trio.current_time,
    ) -> None:
        self.due = 0
        """Beats that were due so far, whether they were true of their sessions or not."""
        self._level = level
        self._heads = heads
        self._bulkhead = bulkhead
        self._now = now
        self._down = down
        self._share_max = share_max
        self._spending = spending
        # By the slots between two beats: as many slots, and the one that was dealt to last. Once all are filled, each
        # connection goes to the next.
        self._wheels: dict[int, list[Slot]] = {}
        self._dealt: dict[int, int] = {}
        self._number = 0
        self._stretch = 0
        self._spent_s = 0.0
        self._measured_since: float | None = None
        self._settled_at = -math.inf
        self._rest = trio.CancelScope()

    @property
    def shortest_ms(self) -> int:
        """The shortest time between two beats of a session, in milliseconds, as it is now."""
        return BEAT_MS_MIN << self._stretch

    def set(self, connection: Beaten, every_ms: int) -> None:
        """Send a connection beats from now on, with `every_ms` between two of them, or more; none if that is 0."""
        self.drop(connection)
        connection.beat_every = every_ms // SLOT_MS
        if every_ms:
            self._deal(connection)
            self._rest.cancel()

    def drop(self, connection: Beaten) -> None:
        """Send a connection no more beats."""
        if connection.beat_slot is not None:
            del connection.beat_slot[connection]
            connection.beat_slot = None

    def _every(self, connection: Beaten) -> int:
        return max(connection.beat_every, self.shortest_ms // SLOT_MS)

    def _deal(self, connection: Beaten) -> None:
        every = self._every(connection)
        wheel = self._wheels.get(every)
        if wheel is None:
            wheel = self._wheels[every] = [{} for _ in range(every)]
        at = self._dealt.get(every, self._number + 1) % every
        if len(wheel[at]) >= SLOT_FILL:
            at = (at + 1) % every
        self._dealt[every] = at
        connection.beat_slot = wheel[at]
        wheel[at][connection] = None

    # Running --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send beats until cancelled."""
        while True:
            with self._bulkhead.contain("beats"):
                await self._run()
            await trio.sleep(RETRY_S)

    async def _run(self) -> None:
        began = trio.current_time() - self._number * SLOT_S
        while True:
            ahead = self._slots_to_next()
            if ahead > 1:
                # The head is read one slot ahead of the beats that tell of it.
                last = self._number + ahead - 1
                with trio.CancelScope(deadline=began + last * SLOT_S) as self._rest:
                    await trio.sleep_forever()
                passed = int((trio.current_time() - began) / SLOT_S + ROUNDING)
                self._number = max(self._number, passed if passed < last else int(last))
                continue
            if self._level.lag_s() > LEVEL_S_MAX / 2 and not self._down():
                self._heads.refresh()
            due = began + (self._number + 1) * SLOT_S
            await trio.sleep_until(due)
            late = trio.current_time() - due
            if late > SLOT_S:
                began += late  # one turn must not make up for all that were missed
            self._number += 1
            self.beat()

    def _slots_to_next(self) -> float:
        """Return how many slots from the last one the next is that has connections; infinity if there are none."""
        return min(
            (
                ahead
                for every, wheel in self._wheels.items()
                for ahead in range(1, every + 1)
                if wheel[(self._number + ahead) % every]
            ),
            default=math.inf,
        )

    def beat(self) -> None:
        """Send the beats of the present slot."""
        began, now = self._spending(), self._now()
        certified = self._level.certified()
        shared: dict[int, SharedBeat] = {}

        def beat(connection: Beaten) -> None:
            every = self._every(connection)
            told = shared.get(every)
            if told is None:
                told = shared[every] = SharedBeat(certified, every * SLOT_S, now)
            connection.beat(told)

        due: list[Beaten] = []
        for every, wheel in tuple(self._wheels.items()):
            slot = tuple(wheel[self._number % every])
            due += slot
            for connection in slot:
                if self._every(connection) != every:
                    self.drop(connection)
                    self._deal(connection)
        self.due += len(due)
        self._bulkhead.each("connection", beat, due, failed=_fail)
        self._measure(began)

    def _measure(self, began: float) -> None:
        now = self._spending()
        if began < self._settled_at:
            return
        if self._measured_since is None:
            # From behind one slot up to the end of another: of few slots, one more would be half as much again.
            self._spent_s, self._measured_since = 0.0, now
            return
        self._spent_s += now - began
        passed_s = now - self._measured_since
        if passed_s < MEASURED_S * (1 << self._stretch):
            return
        share, stretch = self._spent_s / passed_s, self._stretch
        if 0 < self._share_max < share:
            self._stretch = min(stretch + 1, STRETCH_MAX)
        elif share < self._share_max * SHORTEN_BELOW:
            self._stretch = max(stretch - 1, 0)
        self._spent_s, self._measured_since = 0.0, now
        if self._stretch != stretch:
            # Until all have been dealt to their new slots, the cost is in between.
            self._settled_at = now + BEAT_MS_MIN / 1000 * (1 << max(stretch, self._stretch))
            self._measured_since = None


def _fail(connection: Beaten) -> None:
    connection.fail()
