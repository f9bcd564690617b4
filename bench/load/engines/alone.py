"""The parent's side of `bench.load.engines.native`: what an engine does with nothing of softstate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.engines import Engine
from bench.measure.rounds import Figures
from bench.speed.latency import COMMIT, commit

ALONE = "engine alone"
COMMITS = 500
WARM_UP_S = 0.5
TRY_S = 0.2
"""How long each number of connections is tried, each of several times."""
SQLITE_TOPICS = 16


@dataclass(frozen=True, slots=True)
class Alone:
    """An engine without softstate: `run` gives latencies (called `baseline`), `ask` the rate; each takes seconds.

    It `tells` if these latencies are those of its own way to tell subscribers. `ask_one` is `ask` on one connection,
    where that is not the fastest. None: cannot be measured here.
    """

    baseline: str
    tells: bool
    run: Callable[[float], Figures] | None
    ask: Callable[[float], Figures] | None
    ask_one: Callable[[float], Figures] | None
    about: str
    """How many write at once."""


@contextmanager
def engine_alone(engine: Engine, topics: int, per_s: float) -> Iterator[Alone]:
    """Connect to an engine as a program of its own would, and find out how many connections write most.

    `topics` and `per_s` are for `Alone.run`: a writer for each topic, and how many writes a second they are due to do.
    """
    if engine.kind == "sqlite":
        with LoadProcess("bench.load.servers.sqlite_writer", f"{engine.url}/bare.db") as writer:
            about = "one connection, as SQLite has one writer at a time"
            yield Alone(COMMIT, False, lambda _seconds: commit(COMMITS), partial(_write_sqlite, writer), None, about)
        return
    if not engine.speaks:
        yield Alone(ALONE, False, None, None, None, "")
        return
    with LoadProcess("bench.load.engines.native") as native, ExitStack() as stack:
        native.ask("open", url=engine.url, mark=engine.mark, topics=topics)
        stack.callback(native.ask, "clear")
        native.ask("run", per_s=per_s, seconds=WARM_UP_S)
        found = native.ask("fastest", seconds=TRY_S)
        connections, *others = found["connections"]

        def ask(seconds: float, connections: int = connections) -> Figures:
            return per_answer(native.ask("ask", connections=connections, seconds=seconds))

        yield Alone(
            ALONE,
            True,
            lambda seconds: native.ask("run", per_s=per_s, seconds=seconds),
            ask,
            partial(ask, connections=1) if connections > 1 else None,
            f"{connections} connections in one process; fewer a second with {', '.join(map(str, sorted(others)))}",
        )


def _write_sqlite(writer: LoadProcess, seconds: float) -> Figures:
    run = writer.ask("write", topics=SQLITE_TOPICS, batch=1, seconds=seconds, value_bytes=len(value_of(0)))
    return {"per_s": run["answers"] / run["wall_s"]}


def per_answer(run: Mapping[str, Any]) -> dict[str, float]:
    """Return rates and the generator's cost from what `ask` of this or of `bench.load.asker` answered."""
    return {
        "per_s": run["answers"] / run["wall_s"],
        "asker_cpu_s": run["asker_cpu_s"] / run["answers"],
        "asker_busy": run["asker_cpu_s"] / run["wall_s"],
        "p50_s": run["p50_s"],
        "p99_s": run["p99_s"],
    }
