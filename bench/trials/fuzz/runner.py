"""Fuzz all parsers that read from the network or from files: ``python -m bench fuzz --target all --for 60s``.

Each input has a seed of its own, derived from the run's seed and the input's number, so that a finding can be repeated
without the inputs before it. A finding is an input that makes a parser raise an exception that is not documented, break
a rule in its answer, or take longer than `SLOW_S`. It is minimised, and printed with a line that repeats it.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

import trio
from trio.testing import MockClock

from bench.trials.fuzz.client_targets import ClientHttpTarget, ClientSocketTarget
from bench.trials.fuzz.frames_target import FramesTarget
from bench.trials.fuzz.http1_target import Http1Target
from bench.trials.fuzz.machine_target import MachineTarget
from bench.trials.fuzz.minimiser import minimise
from bench.trials.fuzz.node_targets import HttpTarget, SocketTarget
from bench.trials.fuzz.parser_targets import CborTarget, ConfigTarget, JsonTarget, NamesTarget, NdjsonTarget
from bench.trials.fuzz.target import Broken, Target
from softstate.testing.simulation.determinism import captured_logs, deterministic_scheduling

TARGETS: dict[str, Callable[[], Target]] = {
    made.name: made
    for made in (
        CborTarget, JsonTarget, FramesTarget, NamesTarget, NdjsonTarget, ConfigTarget, MachineTarget,
        Http1Target, HttpTarget, SocketTarget, ClientHttpTarget, ClientSocketTarget,
    )
}  # fmt: skip

SLOW_S = 1.0
"""An input of at most 64 KiB that takes longer is a finding, since other clients wait for that time."""

HANG_S = 10.0
"""An input that takes so long is interrupted."""

BATCH = 50
"""Inputs of one run of Trio, which share the node under test."""

MINIMISE_TRIES_MAX = 1_000


@dataclass
class Finding:
    """One input that broke a rule."""

    target: str
    seed: int
    number: int
    data: bytes
    error: str

    def __str__(self) -> str:
        return (
            f"{self.target}: seed {self.seed}, input {self.number}, {len(self.data)} bytes when minimised\n"
            f"{self.error}\n"
            f'repeat: python -c "from bench.trials.fuzz.runner import repeat; repeat({self.target!r}, {self.data!r})"'
        )


@dataclass
class Tally:
    """The inputs of one target, and their results."""

    target: str
    executions: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    finding: Finding | None = None

    def __str__(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        most = ", ".join(f"{outcome} {count}" for outcome, count in self.outcomes.most_common(6))
        verdict = "FAILED" if self.finding else "ok"
        return f"{self.target:<14} {self.executions:>9} inputs {rate:>8.0f}/s  {verdict}  ({most})"


def input_of(target: Target, seed: int, number: int) -> bytes:
    """Return the input with a number of a run."""
    return target.make(Random(f"{target.name}:{seed}:{number}"))


def fuzz(name: str, seed: int, *, seconds: float | None = None, count: int | None = None, first: int = 0) -> Tally:
    """Feed a target for some seconds, or a number of inputs, or until a finding."""
    return run_target(TARGETS[name](), seed, seconds=seconds, count=count, first=first)


def run_target(
    target: Target, seed: int, *, seconds: float | None = None, count: int | None = None, first: int = 0
) -> Tally:
    """Do the same as `fuzz` with a target that need not be in `TARGETS`."""
    tally = Tally(target.name)
    began = time.perf_counter()
    number, end = first, first + count if count is not None else None
    while number != end and (seconds is None or time.perf_counter() < began + seconds) and tally.finding is None:
        size = BATCH if end is None else min(BATCH, end - number)
        inputs = [input_of(target, seed, number + index) for index in range(size)]
        done, error = feed(target, inputs, tally.outcomes)
        tally.executions += done
        number += done
        if error is not None:
            tally.seconds = time.perf_counter() - began
            tally.finding = _finding(target, seed, number - 1, inputs[done - 1], error)
            return tally
    tally.seconds = time.perf_counter() - began
    return tally


def feed(target: Target, inputs: Sequence[bytes], outcomes: Counter[str]) -> tuple[int, str | None]:
    """Feed inputs in one run of Trio; return the number begun, and the traceback of the last one if it broke a rule."""
    done = 0

    async def main() -> None:
        nonlocal done
        async with target.running():
            for data in inputs:
                done += 1
                began = time.process_time()  # a busy machine is no fault of the input; _alarm() ends real waits
                with _alarm():
                    outcomes[await target.check(data)] += 1
                if time.process_time() - began > SLOW_S:
                    raise Broken(f"took {time.process_time() - began:.1f} s of CPU")

    try:
        if target.virtual:
            with deterministic_scheduling(0), captured_logs():
                trio.run(main, clock=MockClock(autojump_threshold=0))
        else:
            trio.run(main)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - any exception that escapes is a finding
        return done, "".join(traceback.format_exception(_leaf(error), limit=-6))
    return done, None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _alarm() -> Iterator[None]:
    """Interrupt an endless loop, also one without checkpoints."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Broken(f"still busy after {HANG_S:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _finding(target: Target, seed: int, number: int, data: bytes, error: str) -> Finding:
    """Minimise a failing input, keeping the kind of its error."""
    kind = _kind(error)
    last = error

    def fails(smaller: bytes) -> bool:
        nonlocal last
        _, found = feed(target, [smaller], Counter())
        if found is None or _kind(found) != kind:
            return False
        last = found
        return True

    if not fails(data):
        return Finding(target.name, seed, number, data, f"only together with the inputs before it:\n{error}")
    return Finding(target.name, seed, number, minimise(data, fails, MINIMISE_TRIES_MAX), last)


def _kind(error: str) -> str:
    return error.strip().rpartition("\n")[2].lstrip(" |").partition(":")[0]


def repeat(name: str, data: bytes) -> None:
    """Feed one input to a target, and print the result."""
    outcomes: Counter[str] = Counter()
    _, error = feed(TARGETS[name](), [data], outcomes)
    print(error or f"no rule was broken: {next(iter(outcomes))}")
