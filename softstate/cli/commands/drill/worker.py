"""One worker of a drill: ``python -m softstate.cli.commands.drill.worker ORDERS``.

Its clients report on stdout until SIGTERM. Here they run in one loop, Trio's or asyncio's.

Clients live in processes of their own so that several hundred of them do not slow down the clock that measures them,
and so that they can be stopped and killed for real.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time

import anyio
import msgspec
from anyio.abc import TaskStatus

from softstate.cli.commands.drill.plan import SAMPLE_EVERY_S, START_EVERY_S
from softstate.cli.commands.drill.relayed import names_of, opener_of, token_for
from softstate.cli.commands.drill.reports import Applied, Sample, Tick, WorkerPlan
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.model import Change


class Worker:
    """Runs the clients of `plan`."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._numbers = {topic: number for number, topic in enumerate(plan.topics)}
        self._open_stream = opener_of(plan)
        self._token = token_for(plan)
        self._running: dict[int, tuple[Client, Updates]] = {}
        self._resets = dict.fromkeys(plan.follows, 0)
        self._applied: list[Applied] = []
        self._ending = anyio.Event()

    async def run(self) -> None:
        """Run until SIGTERM, then release all leases."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._await_end)
            tasks.start_soon(self._report)
            for number in self._plan.follows:
                tasks.start_soon(self._follow, number)
                await anyio.sleep(START_EVERY_S)
            await self._ending.wait()

    async def _await_end(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self._ending.set()
                return

    async def _follow(self, number: int) -> None:
        async with (
            connect(
                self._plan.urls, name=f"drill {number}", open_stream=self._open_stream, token=self._token
            ) as client,
            client.subscribe(*names_of(self._plan, number)) as updates,
            anyio.create_task_group() as tasks,
        ):
            self._running[number] = client, updates
            tasks.start_soon(self._take, number, updates)
            await self._ending.wait()
            tasks.cancel_scope.cancel()

    async def _take(self, number: int, updates: Updates) -> None:
        async for event in updates.events():
            if isinstance(event, Change) and not event.deleted:
                topic, sent_s = self._numbers[event.topic], event.value["sent_s"]
                now_s, resets = time.monotonic(), self._resets[number]
                self._applied.append(Applied(number, topic, event.version, sent_s, now_s, resets))
            elif isinstance(event, Reset):
                self._resets[number] += 1

    async def _report(self) -> None:
        encoder = msgspec.json.Encoder()
        turns = 2 * len(self._plan.topics)
        while not self._ending.is_set():
            await anyio.sleep(SAMPLE_EVERY_S)
            samples = [self._sample(number) for number in self._running]
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()  # let every client take what was pending when its age was asked
            applied, self._applied = self._applied, []
            await anyio.to_thread.run_sync(write_line, encoder.encode(Tick(applied, samples)))

    def _sample(self, number: int) -> Sample:
        client, updates = self._running[number]
        now_s = time.monotonic()  # before the age is asked, which can only grow in between
        age_s, counts = updates.age, client.statistics()
        known_s = None if math.isinf(age_s) else age_s
        return Sample(number, now_s, known_s, client.mode, counts.connects, counts.polls, self._resets[number])


def write_line(data: bytes) -> None:
    """Write a line to standard output, whole. It waits for a reader that is slow."""
    view = memoryview(data + b"\n")
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def main() -> None:
    """Run the worker that the first argument describes."""
    plan = msgspec.json.decode(sys.argv[1], type=WorkerPlan)
    if plan.runtime == "sync":
        from softstate.cli.commands.drill.sync_worker import SyncWorker  # noqa: PLC0415 - others do without

        SyncWorker(plan, write_line).run()
    else:
        anyio.run(Worker(plan).run, backend=plan.runtime)


if __name__ == "__main__":
    main()
