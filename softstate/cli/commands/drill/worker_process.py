"""The worker processes of a drill, and reading their reports."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from softstate.cli.commands.drill.reports import Tick, WorkerPlan
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.processes.child import Lines, child

RELEASE_S_MAX = 5.0
"""Longest time for a worker to release its leases before it is killed."""


class WorkerProcess:
    """Runs some clients in a process of its own; `take` is given each of its reports. It logs to the file `log`."""

    def __init__(self, nursery: trio.Nursery, plan: WorkerPlan, take: Callable[[Tick], None], log: Path) -> None:
        self.clients = tuple(plan.follows)
        self._nursery = nursery
        self._plan = plan
        self._take = take
        self._log = log
        self._process: trio.Process | None = None
        self._gone = trio.Event()
        self._stopped = False

    async def start(self) -> None:
        """Start the process, for the first time or again after `kill`."""
        self._gone = trio.Event()
        self._stopped = False
        await self._nursery.start(self._run)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it with SIGKILL, and return when its last whole report was taken."""
        self._stopped = True
        self.send(signal.SIGKILL)
        await self._gone.wait()

    async def stop(self) -> None:
        """Let its clients release their leases, within `RELEASE_S_MAX`, and end the process."""
        if self._process is None or self._gone.is_set():
            return
        self._stopped = True
        self.send(signal.SIGTERM)
        with trio.move_on_after(RELEASE_S_MAX):
            await self._gone.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        plan = msgspec.json.encode(self._plan).decode()
        command = [sys.executable, "-m", "softstate.cli.commands.drill.worker", plan]
        decoder = msgspec.json.Decoder(Tick)
        with self._log.open("ab") as log:
            async with child(command, log.fileno()) as process:
                self._process = process
                assert process.stdout is not None
                task_status.started()
                async for line in Lines(process.stdout):
                    self._take(decoder.decode(line))
        self._gone.set()
        if not self._stopped:
            last = (await trio.Path(self._log).read_text("utf-8")).strip().rpartition("\n")[2]
            raise Failure(f"a worker of the drill ended: {last or 'its log is empty'}", UNAVAILABLE)
