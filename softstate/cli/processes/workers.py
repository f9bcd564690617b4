"""``softstate serve --workers N``: a supervisor that keeps N nodes running, on one port and one store.

The supervisor serves nothing and touches no store: it holds the port, starts `softstate.cli.processes.worker` N times,
and starts again what dies. Nodes on one store need no more than that: any client may talk to any of them, at any time.

A port that processes share (SO_REUSEPORT) would be shared with a second ``serve`` of the same user as well, in silence.
So the port is claimed first: by a name that only one process of this machine can have, and by listening once
without sharing the port.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace

import structlog
import trio

from softstate.cli import exit_codes
from softstate.cli.exit_codes import Failure
from softstate.cli.processes.child import START_S_MAX, Lines, child
from softstate.cli.processes.node_log import LogFormat
from softstate.cli.processes.service_manager import NOBODY, ServiceManager
from softstate.cli.processes.worker import Failed, Listening, WorkerSettings, report_of
from softstate.cli.terminal.announcement import announcement, tell_page, tell_reach, urls_of, warn
from softstate.errors import ConfigError
from softstate.server.config import ServerConfig
from softstate.server.listeners import bind, close, listen, name_of
from softstate.server.memory.system import default_max

RESTART_S_MIN = 0.1
RESTART_S_MAX = 10.0
"""Pause before an ended worker is started again; it doubles on repeats."""

SETTLED_S = 10.0
"""A worker that served this long resets the pause before its next start."""

STOP_S_EXTRA = 5.0
"""Time beyond draining and closing the store before workers that have not stopped are killed."""

WORKER = [sys.executable, "-m", "softstate.cli.processes.worker"]

log = structlog.get_logger("softstate.workers")


async def supervise(
    config: ServerConfig, workers: int, log_format: LogFormat, *, verbose: bool, manager: ServiceManager = NOBODY
) -> int:
    """Keep `workers` nodes running until a signal has drained them all, and return the exit code.

    `manager` is told when all of them listen, and when they drain.

    Raises `ConfigError` if the port cannot be had, and `Failure` if a worker cannot start to begin with.
    """
    async with claimed(config.host, config.port) as (port, addresses):
        config = replace(config, port=port, memory_max=config.memory_max or default_max(workers))
        run = _Supervisor(config, workers, addresses, log_format, verbose, manager)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, run.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run.drain_on_signals, signals)
                nursery.start_soon(manager.prove_life)
                nursery.start_soon(run.pass_on_reloads)
                await run.run()
                run.scope.cancel()
    if run.failed is not None:
        raise Failure(run.failed.message, run.failed.code)
    return exit_codes.INTERRUPTED if run.aborted else exit_codes.OK


@asynccontextmanager
async def claimed(host: str, port: int) -> AsyncIterator[tuple[int, list[str]]]:
    """Hold a port for workers to share while the block lasts; port 0 takes any free one. Raises `ConfigError`.

    Yields the port and every address. The sockets that hold it never listen, so no client is connected to them.
    """
    held = await bind(host, port, shared=True)
    try:
        port = held[0].getsockname()[1]
        addresses = [name_of(opened) for opened in held]
        with _sole(addresses):
            alone = await bind(host, port)
            try:
                listen(alone, host, port)
            finally:
                close(alone)
            yield port, addresses
    finally:
        close(held)


@contextmanager
def _sole(addresses: list[str]) -> Iterator[None]:
    """Be the only supervisor of these addresses on this machine, or rather in its network namespace, as ports are."""
    names: list[socket.socket] = []
    try:
        for address in addresses:
            # In Linux's abstract namespace: no file that a crash could leave behind.
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            names.append(name)
            try:
                name.bind(f"\0softstate/workers/{address}")
            except OSError:
                raise ConfigError(
                    f"cannot listen on {address}: another softstate serve --workers uses the port. Choose another with"
                    " --listen HOST:PORT"
                ) from None
        yield
    finally:
        for name in names:
            name.close()


@dataclass
class _Supervisor:
    """The workers, from the first start to the last drain."""

    config: ServerConfig
    count: int
    addresses: list[str]
    log_format: LogFormat
    verbose: bool
    manager: ServiceManager
    family: str = field(default_factory=lambda: secrets.token_hex(8))
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    aborted: bool = False
    failed: Failed | None = None
    _serving: bool = False
    _processes: dict[int, trio.Process] = field(default_factory=dict)
    _stopping: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Run all workers until they have drained."""
        async with trio.open_nursery() as nursery:
            # The first one alone: it creates the store, and an error is reported once.
            first: Listening = await nursery.start(self._keep, 1)
            # A worker that is started again must not make a store in place of one that is gone: that would fork it.
            self.config = replace(self.config, require_store=True)
            async with trio.open_nursery() as starting:
                for number in range(2, self.count + 1):
                    starting.start_soon(nursery.start, self._keep, number)
            self._serving = True
            role = f"role {self.config.role}, {self.count} workers"
            urls = urls_of(self.config, self.addresses)
            print(announcement(urls, role, first.store, first.durability, first.topics), flush=True)
            warn(first.warnings)
            tell_page(self.config, urls)
            tell_reach(self.config)
            self.manager.ready(f"{', '.join(urls)} ({self.count} workers); store {first.store}, {first.durability}")

    async def drain_on_signals(self, signals: AsyncIterator[int]) -> None:
        """Drain all at the first signal; kill them at the second, at the first while they start, or when time is up."""
        await anext(signals)
        self.manager.stopping()
        if self._serving:
            self._stopping.set()
            limit_s = self.config.drain_s + self.config.store_s_max + STOP_S_EXTRA
            with trio.move_on_after(limit_s) as waiting:
                await anext(signals)
            if waiting.cancelled_caught:
                log.error("workers killed", because="they did not drain", within_s=limit_s)
        self.aborted = True
        self.scope.cancel()

    async def pass_on_reloads(self) -> None:
        """Have all workers read policy and certificate again at each SIGHUP."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                for process in self._processes.values():
                    process.send_signal(signal.SIGHUP)

    async def _keep(self, number: int, task_status: trio.TaskStatus[Listening]) -> None:
        """Keep one worker running; its first report goes to `task_status`. If it fails to start at all, end all.

        One that served is started again after a pause, also when the system could not start it the last time.

        The first start of the first worker may take any time: it may have to carry over a large file of an earlier
        release, and would never get to the end of that if it were killed. A signal still ends it.
        """
        pause_s = RESTART_S_MIN
        served = False

        def serves(report: Listening, pid: int) -> None:
            nonlocal served
            if served:
                log.info("worker serves again", worker=number, pid=pid)
            else:
                task_status.started(report)
            served = True

        while not self._stopping.is_set():
            since = trio.current_time()
            within_s = START_S_MAX if served or number > 1 else math.inf
            try:
                end = await self._run_worker(number, within_s, serves)
            except OSError as error:
                end = Failed(f"{WORKER[0]} cannot be started as a worker: {error.strerror}", exit_codes.UNAVAILABLE)
            if self._stopping.is_set():
                break
            if not served:
                await self._fail(end)
            if trio.current_time() - since > SETTLED_S:
                pause_s = RESTART_S_MIN
            log.warning("worker ended", worker=number, because=end.message, again_in_s=pause_s)
            with trio.move_on_after(pause_s):
                await self._stopping.wait()
            pause_s = min(pause_s * 2, RESTART_S_MAX)

    async def _run_worker(self, number: int, within_s: float, serves: Callable[[Listening, int], None]) -> Failed:
        """Run a worker to its end, and return why it ended; `serves` gets its report, and its process id.

        Raises `OSError` if the system starts no process now: it has no memory, process or descriptor left.
        """
        # It gets the whole environment: a store's URL may name any variable as the place of its password.
        started = child(WORKER, stdin=subprocess.PIPE, environment=os.environ)
        async with started as process, trio.open_nursery() as nursery:
            nursery.start_soon(self._stop, process)
            settings = WorkerSettings(number, self.config, self.log_format, self.verbose, self.family, self.count)
            report = await _report(process, settings, within_s)
            if isinstance(report, Listening):
                self._processes[number] = process
                serves(report, process.pid)
                report = Failed(ending(await process.wait()), exit_codes.UNAVAILABLE)
            self._processes.pop(number, None)
            nursery.cancel_scope.cancel()
        return report

    async def _stop(self, process: trio.Process) -> None:
        """End a worker's stdin when it is to drain."""
        await self._stopping.wait()
        assert process.stdin is not None
        await process.stdin.aclose()

    async def _fail(self, failed: Failed) -> None:
        # Only the first of several failures is reported; raising them all would make an exception group.
        self.failed = self.failed or failed
        self.scope.cancel()
        await trio.sleep_forever()


async def _report(process: trio.Process, settings: WorkerSettings, within_s: float) -> Listening | Failed:
    """Give a worker its settings and return its report, or a `Failed` if there is none within a time."""
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.move_on_after(within_s):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has ended or is to end: read on
            await process.stdin.send_all(settings.line())
        async for line in Lines(process.stdout):
            return report_of(line)
        return Failed(f"a worker ended before it listened: {ending(await process.wait())}", exit_codes.UNAVAILABLE)
    return Failed(f"a worker did not start within {within_s:g} s", exit_codes.UNAVAILABLE)


def ending(code: int) -> str:
    """Say how a process ended, by the code that Python gives it: below 0 for a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"killed by signal {-code}"
