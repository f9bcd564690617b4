"""The place of one scenario: a server of as many workers, and as many load processes, as its connections need."""

from __future__ import annotations

import math
import re
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.durations import Durations
from bench.load.process import LoadProcess
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import children_of, cpu_s, resident_bytes
from bench.measure.servers import Server, ServerFailed, softstate_server
from softstate.errors import ConfigError
from softstate.lease.weight import NAME_BYTES, SESSION_BYTES
from softstate.server.config import ServerConfig
from softstate.server.descriptors import RESERVED
from softstate.server.memory.watch import CONNECTION_BYTES

FILES_UNLIMITED = 65_536
"""Files that a process may open where the system sets no limit."""
OTHER_FILES = 100
"""Descriptors of a process beside its connections, and connections of a node beside those of subscribers."""
UNEVEN = 1.05
"""The most connections of a worker over their mean: the kernel assigns them by a hash."""
PARTS_FROM = 2_000
"""From so many sessions on, two load processes share them: one has the CPU of one core at most."""
PROCESS_BYTES = 64 * 1024**2
CONNECTION_BYTES_ALL = 14 * 1024
"""Memory of a connection: 3 KiB of a node, 3 of a load process, 8 of the kernel for both ends."""
SAMPLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Needs:
    """The processes that so many connections need."""

    connections: int
    workers: int
    parts: int

    @property
    def bytes(self) -> int:
        """Memory of all processes together, and of the kernel's sockets. An estimate."""
        return self.connections * CONNECTION_BYTES_ALL + (self.workers + self.parts) * PROCESS_BYTES


def needs_of(connections: int, files: int) -> Needs:
    """Return what so many connections need, if a process may open so many files."""
    of_node = min(ServerConfig().connections_max, files - RESERVED) - OTHER_FILES
    of_part = files - OTHER_FILES
    if min(of_node, of_part) < 1:
        raise ConfigError(f"this process may open {files} files: raise the limit (ulimit -n)")
    parts = max(math.ceil(connections / of_part), 2 if connections >= PARTS_FROM else 1)
    return Needs(connections, math.ceil(connections * UNEVEN / of_node), parts)


def fitting(connections: int) -> Needs:
    """Return what so many connections need on this machine. Raises `ConfigError` if it has not the memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needs = needs_of(connections, FILES_UNLIMITED if hard == resource.RLIM_INFINITY else hard)
    available = available_bytes()
    if needs.bytes > available:
        raise ConfigError(
            f"{connections:,} connections need {needs.bytes / 1024**3:.1f} GiB, of which this machine has"
            f" {available / 1024**3:.1f}: give a smaller number with --sessions"
        )
    return needs


def available_bytes() -> int:
    """Return the memory that is free for other processes; what cannot be told counts as enough."""
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 2**62


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of all workers at one time, in seconds since the phase began."""

    at_s: float
    sessions: float
    connections: float
    resident: int


@dataclass(frozen=True, slots=True)
class Phase:
    """Some seconds of a scenario: sums over all load processes, CPU of all workers, and samples."""

    seconds: float
    counts: Counter[str]
    present: int
    stale: Durations
    opening: Durations
    generator_busy: float
    """Share of one core of the busiest load process."""
    cpu_s: float
    samples: Sequence[Sample]

    def per_s(self, counted: str) -> float:
        """Return how many of something there were a second."""
        return self.counts[counted] / self.seconds

    def mean(self, figure: str) -> float:
        """Return the mean of a figure of the samples. Raises `ServerFailed` if there is none."""
        if not self.samples:
            raise ServerFailed("the workers did not tell their metrics in time: this machine is too busy to measure on")
        return sum(float(getattr(sample, figure)) for sample in self.samples) / len(self.samples)


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and the load processes that share a load."""

    needs: Needs
    server: Server
    pids: Sequence[int]
    parts: Sequence[LoadProcess]
    empty_bytes: int

    def open(self, mean_s: float, away_s: Sequence[float] = (), seed: int = 1) -> None:
        """Prepare the load processes."""
        for number, part in enumerate(self.parts):
            part.ask("open", port=self.server.port, part=number, mean_s=mean_s, seed=seed, away_s=list(away_s))

    def fill(self, sessions: int, per_s: float) -> Phase:
        """Let so many arrive, evenly, until all are subscribed."""
        count = len(self.parts)
        shares = [sessions * (number + 1) // count - sessions * number // count for number in range(count)]
        return self._run("fill", [{"sessions": share, "per_s": per_s / count} for share in shares], 0.0)

    def live(self) -> None:
        """Begin their lives."""
        for part in self.parts:
            part.ask("live")

    def phase(
        self,
        seconds: float,
        per_s: float = 0.0,
        publishes_per_s: float = 0.0,
        crowd: int = 0,
        departure: float = 0.0,
        sample_s: float = SAMPLE_S,
        *,
        followed: bool = True,
    ) -> Phase:
        """Go on for some seconds, with arrivals and publishes at these rates, as `bench.load.churn.Churn.phase`."""
        count = len(self.parts)
        arguments = {
            "seconds": seconds, "per_s": per_s / count, "publishes_per_s": publishes_per_s / count,
            "departure": departure, "followed": followed,
        }  # fmt: skip
        shares = [crowd * (number + 1) // count - crowd * number // count for number in range(count)]
        return self._run("phase", [{**arguments, "crowd": share} for share in shares], seconds, sample_s)

    def rest(self, seconds: float) -> int:
        """Go on without arrivals and publishes; return how many lack the newest value of their topic."""
        for part in self.parts:
            part.tell("rest", seconds=seconds)
        return sum(part.answer()["behind"] for part in self.parts)

    def _run(
        self, command: str, arguments: Sequence[dict[str, Any]], seconds: float, sample_s: float = SAMPLE_S
    ) -> Phase:
        began, before = time.monotonic(), self._cpu_s()
        sample_s = min(sample_s, seconds / 2)
        for part, each in zip(self.parts, arguments, strict=True):
            part.tell(command, **each)
        samples = []
        while (left_s := began + seconds - time.monotonic()) > sample_s / 2:
            time.sleep(min(sample_s, left_s))
            samples += self._sampled(time.monotonic() - began)
        answers = [part.answer() for part in self.parts]
        spent_s, lasted_s = self._cpu_s() - before, time.monotonic() - began
        counts: Counter[str] = Counter()
        for answer in answers:
            counts.update(answer["counts"])
        return Phase(
            lasted_s,
            counts,
            sum(answer["present"] for answer in answers),
            Durations(answer["stale"] for answer in answers),
            Durations(answer["opening"] for answer in answers),
            max(answer["generator_busy"] for answer in answers),
            spent_s,
            samples,
        )

    def _cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in self.pids)

    def _resident(self) -> int:
        return sum(resident_bytes(pid) for pid in self.pids)

    def _sampled(self, at_s: float) -> list[Sample]:
        """Return a sample; none if a worker did not answer the one that was asked, which tells of those that did."""
        metrics = self.server.get("/metrics").decode()
        sessions, connections = (summed(metrics, name) for name in ("sessions", "connections"))
        if sessions is None or connections is None or sessions[0] != self.needs.workers:
            return []
        return [Sample(at_s, sessions[1], connections[1], self._resident())]

    def model_bytes(self, sessions: float, connections: float) -> float:
        """Return the memory of all workers by what the product itself counts for a lease, a name and a connection."""
        return self.empty_bytes + sessions * (SESSION_BYTES + NAME_BYTES) + connections * CONNECTION_BYTES


def summed(metrics: str, name: str) -> tuple[int, float] | None:
    """Return in how many rows, one for each worker, a gauge is, and their sum; None if there is none."""
    rows = re.findall(rf"^softstate_{name}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
    return (len(rows), sum(map(float, rows))) if rows else None


@contextmanager
def place(needs: Needs, ttl_s: float, checkout: Checkout = THIS) -> Iterator[Place]:
    """Run a server, durable, and its load processes."""
    with ExitStack() as stack:
        words = ("--ttl", f"{ttl_s:g}s", "--workers", str(needs.workers))
        server = stack.enter_context(softstate_server(*words, checkout=checkout))
        pids = (server.pid, *children_of(server.pid))
        parts = [stack.enter_context(LoadProcess("bench.load.churn")) for _ in range(needs.parts)]
        yield Place(needs, server, pids, parts, sum(resident_bytes(pid) for pid in pids))
