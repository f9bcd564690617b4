"""Thousands of real client machines in one process, and a record of what they do when their node dies.

``python -m bench.load.machines``, driven over `bench.load.process`. The machines (`softstate.client.machine.machine`)
decide all actions and their times; `bench.load.machine_shell` carries them out.

One more machine publishes a few changes a second, each with a key, until it is acknowledged. So this process has an
upper bound of the time at which each value was superseded, and checks the ages that machines state against it. All
clients follow `CLOCK` too, if another process publishes there: its values are times, in microseconds, at which their
publishes began. A client is *fresh* once it holds one from after the node's death.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, TypeAlias

import msgspec

from bench.load.ages import Ages, held
from bench.load.course import CLOCK, Course
from bench.load.machine_shell import ADDRESS_CLIENTS, Client, MachineShell
from bench.load.process import LoadFailed, serve
from softstate.client.machine.events import Arrived, Event, Lost, Opened, PollAnswered, PublishRequested, Wanted
from softstate.wire import messages

Spread: TypeAlias = Literal["lease", "jitter"]
"""``lease``: clients come back within the advised spread. ``jitter``: after U(0, backoff base), as is common."""

OPENING_MAX = 64
"""Clients that open for the first time at once."""
OPEN_S_MAX = 180.0
TOPICS = 20
PUBLISHES_PER_S = 4.0
CHECK_EVERY_S = 0.05
"""Interval at which the ages of some machines are checked."""
CHECKS = 100
"""Machines that are checked each time."""
PART_ADDRESSES = 64
"""Loopback addresses of each of several processes at one node."""


class Machines(MachineShell):
    """All clients of one node. Each public method in the first part is a command of the process.

    `bench.load.fleet` extends it to several nodes, by `_open_all`, `_go_on`, `_publish` and `_affected`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clients: list[Client] = []
        self._random = Random(1)
        self._spread: Spread = "lease"
        self._beats = True
        self._live: set[int] = set()
        self._ages = Ages()
        self._publishers: list[Client] = []
        """Of n publishers, each has n consecutive topics in turn: so the clients of each node follow all publishers."""
        self._topics: list[str] = []
        self._publish_at = math.inf
        self._publishes_per_s = PUBLISHES_PER_S
        self._check_at = math.inf
        self._numbers: Counter[str] = Counter()
        self._asked: dict[int, tuple[str, int]] = {}
        """Unsettled publishes: topic and value, by ticket."""
        self._died_at = math.inf
        self._away: set[int] = set()
        self._back_s: list[float] = []
        self._stale: set[int] = set()
        """Clients of a dead node that hold no value from after its death yet."""
        self._course = Course()

    # Commands -------------------------------------------------------------------------------------------------------

    def open(
        self,
        port: int,
        clients: int,
        spread: Spread,
        seed: int,
        part: int = 0,
        opening: int = OPENING_MAX,
        *,
        beats: bool = True,
    ) -> dict[str, Any]:
        """Open the clients, `opening` at a time, until all are live, and begin to publish.

        `part` is the number of this process among several, which have addresses and topics of their own. Without
        `beats`, clients ask for none.
        """
        self._beats = beats
        return self._open_all([port], clients, spread, seed, part=part, opening=opening, more=[CLOCK])

    def go_on(self, seconds: float) -> dict[str, Any]:
        """Go on for some seconds; return the widest advised spread, and the number of live clients."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._go_on()
        advised = [client.machine.advice.recover_spread_s for client in self._clients]
        return {"spread_s": max(advised), "live": len(self._live)}

    def crash(self, settle_s: float, patience_s: float, *, freshness: bool = False) -> dict[str, Any]:
        """Go on while the node dies and starts again, until all clients are live, for at most `patience_s`.

        With `freshness`, until they are fresh, too.
        """
        cpu, began = time.process_time(), time.monotonic()
        self.attempts = self.refused = self.shed = self.polls = self.polls_refused = 0
        while time.monotonic() - began < patience_s and not self._recovered(freshness):
            self._go_on()
            self._note_course()
        self._note_course(last=True)
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        attempts, refused, shed, polls = self.attempts, self.refused, self.shed, self.polls
        ends = time.monotonic() + settle_s
        self._publish_at = math.inf
        while time.monotonic() < ends:
            self._go_on()
        stale = [client.number for client in self._clients if not self._current(client)]
        return {
            "died_at": self._died_at,
            "back_s": self._back_s,
            "fresh_s": self._course.fresh_s,
            "attempts": attempts,
            "refused": refused,
            "shed": shed,
            "polls": polls,
            "course": self._course.rows,
            "generator_busy": busy,
            "acknowledged": {topic: len(times) - 1 for topic, times in self._ages.times.items()},
            "unsettled": len(self._asked),
            "stale": len(stale),
            "checks": self._ages.checks,
            "too_low": self._ages.too_low,
            "least_margin_s": self._ages.least_margin_s,
        }

    # Opening --------------------------------------------------------------------------------------------------------

    def _open_all(
        self,
        ports: Sequence[int],
        clients: int,
        spread: Spread,
        seed: int,
        *,
        part: int = 0,
        opening: int = OPENING_MAX,
        more: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Open clients, and a publisher for each port. Each has all ports, and in turn another one first.

        Each client follows one of the topics of this process, and those in `more`.
        """
        self._spread, self._random = spread, Random(seed + part)
        self._topics = [f"state/{part * TOPICS + number:02}" for number in range(TOPICS)]
        urls = [f"ws://127.0.0.1:{port}" for port in ports]
        for number in range(clients + len(urls)):
            publishes = number >= clients
            first = (number - clients if publishes else number) % len(urls)
            random = Random(self._random.getrandbits(64))
            address = f"127.0.0.{1 + part * PART_ADDRESSES + number // ADDRESS_CLIENTS}"
            topic = self._topics[number % TOPICS]
            home_first = [*urls[first:], *urls[:first]]
            client = Client(number, home_first, random, topic, address, publishes=publishes, beats=self._beats)
            (self._publishers if publishes else self._clients).append(client)
        for publisher in self._publishers:
            self.tell(publisher, Opened())
        began = time.monotonic()
        opened = 0
        while len(self._live) < clients:
            while opened < clients and opened - len(self._live) < opening:
                client = self._clients[opened]
                self.tell(client, Wanted([client.topic, *more]))
                self.tell(client, Opened())
                opened += 1
            self._go_on()
            if time.monotonic() - began > OPEN_S_MAX:
                raise LoadFailed(f"only {len(self._live)} of {clients} clients went live within {OPEN_S_MAX:g} s")
        self._publish_at = self._check_at = time.monotonic()
        return {"open_s": time.monotonic() - began}

    # The loop -------------------------------------------------------------------------------------------------------

    def _recovered(self, freshness: bool) -> bool:
        return self._died_at < math.inf and not self._away and not (freshness and self._stale)

    def _go_on(self) -> None:
        now = time.monotonic()
        if self._publish_at <= now:
            self._publish(now)
        if self._check_at <= now:
            self._check_at = now + CHECK_EVERY_S
            for client in self._random.sample(self._clients, min(CHECKS, len(self._clients))):
                self._ages.check(client.machine, client.topic, time.monotonic())
        self.turn()

    def _publish(self, now: float) -> tuple[Client, str, int]:
        """Begin a publish; return its publisher, topic and value."""
        self._publish_at = now + 1 / self._publishes_per_s
        chosen = self._random.randrange(TOPICS)
        publisher = self._publishers[chosen // len(self._publishers) % len(self._publishers)]
        topic = self._topics[chosen]
        number = self._numbers[topic]
        self._numbers[topic] += 1
        ticket = self._numbers.total()
        self._asked[ticket] = (topic, number)
        self.tell(publisher, PublishRequested(ticket, topic, number, False, None, f"{topic}-{number}"))
        return publisher, topic, number

    def _current(self, client: Client) -> bool:
        """Return whether a client holds the newest acknowledged value of its topic."""
        return held(client.machine, client.topic) + 1 >= len(self._ages.times.get(client.topic, []))

    # Recording ------------------------------------------------------------------------------------------------------

    def handled(self, client: Client, event: Event, now: float) -> None:
        """Note a client that lost its node, or is live or fresh again."""
        if client.publishes:
            return
        number = client.number
        if client.machine.mode != "live":
            self._live.discard(number)
            if self._died_at == math.inf and isinstance(event, Lost) and (affected := self._affected(client)):
                self._died_at, self._away = now, affected
                self._stale = set(affected)
        elif number not in self._live:
            self._live.add(number)
            self.forget_kept(client)
            if number in self._away:
                self._away.discard(number)
                self._back_s.append(now - self._died_at)
        told = number in self._stale and isinstance(event, Arrived | PollAnswered)
        if told and held(client.machine, CLOCK) > self._died_at * 1e6:
            self._stale.discard(number)
            self._course.fresh_s.append(now - self._died_at)

    def _affected(self, client: Client) -> set[int]:
        """Return the numbers of all clients that lose their node, when this one is the first to lose its connection."""
        del client
        return {other.number for other in self._clients}

    def _note_course(self, *, last: bool = False) -> None:
        fresh = len(self._clients) - len(self._stale) if self._died_at < math.inf else 0
        self._course.note(len(self._live), fresh, self.attempts, self.refused, self.polls, last=last)

    def advised(self, message: messages.ServerMessage) -> messages.ServerMessage:
        """Return a message, with ``jitter`` without the advice to spread."""
        if self._spread == "lease" or not isinstance(message, messages.Welcome | messages.Renewed):
            return message
        recover = message.recover
        plain = messages.RecoverAdvice(recover.base_ms, recover.base_ms, recover.cap_ms)
        return msgspec.structs.replace(message, recover=plain)

    def settled(self, ticket: int, outcome: object) -> None:
        """Note that a publish was acknowledged. Raises `LoadFailed` if it failed."""
        if not isinstance(outcome, messages.Published):
            raise LoadFailed(f"a publish failed: {outcome!r}")
        self._ages.settled(*self._asked.pop(ticket), time.monotonic())


def main() -> None:
    """Serve commands until the parent ends."""
    machines = Machines()
    serve({"open": machines.open, "go_on": machines.go_on, "crash": machines.crash})


if __name__ == "__main__":
    main()
