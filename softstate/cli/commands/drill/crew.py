"""The worker processes of a drill, and what they report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from softstate.cli.commands.drill.reports import Orders, Tick
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.processes.child import Lines, child

GOODBYE_S_MAX = 5.0
"""How long a worker may take to say goodbye to the nodes before it is killed."""


class WorkerProcess:
    """Runs some clients in a process of its own; `take` is given each of its reports. It logs to the file `log`."""

    def __init__(self, nursery: trio.Nursery, orders: Orders, take: Callable[[Tick], None], log: Path) -> None:
        self.clients = tuple(orders.follows)
        self._nursery = nursery
        self._orders = orders
        self._take = take
        self._log = log
        self._process: trio.Process | None = None
        self._gone = trio.Event()
        self._dismissed = False

    async def start(self) -> None:
        """Start the process, for the first time or again after `kill`."""
        self._gone = trio.Event()
        self._dismissed = False
        await self._nursery.start(self._run)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it with SIGKILL, and return when its last whole report was taken."""
        self._dismissed = True
        self.send(signal.SIGKILL)
        await self._gone.wait()

    async def dismiss(self) -> None:
        """Let its clients say goodbye, within `GOODBYE_S_MAX`, and end."""
        if self._process is None or self._gone.is_set():
            return
        self._dismissed = True
        self.send(signal.SIGTERM)
        with trio.move_on_after(GOODBYE_S_MAX):
            await self._gone.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        orders = msgspec.json.encode(self._orders).decode()
        command = [sys.executable, "-m", "softstate.cli.commands.drill.worker", orders]
        decoder = msgspec.json.Decoder(Tick)
        with self._log.open("ab") as log:
            async with child(command, log.fileno()) as process:
                self._process = process
                assert process.stdout is not None
                task_status.started()
                async for line in Lines(process.stdout):
                    self._take(decoder.decode(line))
        self._gone.set()
        if not self._dismissed:
            said = (await trio.Path(self._log).read_text("utf-8")).strip().rpartition("\n")[2]
            raise Failure(f"a worker of the drill ended: {said or 'it said nothing'}", UNAVAILABLE)
