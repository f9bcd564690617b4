"""The costs of a store for session state: the wall time that a node waits for an operation, and bytes of a session.

Each is one row or hash, written over one connection, one after the other, as a node does that answers a client only
once its session is stored. A node that joins the operations of a turn pays less for each, as the batch of 32 shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.measure.engines import engine
from bench.measure.servers import NotInstalled
from bench.spectrum.stores import SessionStore, session_store

OPERATIONS = {False: 1_000, True: 50}
BATCH = 32
BATCHES_MIN = 9
SESSIONS = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of the seconds of wall time of an operation, alone and as one of a batch; bytes of a session."""

    engine: str
    alone_s: float
    batched_s: float
    session_bytes: float


def costs(*, quick: bool) -> tuple[list[Cost], list[str]]:
    """Measure the engines that are installed; return notes about those that are not."""
    found, notes = [], []
    for kind in ("redis", "sqlite", "postgres"):
        try:
            with engine(kind) as started, session_store(kind, started.url) as store:
                found.append(_cost(f"{kind}: {started.about}", store, OPERATIONS[quick]))
        except NotInstalled as missing:
            notes.append(f"{kind} was left out: {missing}")
    return found, notes


def _cost(name: str, store: SessionStore, operations: int) -> Cost:
    def write(first: int, count: int) -> None:
        store.put([(_token(number), "t/1 t/2") for number in range(first, first + count)])

    write(0, SESSIONS)
    session_bytes = store.size() / SESSIONS
    alone_s = _median_s(lambda number: write(number, 1), operations)
    batched_s = _median_s(lambda number: write(number * BATCH, BATCH), max(operations // BATCH, BATCHES_MIN))
    return Cost(name, alone_s, batched_s / BATCH, session_bytes)


def _median_s(call: Callable[[int], None], times: int) -> float:
    took_s = []
    for number in range(times):
        began = time.perf_counter()
        call(number)
        took_s.append(time.perf_counter() - began)
    return median(took_s)


def _token(number: int) -> str:
    return f"s{number % SESSIONS:079}"
