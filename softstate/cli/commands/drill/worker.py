"""One worker of a drill: ``python -m softstate.cli.commands.drill.worker ORDERS``.

Its clients report on stdout until SIGTERM.

Clients live in processes of their own so that several hundred of them do not slow down the clock that measures them,
and so that they can be stopped and killed for real.
"""

from __future__ import annotations

import math
import signal
import ssl
import sys
import time

import msgspec
import trio

from softstate.cli.commands.drill.certificate import opener, trusting
from softstate.cli.commands.drill.reports import Applied, Sample, Tick, WorkerPlan
from softstate.cli.terminal.output import LineWriter
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.http_client.streams import OpenStream, Stream
from softstate.model import Change

SAMPLE_EVERY_S = 0.1
START_EVERY_S = 0.02
"""Clients of one worker begin so far apart: a drill is about coming back, not about a first rush."""


class Worker:
    """Runs the clients of `plan`."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._numbers = {topic: number for number, topic in enumerate(plan.topics)}
        tls = trusting(plan.ca)
        self._open_stream = _through(plan.via, tls) if plan.via else opener(tls)
        self._running: dict[int, tuple[Client, Updates]] = {}
        self._resets = dict.fromkeys(plan.follows, 0)
        self._applied: list[Applied] = []
        self._ending = trio.Event()

    async def run(self) -> None:
        """Run until SIGTERM, then release all leases."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._await_end)
            nursery.start_soon(self._report)
            for number in self._plan.follows:
                nursery.start_soon(self._follow, number)
                await trio.sleep(START_EVERY_S)
            await self._ending.wait()

    async def _await_end(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self._ending.set()
                return

    async def _follow(self, number: int) -> None:
        first, *others = (self._plan.topics[topic] for topic in self._plan.follows[number])
        names = [first, *(other.rpartition("/")[0] + "/" for other in others)]
        async with (
            connect(self._plan.urls, name=f"drill {number}", open_stream=self._open_stream) as client,
            client.subscribe(*names) as updates,
            trio.open_nursery() as nursery,
        ):
            self._running[number] = client, updates
            nursery.start_soon(self._take, number, updates)
            await self._ending.wait()
            nursery.cancel_scope.cancel()

    async def _take(self, number: int, updates: Updates) -> None:
        async for event in updates.events():
            if isinstance(event, Change) and not event.deleted:
                topic, sent_s = self._numbers[event.topic], event.value["sent_s"]
                now_s, resets = time.monotonic(), self._resets[number]
                self._applied.append(Applied(number, topic, event.version, sent_s, now_s, resets))
            elif isinstance(event, Reset):
                self._resets[number] += 1

    async def _report(self) -> None:
        writer, encoder = LineWriter(), msgspec.json.Encoder()
        turns = 2 * len(self._plan.topics)
        while not self._ending.is_set():
            await trio.sleep(SAMPLE_EVERY_S)
            samples = [self._sample(number) for number in self._running]
            for _ in range(turns):
                await trio.lowlevel.checkpoint()  # let every client take what was pending when its age was asked
            applied, self._applied = self._applied, []
            await writer.write(encoder.encode(Tick(applied, samples)).decode())

    def _sample(self, number: int) -> Sample:
        client, updates = self._running[number]
        now_s = time.monotonic()  # before the age is asked, which can only grow in between
        age_s, counts = updates.age, client.statistics()
        known_s = None if math.isinf(age_s) else age_s
        return Sample(number, now_s, known_s, client.mode, counts.connects, counts.polls, self._resets[number])


def _through(via: dict[str, int], trusted: ssl.SSLContext | None) -> OpenStream:
    """Return what opens streams through relays; to a node without one, directly."""
    directly = opener(trusted)

    async def open_stream(host: str, port: int, tls: bool) -> Stream:
        relay = via.get(f"{host}:{port}")
        if relay is None:
            return await directly(host, port, tls)
        stream = await trio.open_tcp_stream("127.0.0.1", relay)
        if not tls:
            return stream
        context = trusted or ssl.create_default_context()
        return trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)

    return open_stream


def main() -> None:
    """Run the worker that the first argument describes."""
    trio.run(Worker(msgspec.json.decode(sys.argv[1], type=WorkerPlan)).run)


if __name__ == "__main__":
    main()
