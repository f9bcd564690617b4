"""One node in this process, from before it listens to the end of its drain: signals, and limits of its end."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from softstate.cli import exit_codes
from softstate.cli.processes.node_log import LogFormat, log_start
from softstate.cli.processes.service_manager import NOBODY, ServiceManager
from softstate.cli.terminal.announcement import status_of
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node
    from softstate.server.siblings import Siblings

COLLECTIONS_PER_FULL_ONE = 1_000
"""Collections of younger objects before a full one; Python's default is 10.

A full collection takes 0.1 ms a session: a node with 10,000 sessions stopped for a second, every 6,000 renewals, and
found nothing, since a session that has ended leaves no reference cycles. Other cycles are freed later. Measured with
5,000 sessions: 10,200 renewals a second instead of 4,700.
"""

SWITCH_S = 50e-6
"""Time for which the node's loop may keep the interpreter's lock while a call of the store waits for it; Python's
default is 5 ms.

A commit of SQLite takes the lock again after each statement. While peers kept the loop busy it waited for the whole
5 ms each time: a publish beside them took 91 ms at the median, and 11 with this (`bench turns`, bodies over HTTP).
Without such company publishes come at 0.97 to 1.05 of the rate before (`bench publish`).
"""

END_S_EXTRA = 1.0
"""Time to end beyond what was given for it; then the process ends with calls of the store under way.

A call that hangs in its thread, on a disk that does not answer, can be neither cancelled nor waited for. Nothing is
lost: publishes are durable before they are answered, and one without an answer may have been applied, as after
``kill -9``.
"""


async def run_node(
    config: ServerConfig,
    announce: Callable[[Node], Awaitable[None]],
    *,
    shared: bool = False,
    siblings: Siblings | None = None,
    log_format: LogFormat = "console",
    drain_after: Callable[[], Awaitable[None]] = trio.sleep_forever,
    manager: ServiceManager = NOBODY,
) -> int:
    """Run a node until a signal has drained it, and return the exit code; `announce` is called once it listens.

    `shared` and `siblings` are as in `softstate.server.serve`, whose errors this raises. The node also drains when
    `drain_after` returns. A store call that does not return keeps the process for `END_S_EXTRA` longer; then this ends
    it, with the same exit code. `manager` is told when the node listens, which is a line of a log
    in JSON, too, and when it drains.
    """
    tune_interpreter()
    run = _Run(config, announce, shared, siblings, log_format, manager)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run.drain_on_signals, signals, nursery.cancel_scope)
                nursery.start_soon(run.drain_after, drain_after, nursery.cancel_scope)
                nursery.start_soon(run.serve, nursery)
                nursery.start_soon(manager.prove_life)
                nursery.start_soon(run.reload_on_signals)
        finally:
            for timer in run.timers:
                timer.cancel()
    return run.code


def tune_interpreter() -> None:
    """Run full garbage collections rarely, and hand the interpreter's lock over soon: for this whole process."""
    gc.set_threshold(*gc.get_threshold()[:2], COLLECTIONS_PER_FULL_ONE)
    sys.setswitchinterval(SWITCH_S)


@dataclass
class _Run:
    """One node, from before it listens to the end of its drain."""

    config: ServerConfig
    announce: Callable[[Node], Awaitable[None]]
    shared: bool
    siblings: Siblings | None
    log_format: LogFormat
    manager: ServiceManager
    node: Node | None = None
    aborted: bool = False
    timers: list[threading.Timer] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code, if the process ended now."""
        if self.aborted:
            return exit_codes.INTERRUPTED
        failed = self.node is not None and self.node.bulkhead.fatal is not None
        return exit_codes.FAILED if failed else exit_codes.OK

    async def serve(self, everything: trio.Nursery) -> None:
        """Run the node until it has drained, then end `everything`."""
        from softstate import server  # noqa: PLC0415 - --check and --help do without it

        async with trio.open_nursery() as nursery:
            self.node = await nursery.start(
                partial(server.serve, self.config, shared=self.shared, siblings=self.siblings)
            )
            everything.start_soon(self._limit_failing, self.node.bulkhead.wait_fatal)
            await self.announce(self.node)
            if self.log_format == "json":
                log_start(self.node)
            self.manager.ready(status_of(self.node))
        everything.cancel_scope.cancel()

    async def drain_on_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Drain at the first signal; stop at once at the second, or at the first if there is nothing to drain."""
        await anext(signals)
        await self._stop(scope)
        await anext(signals)
        self._abort(scope)

    async def reload_on_signals(self) -> None:
        """Have policy and certificate read again at each SIGHUP, which ends no node."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                if self.node is not None:
                    self.node.reload()

    async def drain_after(self, condition: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Drain once `condition` returns, which counts as no signal: our parent may have got the same one as we."""
        await condition()
        await self._stop(scope)

    async def _stop(self, scope: trio.CancelScope) -> None:
        self.manager.stopping()
        if self.node is None:
            self._abort(scope)
        else:
            self._end_within(self.config.drain_s + self.config.store_s_max)
            await self.node.drain()

    def _abort(self, scope: trio.CancelScope) -> None:
        self.aborted = True
        self._end_within(0)
        scope.cancel()

    async def _limit_failing(self, fatal: Callable[[], Awaitable[None]]) -> None:
        await fatal()
        self._end_within(self.config.drain_s + self.config.store_s_max)

    def _end_within(self, limit_s: float) -> None:
        """Have the process end `END_S_EXTRA` after this limit, if it has not ended by itself."""
        # A thread, because Trio's loop may hang as well: it asks SQLite whether anything was committed.
        timer = threading.Timer(min(limit_s + END_S_EXTRA, threading.TIMEOUT_MAX), self._end_process)
        timer.daemon = True
        timer.start()
        self.timers.append(timer)

    def _end_process(self) -> None:
        import structlog  # noqa: PLC0415 - as in `configure_logging`

        because = "the store has not returned from a call: look at its disk or its server"
        try:
            structlog.get_logger("softstate.process").error("process ends", because=because, exit_code=self.code)
        finally:
            os._exit(self.code)
