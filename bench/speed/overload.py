"""``python -m bench overload``: new connections at twice and four times what a node can serve, and its goodput.

First the peak is measured, with 64 connections under way at once. Then clients come by the clock, and each gives up
after the time that the node tells its clients to wait (`bench.load.newcomers`). *Goodput* is those that became live in
time, a second. Beside them a publish on a new connection is attempted every 100 ms (`bench.measure.witness`).

A node that serves in order of arrival, and takes all who come, falls to nothing within the time that clients wait: it
serves those that have gone (a metastable failure: Bronson et al., HotOS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.witness import ANSWER_S_MAX, Witness
from bench.speed.sessions import Serving, servings

TIMES = {2: 0.7, 4: 0.5}
"""The load, as a multiple of the peak, and the part of the peak that is to be left of it."""
RUN_S = {False: 30.0, True: 10.0}
PEAK_S = 4.0
PATIENCE_S = 5.0
"""The node's default for how long clients wait."""
LASTING_MIN = 0.8
"""Least goodput of the last third of a run, as a part of that of its first."""
ACKNOWLEDGED_MIN = 0.95

OURS = "softstate"
COLUMNS = (
    Column("goodput", "goodput, of the peak", digits=2, better="more"),
    Column("worst", "in the worst second", digits=2, better="more"),
    Column("last_of_first", "last third / first", digits=2, better="more"),
    Column("came", "came, of the peak", digits=2, better=""),
    Column("refused", "refused", digits=2, better=""),
    Column("gave_up", "gave up", digits=2, better=""),
    Column("acknowledged", "publishes acknowledged", digits=2, better="more"),
    Column("peak_per_s", "peak a second", digits=0, better=""),
    Column("generator_busy", "generator busy", better=""),
)


def overload(measuring: Measuring) -> Report:
    """Measure goodput at each load."""
    report = measuring.report("overload", "new connections beyond what a node can serve")
    for times, least in TIMES.items():
        loading(report, times, least, RUN_S[measuring.quick], PEAK_S, measuring.rounds)
    report.note(f"clients give up after {PATIENCE_S:g} s; publishes count if acknowledged within {ANSWER_S_MAX:g} s")
    report.note("goodput and the worst second leave out the first seconds, in which none has given up yet")
    report.note("the peak is measured in the same round, 64 under way at once; the generator shares the cores")
    return report


def loading(report: Report, times: int, least: float, seconds: float, peak_s: float, rounds: int) -> Rounds:
    """Measure one load, in a new node for each round."""
    candidates: dict[str, Measure] = {
        name: partial(_run, serving, times, seconds, peak_s) for name, serving in servings(report, OURS).items()
    }
    label = f"{times} times the peak"
    result = run_rounds(candidates, rounds, label)
    report.table(f"{label}, for {seconds:g} s", result, COLUMNS, baseline="", compares="goodput")
    if not report.compares:
        report.figure_at_least(f"goodput, {label}", result.median(OURS, "goodput"), least, "of the peak")
        report.figure_at_least(f"it does not fall, {label}", result.median(OURS, "last_of_first"), LASTING_MIN, "of it")
        report.figure_at_least(
            f"publishes acknowledged, {label}", result.median(OURS, "acknowledged"), ACKNOWLEDGED_MIN, "of all"
        )
    return result


def _run(serving: Serving, times: int, seconds: float, peak_s: float) -> Figures:
    with ExitStack() as stack:
        server = stack.enter_context(serving())
        load = stack.enter_context(LoadProcess("bench.load.newcomers"))
        load.ask("peak", port=server.port, seconds=peak_s / 2)  # to warm up
        peak_per_s = load.ask("peak", port=server.port, seconds=peak_s)["per_s"]
        with Witness(server.port) as witness:
            run = load.ask(
                "come", port=server.port, per_s=times * peak_per_s, seconds=seconds, patience_s=PATIENCE_S
            )  # fmt: skip
            witness.end()
    return {**shares(run["live_per_s"], peak_per_s), **_acknowledged(witness), **_others(run, peak_per_s)}


def shares(live_per_s: Sequence[int], peak_per_s: float) -> Figures:
    """Return goodput once clients give up, as parts of the peak."""
    counted = live_per_s[int(min(PATIENCE_S, len(live_per_s) / 2)) :]
    third = max(len(counted) // 3, 1)
    return {
        "goodput": sum(counted) / len(counted) / peak_per_s,
        "worst": min(counted) / peak_per_s,
        "last_of_first": sum(counted[-third:]) / max(sum(counted[:third]), 1),
    }


def _acknowledged(witness: Witness) -> Figures:
    taken = [attempt.took_s <= ANSWER_S_MAX for attempt in witness.attempts]
    return {"acknowledged": sum(taken) / len(taken) if taken else 0.0}


def _others(run: Mapping[str, float], peak_per_s: float) -> Figures:
    return {
        "came": run["came_per_s"] / peak_per_s,
        "refused": run["refused"],
        "gave_up": run["gave_up"],
        "peak_per_s": peak_per_s,
        "generator_busy": run["generator_busy"],
    }
