"""Runs of `bench.load.engines.native`: the figures of an engine without softstate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.engines import Engine
from bench.measure.rounds import Figures
from bench.speed.closed_loop_runs import figures_of
from bench.speed.latency import COMMIT, commit

ALONE = "engine alone"
COMMITS = 500
WARM_UP_S = 0.5
TRY_S = 0.2
"""Duration of one try of a number of connections."""
SQLITE_TOPICS = 16


@dataclass(frozen=True, slots=True)
class Alone:
    """An engine without softstate. `run` returns latencies (called `baseline`), `ask` the rate; both take seconds.

    `notifies`: the latencies are those of the engine's own notifications. `ask_one` is `ask` on one connection, if that
    is not the fastest. None stands for measurements that are not possible.
    """

    baseline: str
    notifies: bool
    run: Callable[[float], Figures] | None
    ask: Callable[[float], Figures] | None
    ask_one: Callable[[float], Figures] | None
    about: str
    """The number of connections, in words."""


@contextmanager
def engine_alone(engine: Engine, topics: int, per_s: float) -> Iterator[Alone]:
    """Connect to an engine directly, and find the number of connections with the greatest rate.

    `topics` and `per_s` are for `Alone.run`: a writer for each topic, and the rate of all writes.
    """
    if engine.kind == "sqlite":
        with LoadProcess("bench.load.servers.sqlite_writer", f"{engine.url}/bare.db") as writer:
            about = "one connection, as SQLite has one writer at a time"
            yield Alone(COMMIT, False, lambda _seconds: commit(COMMITS), partial(_write_sqlite, writer), None, about)
        return
    if not engine.has_native:
        yield Alone(ALONE, False, None, None, None, "")
        return
    with LoadProcess("bench.load.engines.native") as native, ExitStack() as stack:
        native.ask("open", url=engine.url, mark=engine.mark, topics=topics)
        stack.callback(native.ask, "clear")
        native.ask("run", per_s=per_s, seconds=WARM_UP_S)
        found = native.ask("fastest", seconds=TRY_S)
        connections, *others = found["connections"]

        def ask(seconds: float, connections: int = connections) -> Figures:
            return figures_of(native.ask("ask", connections=connections, seconds=seconds))

        yield Alone(
            ALONE,
            True,
            lambda seconds: native.ask("run", per_s=per_s, seconds=seconds),
            ask,
            partial(ask, connections=1) if connections > 1 else None,
            f"{connections} connections in one process; lower rates with {', '.join(map(str, sorted(others)))}",
        )


def _write_sqlite(writer: LoadProcess, seconds: float) -> Figures:
    run = writer.ask("write", topics=SQLITE_TOPICS, batch=1, seconds=seconds, value_bytes=len(value_of(0)))
    return {"per_s": run["answers"] / run["wall_s"]}
