"""softstate's client for Python, on Trio: ``python -m … PORT CLIENTS``. It answers the commands of `common.js`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import trio

import softstate
from bench.peers.clients.lines import serve
from softstate import Client, Updates

TOPICS = ("kept", "still", "ticking")
AGES_EVERY_S = 0.1
LOOK_EVERY_S = 0.01
FRESH_S = 60.0
OPENING = 20
"""Clients that are opened at once."""


class Application:
    """One application: what it holds, what it is told, and the ages that it reads."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[float, int]]] = {}
        self.told: list[tuple[float, str, bool | None, str | None]] = []
        self.ages: list[tuple[float, float]] = []
        self.live = trio.Event()
        self._updates: Updates | None = None

    async def run(self, url: str) -> None:
        """Follow all topics until cancelled."""
        async with (
            softstate.connect(url) as client,
            client.subscribe("state/") as updates,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._note_modes, client)
            await updates.fresh(FRESH_S)
            self._updates = updates
            async for _ in updates:
                self._look(updates)

    def read_age(self) -> None:
        """Note the age of what is held now."""
        if self._updates is not None:
            self._look(self._updates)
            self.ages.append((time.monotonic(), self._updates.age))

    def holds(self, topic: str) -> int:
        """Return the newest number of a topic; -1 without one."""
        values = self.values.get(topic)
        return values[-1][1] if values else -1

    def _look(self, updates: Updates) -> None:
        for topic in TOPICS:
            change = updates.get(f"state/{topic}")
            if change is not None and isinstance(change.value, int) and change.value != self.holds(topic):
                self.values.setdefault(topic, []).append((time.monotonic(), change.value))

    async def _note_modes(self, client: Client) -> None:
        async for mode in client.modes():
            self.told.append((time.monotonic(), f"mode {mode}", mode == "live", None))
            if mode == "live":
                self.live.set()


class Driver:
    """All applications of this process."""

    def __init__(self, url: str, nursery: trio.Nursery) -> None:
        self._url = url
        self._nursery = nursery
        self._applications: list[Application] = []
        self._dials: list[float] = []
        sys.addaudithook(self._note_dial)

    async def open(self, clients: int) -> dict[str, Any]:
        """Open so many, and wait until all are live."""
        for first in range(0, clients, OPENING):
            some = [Application() for _ in range(min(OPENING, clients - first))]
            self._applications += some
            for each in some:
                self._nursery.start_soon(each.run, self._url)
            for each in some:
                await each.live.wait()
        return {"clients": len(self._applications)}

    async def until(self, topic: str, number: int, patience_s: float) -> dict[str, Any]:
        """Wait until all hold a number of a topic that is at least this, or so long."""
        ends = time.monotonic() + patience_s
        while True:
            holding = sum(each.holds(topic) >= number for each in self._applications)
            if holding == len(self._applications) or time.monotonic() > ends:
                return {"holding": holding}
            await trio.sleep(LOOK_EVERY_S)

    async def tell(self) -> dict[str, Any]:
        """Return all that was noted."""
        noted = [{"values": each.values, "told": each.told, "ages": each.ages} for each in self._applications]
        return {"dials": self._dials, "applications": noted}

    async def read_ages(self) -> None:
        """Read all ages, again and again."""
        while True:
            for each in self._applications:
                each.read_age()
            await trio.sleep(AGES_EVERY_S)

    def _note_dial(self, event: str, _arguments: tuple[object, ...]) -> None:
        if event == "socket.connect":
            self._dials.append(time.monotonic())


async def main(port: int, clients: int) -> None:
    """Serve commands until stdin ends."""
    async with trio.open_nursery() as nursery:
        driver = Driver(f"ws://127.0.0.1:{port}", nursery)
        nursery.start_soon(driver.read_ages)
        print(json.dumps(await driver.open(clients)), flush=True)
        await serve({"open": driver.open, "until": driver.until, "tell": driver.tell})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
