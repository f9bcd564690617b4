"""The faults of a drill: each is a block that lasts as long as the fault; leaving the block ends the fault."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import trio

from softstate.cli.commands.drill.ledger import Ledger
from softstate.cli.commands.drill.locking import locked
from softstate.cli.commands.drill.relay import Relay
from softstate.cli.commands.drill.worker_process import WorkerProcess
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.processes.child import NodeProcess

COMMAND_S_MAX = 60.0
"""Longest run of ``--kill-command`` and of ``--start-command``."""

RESTART_S_MAX = 1_800.0
"""Longest run of a ``--kill-command`` that restarts all nodes, one after the other."""

Breaking: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


async def inject(breaking: Breaking, down_s: float, ledger: Ledger) -> None:
    """Inject a fault for `down_s`, end it, and record when it began and ended.

    If cancelled, or if anything fails meanwhile, the fault is ended all the same.
    """
    ledger.fault.began_s = time.monotonic()
    async with breaking():
        await trio.sleep(down_s)
    ledger.fault.ended_s = time.monotonic()


def node_killed(node: NodeProcess) -> Breaking:
    """Kill a node with SIGKILL; start it again."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        await node.kill()
        yield
        await node.start()

    return breaking


def nodes_restarted(nodes: Sequence[NodeProcess], settled: Callable[[], Awaitable[object]]) -> Breaking:
    """Restart two nodes in order, as for an upgrade: the first at the begin, the other once `settled` returns."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        first, second = nodes
        await _restart(first)
        yield
        await settled()
        await _restart(second)

    return breaking


async def _restart(node: NodeProcess) -> None:
    await node.drain()
    await node.start()


def restarted_by(command: str) -> Breaking:
    """Run the user's command that restarts all nodes, and returns when they are back."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        await _run("--kill-command", command, RESTART_S_MAX)
        yield

    return breaking


def store_locked(database: Path) -> Breaking:
    """Let no process read or write the store."""
    return lambda: locked(database)


def links_stalled(relays: Sequence[Relay]) -> Breaking:
    """Let no byte pass without ending a connection; in the end reset every connection."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        for relay in relays:
            relay.stall()
        try:
            yield
        finally:
            for relay in relays:
                relay.reset()

    return breaking


def clients_hit(stopped: WorkerProcess, killed: WorkerProcess, ledger: Ledger) -> Breaking:
    """Stop one worker with SIGSTOP and kill another with SIGKILL; continue the one, start the other again."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        stopped.send(signal.SIGSTOP)
        try:
            await killed.kill()
            ledger.restart(killed.clients)
            yield
            await killed.start()
        finally:
            stopped.send(signal.SIGCONT)

    return breaking


def commanded(kill_command: str, start_command: str) -> Breaking:
    """Run the user's kill command; in the end run the start command, also after an error or a cancellation."""

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        try:
            await _run("--kill-command", kill_command)
            yield
        finally:
            with trio.CancelScope(shield=True):
                await _run("--start-command", start_command)

    return breaking


async def _run(flag: str, command: str, limit_s: float = COMMAND_S_MAX) -> None:
    """Run a command line in a shell. It may leave processes behind, so its output goes nowhere."""
    with trio.move_on_after(limit_s):
        done = await trio.run_process(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise Failure(f"{flag} ended with exit code {done.returncode}: {command}", UNAVAILABLE)
        return
    raise Failure(f"{flag} took longer than {limit_s:g} s: {command}", UNAVAILABLE)
