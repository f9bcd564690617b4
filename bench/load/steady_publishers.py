"""Publishers that never rest: the real client, with as many publishes under way as it is told, in one process.

``python -m bench.load.steady_publishers PORT CLIENTS``, driven over `bench.load.process`. Its one command, ``publish``,
goes on for some seconds with clients that stay open from one command to the next, so that their numbers go on.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from itertools import count
from typing import Any

import trio

from bench.load.process import serve
from softstate import Client, connect
from softstate.errors import RequestError, SoftstateError

TOPICS_EACH = 64
"""Topics of each client: so many publishes of one client are under way at once, since those of a topic take turns."""


class Publishers:
    """Clients of one node, each with `TOPICS_EACH` topics."""

    def __init__(self, url: str, clients: int) -> None:
        self._url = url
        self._count = clients
        self._tally: Counter[str] = Counter()
        self._latencies_s: list[float] = []

    async def run(self) -> None:
        """Open the clients, and carry out commands until stdin ends."""
        async with trio.open_nursery() as nursery:
            opened = [await nursery.start(self._hold) for _ in range(self._count)]

            def publish(seconds: float) -> Mapping[str, Any]:
                return trio.from_thread.run(self._publish, opened, seconds)

            await trio.to_thread.run_sync(serve, {"publish": publish})
            nursery.cancel_scope.cancel()

    async def _hold(self, task_status: trio.TaskStatus[Client]) -> None:
        async with connect(self._url) as client:
            task_status.started(client)
            await trio.sleep_forever()

    async def _publish(self, clients: list[Client], seconds: float) -> Mapping[str, Any]:
        self._tally, self._latencies_s = Counter(), []
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                for topic in range(TOPICS_EACH):
                    nursery.start_soon(self._follow_on, client, f"sustained/{number}/{topic}", until)
        self._latencies_s.sort()
        latencies = self._latencies_s or [0.0]
        return {
            "published": self._tally.pop("published", 0),
            "refused": dict(self._tally),
            "p50_s": latencies[len(latencies) // 2],
            "p99_s": latencies[len(latencies) * 99 // 100],
        }

    async def _follow_on(self, client: Client, topic: str, until: float) -> None:
        for number in count():
            began = trio.current_time()
            if began >= until:
                return
            try:
                await client.publish(topic, number)
            except SoftstateError as error:
                self._tally[error.code if isinstance(error, RequestError) else type(error).__name__] += 1
            else:
                self._tally["published"] += 1
                self._latencies_s.append(trio.current_time() - began)


if __name__ == "__main__":
    trio.run(Publishers(f"ws://127.0.0.1:{sys.argv[1]}", int(sys.argv[2])).run)
