"""``python -m bench all``: every bench and trial that ends by itself, one after the other, into one file.

Each runs in a process of its own, so that one that fails, or is killed for want of memory, ends no other. The file has
the output of each below its command line, and is complete up to the one that runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.measure import machine
from softstate.errors import ConfigError

SIMULATED = ("models", "spectrum")
"""Repeatable by their seed."""

MEASURED = (
    "fanout", "stalled", "latency", "lone", "beats", "sessions", "streams", "churn", "overload", "recovery", "peers",
    "libraries", "leases", "polls", "reads", "publish", "turns", "workers", "client", "auth", "tls", "nodes", "start",
    "browser",
)  # fmt: skip
"""Of this machine's speed."""

TRIALS = {"simulate": ("--seeds", "20"), "fuzz": ("--for", "10s")}
"""Trials of correctness, which have no --quick, and the options that they get."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One command: its exit code and its time."""

    name: str
    code: int
    took_s: float


def commands(only: Sequence[str], *, quick: bool) -> dict[str, list[str]]:
    """Return the words of each command by its name. Raises `ConfigError` if there is none of a name."""
    words = {name: [name, *(["--quick"] if quick else [])] for name in (*SIMULATED, *MEASURED)}
    words |= {name: [name, *options] for name, options in TRIALS.items()}
    unknown = [name for name in only if name not in words]
    if unknown:
        raise ConfigError(f"there is no {', '.join(unknown)}: --only takes {', '.join(words)}")
    return {name: line for name, line in words.items() if not only or name in only}


def run_everything(
    into: Path, only: Sequence[str], *, quick: bool, run: Callable[[list[str], TextIO], int] | None = None
) -> list[Outcome]:
    """Run the commands and write their output to a file, which is replaced."""
    outcomes: list[Outcome] = []
    lines = commands(only, quick=quick)
    with into.open("w", encoding="utf-8") as file:
        print(", ".join(f"{key}: {value}" for key, value in machine.describe().items()), file=file, flush=True)
        for name, words in lines.items():
            print(f"\n## python -m bench {' '.join(words)}\n", file=file, flush=True)
            began = time.monotonic()
            code = (run or _run)(words, file)
            outcomes.append(Outcome(name, code, time.monotonic() - began))
            print(f"\nexit code {code} after {outcomes[-1].took_s:.0f} s", file=file, flush=True)
            print(f"{name}: exit code {code} after {outcomes[-1].took_s:.0f} s", flush=True)
    return outcomes


def _run(words: list[str], file: TextIO) -> int:
    """Run one command; end it in order if this process is interrupted, so that it ends what it has started."""
    process = subprocess.Popen([sys.executable, "-m", "bench", *words], stdout=file, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
