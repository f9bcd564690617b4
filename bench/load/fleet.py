"""Clients of several nodes, one of which dies: the recovery of its clients, and the effects on all other clients.

``python -m bench.load.fleet``, driven over `bench.load.process`. These are the clients of `bench.load.machines`; each
has its own node first in its list of URLs, then the others. There is a publisher at each node, and the clients of each
node follow topics of all publishers.

A *survivor* is a client of a node that does not die. Recorded of survivors: whether one lost its connection or left
`live`, the greatest age that one stated, and the longest time from the request of a publish until one had the value, of
publishes at nodes that do not die. The same is recorded for some time before, to compare with.
"""

from __future__ import annotations

import math
import time
from typing import Any

from bench.load.ages import held
from bench.load.machine_shell import Client
from bench.load.machines import Machines
from bench.load.process import LoadFailed, serve
from softstate.client.machine.events import Arrived, Event, Lost, PollAnswered

PUBLISHES_PER_S = 40.0
AGES_EVERY_S = 0.05
"""Interval at which the ages of all survivors are read."""


class Fleet(Machines):
    """All clients of several nodes. Each public method is a command of the process."""

    def __init__(self) -> None:
        super().__init__()
        self._publishes_per_s = PUBLISHES_PER_S
        self._asked_at: dict[str, list[float]] = {}
        """For each topic, by value: the time of the request to publish it; infinity if at the node that dies."""
        self._seen: dict[int, int] = {}
        """For each client, the newest value whose delivery was recorded."""
        self._victim = ""
        self._lost = 0
        self._left: set[int] = set()
        self._delivery_s = 0.0
        self._age_s = 0.0
        self._read_ages_at = 0.0

    # Commands -------------------------------------------------------------------------------------------------------

    def open_nodes(self, ports: list[int], clients: int, victim: int, seed: int) -> dict[str, Any]:
        """Open so many clients, in turn at each node; `victim` is the port of the node that will die."""
        self._victim = f"ws://127.0.0.1:{victim}"
        return self._open_all(ports, clients, "lease", seed)

    def calm(self, seconds: float) -> dict[str, Any]:
        """Go on for some seconds; return the effects on survivors."""
        began = time.monotonic()
        self._record_from(began)
        while time.monotonic() - began < seconds:
            self._go_on_and_read_ages()
        return self._effects()

    def death(self, seconds: float, patience_s: float) -> dict[str, Any]:
        """Go on while the node dies, for `seconds` after that and until all its clients are live at other nodes.

        Raises `LoadFailed` if the node has not died, or not all of them are live, after `patience_s`.
        """
        cpu, began = time.process_time(), time.monotonic()
        self._record_from(began)
        while self._away or time.monotonic() - self._died_at < seconds or self._died_at == math.inf:
            self._go_on_and_read_ages()
            if time.monotonic() - began > patience_s:
                raise LoadFailed(f"{len(self._away)} clients of the dead node are not live after {patience_s:g} s")
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        effects = self._effects()
        self._publish_at = math.inf
        while self._asked or not all(map(self._current, self._clients)):
            self._go_on()
            if time.monotonic() - began > patience_s:
                raise LoadFailed(f"{len(self._asked)} publishes are not answered, or not delivered to all")
        return {
            **effects,
            "back_s": self._back_s,
            "acknowledged": {topic: len(times) - 1 for topic, times in self._ages.times.items()},
            "too_low": self._ages.too_low,
            "generator_busy": busy,
        }

    # Recording ------------------------------------------------------------------------------------------------------

    def _survives(self, client: Client) -> bool:
        return not client.publishes and client.home != self._victim

    def _record_from(self, now: float) -> None:
        self._lost, self._left = 0, set()
        self._delivery_s = self._age_s = 0.0
        self._read_ages_at = now

    def _go_on_and_read_ages(self) -> None:
        self._go_on()
        now = time.monotonic()
        if now >= self._read_ages_at:
            self._read_ages_at = now + AGES_EVERY_S
            ages = (client.machine.age(time.monotonic()) for client in self._clients if self._survives(client))
            self._age_s = max(self._age_s, *ages)

    def _effects(self) -> dict[str, Any]:
        return {"lost": self._lost, "left": len(self._left), "age_s": self._age_s, "delivery_s": self._delivery_s}

    def _publish(self, now: float) -> tuple[Client, str, int]:
        publisher, topic, number = super()._publish(now)
        self._asked_at.setdefault(topic, []).append(math.inf if publisher.home == self._victim else now)
        return publisher, topic, number

    def handled(self, client: Client, event: Event, now: float) -> None:
        """Note the effects on a survivor."""
        super().handled(client, event, now)
        if not self._survives(client):
            return
        self._lost += isinstance(event, Lost)
        if client.machine.mode != "live":
            self._left.add(client.number)
        if isinstance(event, Arrived | PollAnswered):
            self._note_deliveries(client, now)

    def _note_deliveries(self, client: Client, now: float) -> None:
        """Record the delay of each value that a client has now, or that was replaced by a newer one on its way."""
        asked_at = self._asked_at.get(client.topic, [])
        newest = held(client.machine, client.topic)
        for number in range(self._seen.get(client.number, -1) + 1, newest + 1):
            self._delivery_s = max(self._delivery_s, now - asked_at[number])
        self._seen[client.number] = max(newest, self._seen.get(client.number, -1))

    def _affected(self, client: Client) -> set[int]:
        """Return the numbers of the dead node's clients; none if this client is not one of them."""
        if client.home != self._victim:
            return set()
        return {other.number for other in self._clients if other.home == self._victim}


def main() -> None:
    """Serve commands until the parent ends."""
    fleet = Fleet()
    serve({"open_nodes": fleet.open_nodes, "go_on": fleet.go_on, "calm": fleet.calm, "death": fleet.death})


if __name__ == "__main__":
    main()
