"""Beats of one connection: their proof, in the client's own time, and the meaning of silence (P-BEAT-6, P-BEAT-7).

A beat tells what the node's clock read; the client knows from an answer, its *anchor*, what that clock read when one of
its own clock was certainly over. Durations since then are the same on both clocks, but for their rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RATE = 0.98
"""The least that passes here while 1 s passes on the node's clock: each may be wrong by 1 % (0.99 / 1.01; S5)."""

LATE = 1.2
"""A beat is late when nothing came for this many times the time after which it was due."""

PATIENCE_S_MIN = 1.0
"""A node is waited for so long, at least, before its silence means anything, in seconds..."""

ROUND_TRIPS = 4
"""... or for so many round trips, if those take longer."""

HELD_UP_S = 0.25
"""A timer that fires so much too late tells that this process was held up: beats may have come, and wait to be read."""

ROUND_TRIP_KEPT = 0.8
"""The part of the longest round trip so far that a shorter one leaves of it."""


@dataclass(slots=True)
class BeatWatch:
    """Watches for beats. Times are seconds on the machine's clock; infinity means never."""

    timeout_s: float = math.inf
    """How long the node may take to answer."""
    every_s: float = 0.0
    """Time within which the next beat is due; 0: there are none."""
    lull_s_max: float = math.inf
    """The longest that the lack of beats is put up with, once they have been missing."""
    heard_at: float = -math.inf
    """When anything came last: each message is a sign of life."""
    missing: int = 0
    """Times in a row that the node was asked because no beat came, and gave another sign of life."""
    _sent: float = 0.0
    _clock_s: float | None = None
    _round_trip_s: float = 0.0
    _jitter: float = 1.0
    _asked: bool = False
    _told: bool = False
    _excused: bool = False

    # The proof in a beat ----------------------------------------------------------------------------------------------

    def answered(self, sent: float, now: float, clock_ms: int | None) -> None:
        """Take the answer to a request that was sent at `sent` for an anchor, if it is better than the last.

        The better one makes beats younger. Which one it is does not matter to what they prove.
        """
        if not self.every_s or clock_ms is None:
            return
        self._round_trip_s = max(now - sent, self._round_trip_s * ROUND_TRIP_KEPT)
        clock_s = clock_ms / 1000
        if self._clock_s is None or sent - RATE * clock_s > self._sent - RATE * self._clock_s:
            self._sent, self._clock_s = sent, clock_s

    def asof(self, clock_ms: int, now: float) -> float | None:
        """Return a time at which the node's clock had not reached `clock_ms` yet; None if that cannot be told.

        One in the future proves that a clock is broken: the anchor counts no more.
        """
        if self._clock_s is None:
            return None
        passed_s = clock_ms / 1000 - self._clock_s
        asof = self._sent + (RATE * passed_s if passed_s >= 0 else passed_s)
        if asof > now:
            self.forget_anchor()
            return None
        return asof

    def forget_anchor(self) -> None:
        """Take no beat for a certificate until the next answer comes."""
        self._clock_s = None

    def begin_again(self) -> None:
        """Take note that a lease begins: beats are missing for a known reason, and the node may have slept."""
        self.missing = 0
        self.forget_anchor()

    # The meaning of silence ------------------------------------------------------------------------------------------

    def grant(self, every_ms: int, lull_s_max: float, now: float) -> None:
        """Take over how often beats are due, and how long to put up with their absence at most."""
        self.every_s, self.lull_s_max = every_ms / 1000, lull_s_max
        self.heard(now)

    def heard(self, now: float) -> None:
        """Take note of a sign of life."""
        if not self.every_s:
            return
        self.missing += self._asked
        self.heard_at = now
        self._asked = self._told = self._excused = False

    def beaten(self, next_ms: int, jitter: float) -> None:
        """Take note of a beat, also of one without proof; `jitter`, of 0 to 1, spreads clients that miss the next.

        One of a node that granted none promises no other: it is not watched for.
        """
        if self.every_s:
            self.every_s, self.missing, self._jitter = next_ms / 1000, 0, jitter

    @property
    def ask_at(self) -> float:
        """When to ask the node whether it lives."""
        if not self.every_s or self._asked:
            return math.inf
        return self.heard_at + self._lull_s + self._jitter * self._patience_s / 2

    @property
    def silent_at(self) -> float:
        """When the connection counts as silent."""
        return self.heard_at + self._lull_s + self._patience_s if self.every_s and not self._told else math.inf

    def asked(self) -> None:
        """Take note that the node was asked."""
        self._asked = True

    def excuses(self, now: float) -> bool:
        """Tell whether a silence that has lasted too long is this process's own: then it may last a little longer."""
        if self._excused or now - self.silent_at < HELD_UP_S:
            return False
        self._excused = True
        self.heard_at += now + HELD_UP_S - self.silent_at
        return True

    def told(self) -> None:
        """Take note that the silence was acted on."""
        self._told = True

    @property
    def bound_s(self) -> float:
        """The age that what is known reaches at most, by beats in time and by the patience with a late one."""
        return LATE * self.every_s + self._patience_s

    @property
    def _lull_s(self) -> float:
        lull_s = LATE * self.every_s
        return max(min(math.ldexp(lull_s, self.missing), self.lull_s_max), lull_s)

    @property
    def _patience_s(self) -> float:
        return min(max(ROUND_TRIPS * self._round_trip_s, PATIENCE_S_MIN), self.timeout_s)
