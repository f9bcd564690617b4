"""Child processes for the demo, the drill and the replay: started, killed, and removed in every case."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.options.layers import PREFIX

START_S_MAX = 20.0
"""Longest time for a node to announce that it listens."""


def softstate(*words: str) -> list[str]:
    """Return the command line that runs ``softstate`` with this very interpreter and installation."""
    return [sys.executable, "-m", "softstate", *words]


def free_port() -> int:
    """Return a port of the loopback address that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unconfigured() -> dict[str, str]:
    """Return this process's environment without the variables that configure softstate."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


@asynccontextmanager
async def child(
    command: Sequence[str],
    stderr: int | None = None,
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[trio.Process]:
    """Start a process in a session of its own, so that Ctrl-C leaves it to us; kill it when the block ends.

    Its environment is `unconfigured` unless one is given: a variable such as SOFTSTATE_STORE is meant for the user's
    node, and must not change a throw-away one. Raises `OSError` if the process cannot be started.
    """
    process = await trio.lowlevel.open_process(
        list(command),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env=unconfigured() if environment is None else environment,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


class Lines:
    """Read a stream line by line until it ends."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._whole: deque[bytes] = deque()
        self._tail = b""

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while not self._whole:
            data = await self._stream.receive_some()
            if not data:
                raise StopAsyncIteration
            *whole, self._tail = (self._tail + data).split(b"\n")
            self._whole.extend(whole)
        return self._whole.popleft().decode()


class NodeProcess:
    """One node that may be killed and started again, on the same port and store. It logs to the file `log`.

    `tls` tells that its options say so.
    """

    def __init__(
        self, nursery: trio.Nursery, port: int, options: Sequence[str], log: Path, *, tls: bool = False
    ) -> None:
        self.port = port
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
        self.announcement = ""
        self._nursery = nursery
        self._options = options
        self._log = log
        self._process: trio.Process | None = None
        self._gone = trio.Event()

    async def start(self) -> None:
        """Start the process and return once it listens. Raises `Failure` if it does not."""
        self._gone = trio.Event()
        with trio.move_on_after(START_S_MAX):
            await self._nursery.start(self._run)
            return
        raise Failure(f"a node did not start within {START_S_MAX:g} s", UNAVAILABLE)

    async def kill(self) -> None:
        """Kill the process with SIGKILL, and return when the system has removed it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._gone.wait()

    async def drain(self) -> None:
        """End the process with SIGTERM, which sends its clients elsewhere, and return when it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await self._gone.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        command = softstate("serve", "--listen", f"127.0.0.1:{self.port}", *self._options)
        with self._log.open("ab") as log:
            async with child(command, log.fileno()) as process:
                self._process = process
                assert process.stdout is not None
                output = Lines(process.stdout)
                try:
                    self.announcement = await anext(output)
                except StopAsyncIteration:
                    raise Failure(await self._reason_for_exit(process), UNAVAILABLE) from None
                task_status.started()
                async for _ in output:
                    pass
        self._gone.set()

    async def _reason_for_exit(self, process: trio.Process) -> str:
        last = (await trio.Path(self._log).read_text("utf-8")).strip().rpartition("\n")[2]
        return f"a node ended with exit code {await process.wait()} before it listened: {last or 'its log is empty'}"
