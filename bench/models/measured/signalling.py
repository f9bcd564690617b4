"""The five variants of `bench.models.theory.signalling`, event by event, over a channel that loses and reorders.

The receiver is the product's own `LeaseTable`: a trigger or a refresh grants or extends a lease and sets its names, the
timeout is that of the table. Sender and channel are of this module. An update gives the sender another name; both agree
as long as the lease holds that name and no other. Many senders run beside each other in one table, each with sessions
one after the other: a new one begins once the lease of the one before has gone.

Messages of a session that is known to have ended are dropped, as a node does that knows no such session: a late refresh
would else bring an orphan back.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bench.models.measured.estimates import Estimate, ratio_of
from bench.models.theory.signalling import Signalling, Variant, explicit, reliable, reliable_removal, soft
from softstate.lease.table import Lease, LeaseTable

SCALE = 10.0
"""Seconds of the table for one of the model: a table looks for what is over every quarter of a second."""

NAMES = 8
"""Names that a session takes in turn."""

EVERYTHING = 1_000_000
"""No limit to what one look at the table may visit."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The patience of a sender and of the world around it; without limit by default.

    After `tries_max` transmissions it gives a message up. `detector_s` after its end, something outside of the protocol
    finds that a sender has gone, and ends what it left.
    """

    tries_max: int = 1_000_000
    detector_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of all sessions of one run; `orphan` and `missing` are the two parts of `inconsistency`.

    `orphan`: the receiver holds what nobody wants, so that pushes are wasted. `missing`: it lacks what is wanted.
    """

    inconsistency: Estimate
    messages_per_s: Estimate
    orphan: Estimate
    missing: Estimate
    sessions: int


@dataclass(slots=True, eq=False)
class _Sender:
    """One sender and the lease that it has at the receiver. `session` counts its sessions, `version` its updates."""

    number: int
    session: int = 0
    version: int = 0
    alive: bool = False
    lease: Lease | None = None
    ended: int = -1
    """The newest session of which the receiver knows that it has ended."""
    held: int = -1
    """The version that the lease holds."""
    unanswered: int = -1
    """The version whose acknowledgement is awaited, -1: none."""
    removing: bool = False
    refresh_at: float = math.inf
    began: float = 0.0
    differs_since: float | None = None
    differs_as: str = ""
    times: dict[str, float] = field(default_factory=lambda: {"orphan": 0.0, "missing": 0.0, "alive": 0.0, "all": 0.0})
    messages: int = 0


class Signals:
    """Runs one variant, by `run`."""

    def __init__(
        self, variant: Variant, given: Signalling, seed: int, senders: int = 40, tuning: Tuning = Tuning()
    ) -> None:
        self._variant, self._given, self._tuning = variant, given, tuning
        self._soft, self._reliable = soft(variant), reliable(variant)
        self._explicit, self._reliable_removal = explicit(variant), reliable_removal(variant)
        self._random = Random(f"{seed} {variant} {given}")
        self._table = LeaseTable(0.0, grace=0.0, released_max=100)
        self._ttl_s = (given.timeout_s if self._soft else 1e7) * SCALE
        self._senders = [_Sender(number) for number in range(senders)]
        self._of_lease: dict[Lease, _Sender] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._pushed = 0
        self._now = 0.0
        self._sessions_each = 0
        self._running = senders

    def run(self, sessions: int) -> Measured:
        """Run until each sender has had its part of so many sessions, at least one."""
        self._sessions_each = max(sessions // len(self._senders), 1)
        for sender in self._senders:
            self._at(self._random.uniform(0, self._given.lifetime_s / 10), self._begin, sender)
        if self._soft:
            self._at(0.0, self._expire)
        heap = self._heap
        while self._running:
            self._now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
        return self._measured()

    def _measured(self) -> Measured:
        """Add up. The mean lifetime is that given, not that drawn: of few lifetimes it says little."""
        life_s, each = self._given.lifetime_s, self._sessions_each
        alive_s = [sender.times["alive"] for sender in self._senders]
        orphan = ratio_of([sender.times["orphan"] for sender in self._senders], [each] * len(self._senders))
        missing = ratio_of([sender.times["missing"] for sender in self._senders], alive_s)
        all_s = life_s + orphan.value
        differs = Estimate(
            (orphan.value + missing.value * life_s) / all_s, math.hypot(orphan.half, missing.half * life_s) / all_s
        )
        return Measured(
            differs,
            ratio_of([sender.messages for sender in self._senders], alive_s),
            Estimate(orphan.value / all_s, orphan.half / all_s),
            Estimate(missing.value * life_s / all_s, missing.half * life_s / all_s),
            each * len(self._senders),
        )

    # Time ------------------------------------------------------------------------------------------------------------

    def _at(self, at: float, call: Callable[..., None], *arguments: Any) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, call, arguments))

    def _compare(self, sender: _Sender) -> None:
        """Close the time since the state of both last changed, and note how they differ now."""
        if sender.differs_since is not None:
            sender.times[sender.differs_as] += self._now - sender.differs_since
        lease = sender.lease
        if sender.alive:
            name = f"{sender.version % NAMES}"
            agree = lease is not None and lease.count == 1 and name in lease.names
            sender.differs_as = "missing"
        else:
            agree = lease is None
            sender.differs_as = "orphan"
        sender.differs_since = None if agree else self._now

    # The sender ------------------------------------------------------------------------------------------------------

    def _begin(self, sender: _Sender) -> None:
        sender.session += 1
        sender.version += 1
        sender.alive, sender.removing = True, False
        sender.began = self._now
        self._at(self._now + self._random.expovariate(1 / self._given.lifetime_s), self._end, sender)
        self._at(self._now + self._random.expovariate(self._given.update_per_s), self._update, sender, sender.session)
        self._compare(sender)
        self._trigger(sender)

    def _update(self, sender: _Sender, session: int) -> None:
        if not sender.alive or sender.session != session:
            return
        sender.version += 1
        self._compare(sender)
        self._trigger(sender)
        self._at(self._now + self._random.expovariate(self._given.update_per_s), self._update, sender, session)

    def _trigger(self, sender: _Sender) -> None:
        if self._reliable:
            sender.unanswered = sender.version
        self._send_state(sender, sender.session, sender.version, 1)
        self._refresh_later(sender)

    def _refresh_later(self, sender: _Sender) -> None:
        if self._soft:
            sender.refresh_at = self._now + self._given.refresh_s
            self._at(sender.refresh_at, self._refresh, sender, sender.refresh_at)

    def _refresh(self, sender: _Sender, due: float) -> None:
        if sender.alive and due == sender.refresh_at:
            self._send(sender, self._set, sender, sender.session, sender.version, False)
            self._refresh_later(sender)

    def _send_state(self, sender: _Sender, session: int, version: int, number: int) -> None:
        """Send a trigger for the `number`-th time, unless it was answered, or something newer has replaced it."""
        if number > 1 and not (sender.alive and sender.unanswered == version and sender.session == session):
            return
        self._send(sender, self._set, sender, session, version, self._reliable)
        if self._reliable and number < self._tuning.tries_max:
            later = self._now + self._given.retransmit_s
            self._at(later, self._send_state, sender, session, version, number + 1)

    def _answered(self, sender: _Sender, version: int) -> None:
        if sender.unanswered == version:
            sender.unanswered = -1

    def _end(self, sender: _Sender) -> None:
        sender.alive = False
        sender.unanswered = -1
        sender.times["alive"] += self._now - sender.began
        self._compare(sender)
        sender.removing = self._explicit
        if self._explicit:
            self._send_removal(sender, sender.session, 1)
        if not self._soft:
            self._at(self._now + self._tuning.detector_s, self._detected, sender, sender.session)
        self._over(sender)

    def _send_removal(self, sender: _Sender, session: int, number: int) -> None:
        if not sender.removing or sender.session != session:
            return
        self._send(sender, self._remove, sender, session)
        if self._reliable_removal and number < self._tuning.tries_max:
            self._at(self._now + self._given.retransmit_s, self._send_removal, sender, session, number + 1)

    def _removed(self, sender: _Sender, session: int) -> None:
        if sender.session == session:
            sender.removing = False

    def _dropped(self, sender: _Sender, session: int) -> None:
        if sender.alive and sender.session == session:
            self._trigger(sender)

    def _over(self, sender: _Sender) -> None:
        """Begin the next session if neither side has anything of this one."""
        if not sender.alive and sender.lease is None and sender.session > 0:
            sender.ended = sender.session
            sender.times["all"] += self._now - sender.began
            if sender.session < self._sessions_each:
                self._begin(sender)
            else:
                self._running -= 1

    # The channel -----------------------------------------------------------------------------------------------------

    def _send(self, sender: _Sender, call: Callable[..., None], *arguments: Any) -> None:
        sender.messages += 1
        if self._random.random() >= self._given.loss:
            self._at(self._now + self._random.expovariate(1 / self._given.delay_s), call, *arguments)

    # The receiver ----------------------------------------------------------------------------------------------------

    def _set(self, sender: _Sender, session: int, version: int, answer: bool) -> None:
        """Take a trigger or a refresh; `answer`: acknowledge it."""
        if session <= sender.ended:
            return
        lease, now = sender.lease, self._now * SCALE
        if lease is None:
            lease = sender.lease = self._table.grant(f"{sender.number}", now, self._ttl_s)
            self._of_lease[lease] = sender
            sender.held = -1
        else:
            self._table.extend(lease, now)
        if version > sender.held:
            self._table.remove(lease, list(lease.names))
            self._table.add(lease, [f"{version % NAMES}"])
            sender.held = version
            self._compare(sender)
        if answer:
            self._send(sender, self._answered, sender, version)

    def _remove(self, sender: _Sender, session: int) -> None:
        if self._reliable_removal:
            self._send(sender, self._removed, sender, session)
        self._detected(sender, session)

    def _detected(self, sender: _Sender, session: int) -> None:
        """End what the receiver holds of a session of which it knows that it has ended."""
        if session <= sender.ended:
            return
        sender.ended = session
        if sender.lease is not None:
            self._table.release(sender.lease)
            self._forget(sender)

    def _expire(self) -> None:
        now = self._now * SCALE
        for lease in self._table.expire(now, EVERYTHING):
            sender = self._of_lease[lease]
            session = sender.session
            self._forget(sender)
            if self._reliable and sender.alive:
                self._send(sender, self._dropped, sender, session)
        self._table.reap(EVERYTHING)
        self._at(self._now + max(self._table.next_expire_s(now), 1e-6) / SCALE, self._expire)

    def _forget(self, sender: _Sender) -> None:
        assert sender.lease is not None
        del self._of_lease[sender.lease]
        sender.lease = None
        self._compare(sender)
        self._over(sender)


def measure(variant: Variant, given: Signalling, sessions: int, seed: int, tuning: Tuning = Tuning()) -> Measured:
    """Run so many sessions of a variant; the same seed is the same run."""
    return Signals(variant, given, seed, tuning=tuning).run(sessions)
