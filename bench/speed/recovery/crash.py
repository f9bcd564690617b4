"""One crash: open a herd of clients at a server, kill it, start it again, and record its recovery.

The clients run in `parts_of` processes, since the machines of thousands of clients need more than the CPU of one. A
witness beside them reads the accept queue and attempts to publish (`bench.measure.witness`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.load.machines import OPENING_MAX, Spread
from bench.load.process import LoadProcess
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import cpu_s
from bench.measure.publishing import PUT, Publishing
from bench.measure.servers import Server, ServerFailed, count_lost, folder, running
from bench.measure.witness import Attempt, Witness
from softstate.cli.processes.child import free_port

BEATS_CLIENTS_MAX = 5_000
"""Clients that have a beat each second: more would need more of the generators than two cores have beside a node."""
PART_CLIENTS = 1_000
"""A herd of so many clients is opened by two processes."""
SETTLE_TTLS = 1.25 / 3
"""Time in TTLs from the last client's arrival until all have renewed, and know the spread for all."""
LEAD_S = 0.5
"""Time from when the witness begins until the server is killed."""
AFTER_S = 2.0
"""Time from the last client's return until all must hold the newest values."""
PATIENCE_S = 300.0

BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""A busy loop that ends soon after the process whose id it is given."""


@dataclass(frozen=True, slots=True)
class Herd:
    """The clients of one crash, and how it goes. `busy` is the number of cores that other processes keep busy."""

    clients: int
    down_s: float = 0.0
    ttl_s: float = 60.0
    busy: int = 0

    @property
    def beats(self) -> bool:
        """Whether the clients ask for beats."""
        return self.clients <= BEATS_CLIENTS_MAX

    def __str__(self) -> str:
        busy = f", {self.busy} core{'s' if self.busy > 1 else ''} busy" if self.busy else ""
        return f"{self.clients:,} clients, {self.down_s:g} s down{busy}"


@dataclass(frozen=True, slots=True)
class System:
    """A server and its clients. `load` is the module of the load generator; it gets `options` with `open`.

    `command` makes the server's command line from a port and a folder for its files, and `cwd` is where to run it.
    """

    command: Callable[[int, Path, Herd], Sequence[str]]
    cwd: Path | None = None
    load: str = "bench.load.machines"
    options: dict[str, Any] = field(default_factory=dict)
    publishing: Publishing = PUT
    own: bool = True
    """Whether it is softstate, which is asked at the end for what it acknowledged."""


def softstate_system(spread: Spread, checkout: Checkout = THIS) -> System:
    """Return a node of a checkout with its default, durable store, and the real client machine."""

    def command(port: int, home: Path, herd: Herd) -> Sequence[str]:
        words = ("--listen", f"127.0.0.1:{port}", "--store", f"sqlite:{home / 'softstate.db'}")
        return checkout.softstate("serve", *words, "--ttl", f"{herd.ttl_s:g}s")

    return System(command, checkout.folder, options={"spread": spread})


@dataclass(frozen=True, slots=True)
class Crash:
    """The record of one crash. Times are of `time.monotonic`; `answers` are those of the load processes."""

    herd: Herd
    open_s: float
    spread_s: float
    killed_at: float
    listens_at: float
    """When something listened at the port again."""
    answers: Sequence[dict[str, Any]]
    samples: Sequence[tuple[float, int | None]]
    attempts: Sequence[Attempt]
    server_cpu_s: float
    lost: int


def crash(herd: Herd, system: System) -> Crash:
    """Open clients, kill the server, start it again after `herd.down_s`, and return what was recorded."""
    with ExitStack() as stack:
        home = stack.enter_context(folder())
        loads = stack.enter_context(ExitStack())
        parts = [loads.enter_context(LoadProcess(system.load)) for _ in range(parts_of(herd.clients))]
        port = free_port()
        start = partial(running, "server", system.command(port, home, herd), port, home, system.cwd)
        with start():
            open_s = _open(parts, port, herd, system)
            settled = _ask_all(parts, "go_on", seconds=SETTLE_TTLS * herd.ttl_s)
            stack.enter_context(busy(herd.busy))
            for part in parts:
                part.tell("crash", settle_s=AFTER_S, patience_s=PATIENCE_S, freshness=True)
            witness = stack.enter_context(Witness(port, system.publishing))
            time.sleep(LEAD_S)
            killed_at = time.monotonic()
        time.sleep(herd.down_s)
        with start() as server:
            answers = [part.answer() for part in parts]
            server_cpu_s = cpu_s(server.pid)
            witness.end()
            loads.close()
            lost = _lost(server, answers) if system.own else 0
    return Crash(
        herd, open_s, max(answer["spread_s"] for answer in settled), killed_at, witness.listens_at(killed_at),
        answers, witness.samples, witness.attempts, server_cpu_s, lost,
    )  # fmt: skip


def parts_of(clients: int) -> int:
    """Return the number of load processes for so many clients."""
    return 2 if clients >= PART_CLIENTS else 1


def _open(parts: Sequence[LoadProcess], port: int, herd: Herd, system: System) -> float:
    """Open all clients; return the seconds until the last was live."""
    began = time.monotonic()
    for number, part in enumerate(parts):
        share = herd.clients * (number + 1) // len(parts) - herd.clients * number // len(parts)
        options = {**system.options, **({"beats": herd.beats} if system.own else {})}
        part.tell("open", port=port, clients=share, seed=1, part=number, opening=OPENING_MAX // len(parts), **options)
    for part in parts:
        part.answer()
    return time.monotonic() - began


def _ask_all(parts: Sequence[LoadProcess], command: str, **arguments: Any) -> list[dict[str, Any]]:
    for part in parts:
        part.tell(command, **arguments)
    return [part.answer() for part in parts]


def _lost(server: Server, answers: Sequence[dict[str, Any]]) -> int:
    """Return how many topics lack their acknowledged value. A node that collapsed may still serve clients that left."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return sum(count_lost(server, answer["acknowledged"]) for answer in answers)
        except OSError as error:
            if time.monotonic() > ends:
                raise ServerFailed(f"the node answers no GET after its recovery: {error}") from None


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keep so many cores busy with other work."""
    command = [sys.executable, "-c", BUSY, str(os.getpid())]
    with ExitStack() as stack:
        for _ in range(cores):
            process = subprocess.Popen(command)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
