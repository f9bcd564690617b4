"""``python -m bench publish --sustained``: ten minutes of publishes at full speed, and nothing grows.

Clients publish without rest on many topics each (`bench.load.steady_publishers`), every publish with a number. The run
is cut into spans; after each the node's memory, the store's size, and the numbers that the store remembers are taken.
What has to be remembered is bounded by what publishers have in flight (P-PUB-9), so that no rate fills the store: a
store that remembers each publish for ten minutes refuses all at 1,667 a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import trio

from bench.load.process import LoadProcess
from bench.load.steady_publishers import TOPICS_EACH
from bench.measure.cost import cpu_s, resident_bytes
from bench.measure.engines import Engine, engine
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Rounds
from bench.measure.servers import softstate_server
from softstate.store import open_store
from softstate.store.rules.dump import pages

RUN_S = 600.0
RUN_QUICK_S = 60.0
SPANS = 10
CLIENTS = 4
ENGINES = ("sqlite", "redis")

GROWTH_MAX = 1.25
"""Last span over the first, the warm-up left out, of what has to stay flat."""

COLUMNS = (
    Column("per_s", "publishes/s", digits=0, better="more"),
    Column("refused", "refused", digits=0),
    Column("held", "numbers held", digits=0, better=""),
    Column("p50_s", "p50 ms", 1e3, better=""),
    Column("p99_s", "p99 ms", 1e3),
    Column("resident_bytes", "node MiB", 1 / 2**20, digits=1),
    Column("store_bytes", "store MiB", 1 / 2**20, digits=1),
    Column("cpu_us", "CPU a publish µs", 1e6, digits=1),
)


def sustained(
    measuring: Measuring,
    *,
    engines: Sequence[str] = ENGINES,
    clients: int = CLIENTS,
    run_s: float | None = None,
    spans: int = SPANS,
) -> Report:
    """Publish at full speed for `run_s` on each engine; 10 minutes by default, 1 if quick."""
    measuring.refuse_against("publish --sustained", "it looks for growth within one run, not for a difference of speed")
    seconds = run_s if run_s is not None else RUN_QUICK_S if measuring.quick else RUN_S
    in_flight = clients * TOPICS_EACH
    report = measuring.report(
        "publish --sustained",
        f"{clients} clients publish on {TOPICS_EACH} topics each without rest, for {seconds:g} s, in {spans} spans",
    )
    for kind in engines:
        with engine(kind) as running:
            result = _spans(running, clients, seconds / spans, spans)
        report.table(f"{kind}: each span", result, COLUMNS, baseline="", compares="per_s")
        report.targets += _targets(kind, [runs[0] for runs in result.runs.values()], in_flight)
    return report


def _spans(running: Engine, clients: int, span_s: float, spans: int) -> Rounds:
    result = Rounds()
    with (
        _node(running) as (url, port, pid),
        LoadProcess("bench.load.steady_publishers", str(port), str(clients)) as load,
    ):
        for number in range(1, spans + 1):
            began = cpu_s(pid)
            answer = load.ask("publish", seconds=span_s)
            published = max(1, answer["published"])
            held, store_bytes = trio.run(partial(_held, url))
            result.runs[f"span {number}"] = [
                {
                    "per_s": answer["published"] / span_s,
                    "refused": float(sum(answer["refused"].values())),
                    "held": float(held),
                    "p50_s": answer["p50_s"],
                    "p99_s": answer["p99_s"],
                    "resident_bytes": float(resident_bytes(pid)),
                    "store_bytes": float(store_bytes),
                    "cpu_us": (cpu_s(pid) - began) / published,
                }
            ]
    return result


@contextmanager
def _node(running: Engine) -> Iterator[tuple[str, int, int]]:
    with running.store("sustained") as url, softstate_server(store=url) as server:
        yield url, server.port, server.pid


async def _held(url: str) -> tuple[int, int]:
    """Return the numbers that the store remembers, and its size."""
    store = await open_store(url, read_only=True)
    try:
        held = 0
        async for page in pages(store):
            held = sum(len(each.uses) for each in page.publishers) + (held if page.after else 0)
        return held, (await store.info()).size_bytes
    finally:
        await store.aclose()


def _targets(kind: str, spans: Sequence[Figures], in_flight: int) -> list[Target]:
    refused = sum(span["refused"] for span in spans)
    held = max(span["held"] for span in spans)
    targets = [
        Target(f"{kind}: publishes refused", "0", f"{refused:g}", refused == 0),
        Target(f"{kind}: numbers held", f"at most {in_flight}, those in flight", f"{held:g}", held <= in_flight),
    ]
    first, last = spans[min(1, len(spans) - 1)], spans[-1]
    for figure, name in (
        ("p99_s", "p99"),
        ("resident_bytes", "the node's memory"),
        ("store_bytes", "the store's size"),
    ):
        growth = last[figure] / first[figure] if first[figure] else 1.0
        wanted = f"at most {GROWTH_MAX} of the second"
        targets.append(Target(f"{kind}: {name}, last span", wanted, f"{growth:.2f}", growth <= GROWTH_MAX))
    return targets
