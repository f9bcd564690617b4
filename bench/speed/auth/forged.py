"""Forged tokens, each another one, beside an innocent that publishes.

They come from one address: the node looks at ten of them a second, and answers 429 to the others (P-AUTH-11).
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import get_args

from bench.load.closed_loop import SEQUENCE
from bench.load.process import LoadProcess
from bench.measure.cost import cpu_s
from bench.measure.permissions import Algorithm
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server
from bench.speed.auth.candidates import Nodes
from bench.speed.polls import head, presenting

FORGERS = 4
"""Connections that present forged tokens."""
LEAD_S = 0.3
"""Time by which forged tokens begin earlier and end later."""
PER_S = 100.0
"""Publishes a second of the innocent."""
TOPICS = 10
PUBLISHERS = 4
RATIO_MAX = 2.0
WANTED_PER_S = 5_000
JUDGED_PER_S = 1_000
"""Forged tokens a second below which the innocent's delays say nothing about them: the forgers were kept waiting."""

ALONE = "alone"
COLUMNS = (
    Column("acknowledged_p99_s", "p99 ms", 1e3),
    Column("acknowledged_p50_s", "p50 ms", 1e3),
    Column("applied_p99_s", "until applied, p99 ms", 1e3),
    Column("forged_per_s", "forged tokens a second", digits=0, better=""),
    Column("forged_cpu_s", "server CPU us each", 1e6, 1),
    Column("server_busy", "server busy", better=""),
)


def beside(algorithm: Algorithm) -> str:
    """Return the candidate beside which tokens of an algorithm are forged."""
    return f"beside forged {algorithm}"


def forged(report: Report, nodes: Nodes, seconds: float, rounds: int) -> Rounds:
    """Measure the innocent's publishes alone, and beside forged tokens of each algorithm."""
    server = nodes.checking
    with ExitStack() as stack:
        innocent = stack.enter_context(LoadProcess("bench.load.open_loop"))
        forger = stack.enter_context(LoadProcess("bench.load.closed_loop"))
        token = nodes.permissions.load_token()
        innocent.ask("open", port=server.port, topics=TOPICS, subscribers_each=1, publishers=PUBLISHERS, token=token)
        forger.ask("step_back")
        forger.ask("open", port=server.port, connections=FORGERS, protocol="http")
        innocent.ask("run", per_s=PER_S, seconds=seconds / 4)
        candidates: dict[str, Measure] = {ALONE: partial(_innocent, server, innocent, seconds)}
        for algorithm in get_args(Algorithm):
            request = forged_request(nodes.permissions.tokens(algorithm, 1)[0])
            candidates[beside(algorithm)] = partial(_beside, server, innocent, forger, request, seconds)
        result = _charged(run_rounds(candidates, rounds, "forged tokens"))
    title = (
        f"an innocent's {PER_S:.0f} publishes a second, from due to acknowledged; {FORGERS} connections forge tokens"
    )
    report.table(title, result, COLUMNS, baseline=ALONE, compares="acknowledged_p99_s")
    for algorithm in get_args(Algorithm):
        name = beside(algorithm)
        rate = result.median(name, "forged_per_s")
        what = f"p99 of publishes {name}"
        if rate < JUDGED_PER_S:
            report.targets.append(Target(what, f"≤ {RATIO_MAX:g} x {ALONE}", f"only {rate:,.0f} tokens a second", None))
        else:
            report.at_most(what, result, name, ALONE, "acknowledged_p99_s", RATIO_MAX)
        if rate < WANTED_PER_S:
            report.note(f"{name}: {rate:,.0f} a second, not {WANTED_PER_S:,}: the node, or the machine, takes no more")
    return result


def forged_request(token: str) -> str:
    """Return the template of a GET whose token has another signature each time, made as signatures are."""
    signed, _, signature = token.rpartition(".")
    other = f"{signed}.{SEQUENCE.decode()}{signature[len(SEQUENCE) :]}"
    return presenting(head("GET", "/v1/topics/bench/forged"), other)


def _innocent(server: Server, innocent: LoadProcess, seconds: float) -> Figures:
    began, cpu = time.monotonic(), cpu_s(server.pid)
    figures = innocent.ask("run", per_s=PER_S, seconds=seconds)
    busy = (cpu_s(server.pid) - cpu) / (time.monotonic() - began)
    return figures | {"server_busy": busy, "forged_per_s": 0.0}


def _beside(server: Server, innocent: LoadProcess, forger: LoadProcess, request: str, seconds: float) -> Figures:
    forger.tell("ask", request=request, seconds=seconds + 2 * LEAD_S, good="HTTP/1.1 4")
    time.sleep(LEAD_S)
    figures = _innocent(server, innocent, seconds)
    run = forger.answer()
    return {**figures, "forged_per_s": run["answers"] / run["wall_s"]}


def _charged(result: Rounds) -> Rounds:
    """Charge each forged token with the CPU that the node used above what the innocent costs alone."""
    runs: dict[str, list[Figures]] = {}
    for name, mine in result.runs.items():
        pairs = zip(mine, result.runs[ALONE], strict=True)
        runs[name] = [
            {**run, "forged_cpu_s": (run["server_busy"] - alone["server_busy"]) / run["forged_per_s"]}
            if run["forged_per_s"]
            else run
            for run, alone in pairs
        ]
    return Rounds(runs)
