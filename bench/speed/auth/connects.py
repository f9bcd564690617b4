"""The cost of credentials for connect, hello and subscribe, by whether their token was verified before."""

from __future__ import annotations

from functools import partial

from bench.load.process import LoadProcess
from bench.measure.beside import ADDED, with_added
from bench.measure.permissions import Algorithm
from bench.measure.report import Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.speed.auth.candidates import IGNORING, OPEN, Nodes
from bench.speed.sessions import COST, Pair

CACHED = "a token that was verified before"
HS256 = "HS256, a new token"
ES256 = "ES256, a new token"
ADDED_US_MAX = {CACHED: 5.0, HS256: 60.0, ES256: 230.0}


def connects(report: Report, nodes: Nodes, connections: int, rounds: int) -> Rounds:
    """Open sessions without credentials and with them; each session presents a token of its own."""
    with LoadProcess("bench.load.sessions") as to_open, LoadProcess("bench.load.sessions") as to_checking:
        unchecked, checked = Pair(nodes.open, to_open), Pair(nodes.checking, to_checking)
        known = nodes.permissions.tokens("HS256", connections)
        unchecked.open_and_leave(connections)  # to warm up, and to have the tokens verified
        checked.open_and_leave(connections, tokens=known)
        candidates: dict[str, Measure] = {
            OPEN: partial(unchecked.open_and_leave, connections),
            IGNORING: partial(unchecked.open_and_leave, connections, tokens=known),
            CACHED: partial(checked.open_and_leave, connections, tokens=known),
            HS256: partial(_new, checked, nodes, "HS256", connections),
            ES256: partial(_new, checked, nodes, "ES256", connections),
        }
        result = with_added(run_rounds(candidates, rounds, "connect"), OPEN)
    title = f"connect + hello + subscribe, {connections:,} sessions"
    report.table(title, result, (*COST, ADDED), baseline=OPEN, compares="server_cpu_s")
    report.note_busy(title, result)
    for name, limit in ADDED_US_MAX.items():
        report.figure_at_most(f"CPU added to a connect: {name}", result.median(name, "added_s") * 1e6, limit, "us")
    return result


def _new(pair: Pair, nodes: Nodes, algorithm: Algorithm, connections: int) -> Figures:
    return pair.open_and_leave(connections, tokens=nodes.permissions.tokens(algorithm, connections))
