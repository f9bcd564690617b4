"""Figures of one crash, from its record; and its course, a row for each step of time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from bench.measure.rounds import Figures
from bench.speed.recovery.crash import PATIENCE_S, Crash

SHARES = {"50": 0.5, "99": 0.99, "all": 1.0}
PUBLISHES_S_MIN = 3.0
"""Publishes count from when the server listens again until 99 % are live, and for at least so long."""
COURSE_ROWS = 40
COURSE_STEP_S = 0.25

_AT, _LIVE, _FRESH, _DIALS, _REFUSED, _POLLS = range(6)


def figures_of(record: Crash, floor_per_s: float = math.nan) -> dict[str, float]:
    """Return the figures; times count from the kill, those with ``_up_`` from when the server listened again.

    `floor_per_s` is the rate of handshakes of a bare server (NaN: not measured).
    """
    clients, answers = record.herd.clients, record.answers
    away_s = record.listens_at - record.killed_at
    live_s = shares_of([at for answer in answers for at in answer["back_s"]], clients)
    fresh_s = shares_of([at for answer in answers for at in answer["fresh_s"]], clients)
    bound_s = max(record.spread_s, record.open_s)
    dials, refused, polls = (sum(answer[name] for answer in answers) for name in ("attempts", "refused", "polls"))
    stall_s, fall = stall_of(record)
    attempted, acknowledged = publishes_of(record, away_s + live_s["99"])
    return {
        **{f"live_{name}_s": at for name, at in live_s.items()},
        **{f"fresh_{name}_s": at for name, at in fresh_s.items()},
        "live_99_up_s": live_s["99"] - away_s,
        "fresh_99_up_s": fresh_s["99"] - away_s,
        "stretch": (live_s["all"] - away_s) / bound_s,
        "stretch_99": (live_s["99"] - away_s) / bound_s,
        "attempts": dials / clients,
        "attempts_up": (dials - refused) / clients,
        "polls": polls / clients,
        "knocks": (dials + polls) / clients,
        "shed": sum(answer["shed"] for answer in answers) / clients,
        "handshakes_peak": peak_of(record),
        "queue_peak": max((waiting or 0 for at, waiting in record.samples if at > record.listens_at), default=0),
        "attempted": attempted,
        "acknowledged": acknowledged,
        "acknowledged_share": acknowledged / attempted if attempted else 0.0,
        "stall_s": stall_s,
        "fall": fall,
        "spread_s": record.spread_s,
        "serve_s": record.open_s,
        "floor_s": clients / floor_per_s,
        "down_s": away_s,
        "generator_busy": max(answer["generator_busy"] for answer in answers),
        "server_cpu_s": record.server_cpu_s,
        "lost": float(record.lost),
        "unsettled": float(sum(answer["unsettled"] for answer in answers)),
        "stale": float(sum(answer["stale"] for answer in answers)),
        "checks": float(sum(answer["checks"] for answer in answers)),
        "too_low": float(sum(answer["too_low"] for answer in answers)),
        "least_margin_s": min(answer["least_margin_s"] for answer in answers),
    }


def shares_of(times_s: Sequence[float], clients: int) -> dict[str, float]:
    """Return the times at which shares of the clients were there; `PATIENCE_S` for a client that never was."""
    times = sorted(times_s) + [PATIENCE_S] * (clients - len(times_s))
    return {name: times[max(math.ceil(clients * share) - 1, 0)] for name, share in SHARES.items()}


def publishes_of(record: Crash, until_s: float) -> tuple[int, int]:
    """Return how many publishes were attempted since the server listens again, and how many acknowledged in time.

    Counted are those that began within `until_s` of the kill, or within `PUBLISHES_S_MIN` of when it listened.
    """
    ends_at = max(record.killed_at + until_s, record.listens_at + PUBLISHES_S_MIN)
    counted = [attempt for attempt in record.attempts if record.listens_at <= attempt.began_at <= ends_at]
    return len(counted), sum(attempt.took_s < math.inf for attempt in counted)


def stall_of(record: Crash) -> tuple[float, float]:
    """Return for how long the number of live clients did not grow, and the most by which it fell, at worst.

    From when the server listens again until 99 % are live; a stall at the start counts from the first live client, and
    the whole time is one if there is none.
    """
    wanted = math.ceil(record.herd.clients * SHARES["99"])
    began_at = record.listens_at if record.listens_at < math.inf else record.killed_at
    most, grown_at, stall_s, fall = 0, math.inf, 0.0, 0
    at = began_at
    for at in _times(record):
        if at < began_at:
            continue
        live = _counts(record, at)[_LIVE]
        stall_s = max(stall_s, at - grown_at)
        if live > most:
            most, grown_at = live, at
        fall = max(fall, most - live)
        if live >= wanted:
            break
    return stall_s if most else max(at - began_at, 0.0), float(fall)


def peak_of(record: Crash) -> float:
    """Return the most dials that reached the server within one second."""
    seconds: Counter[int] = Counter()
    for answer in record.answers:
        before = 0
        for row in answer["course"]:
            reached = row[_DIALS] - row[_REFUSED]
            seconds[math.floor(row[_AT] - record.killed_at)] += reached - before
            before = reached
    return float(max(seconds.values(), default=0))


def course_of(record: Crash) -> list[tuple[float, Figures]]:
    """Return seconds from the kill, with the figures of that moment: counts until then, and the longest queue."""
    clients, answers = record.herd.clients, record.answers
    ends_s = max(answer["course"][-1][_AT] for answer in answers) - record.killed_at
    step_s = COURSE_STEP_S * max(math.ceil(ends_s / COURSE_ROWS / COURSE_STEP_S), 1)
    rows: list[tuple[float, Figures]] = []
    for number in range(1, math.ceil(ends_s / step_s) + 1):
        at_s = number * step_s
        since, until = record.killed_at + at_s - step_s, record.killed_at + at_s
        counts = _counts(record, until)
        queue = [waiting for at, waiting in record.samples if since < at <= until and waiting is not None]
        tried = [attempt for attempt in record.attempts if since < attempt.began_at <= until]
        figures = {
            "live": counts[_LIVE] / clients,
            "fresh": counts[_FRESH] / clients,
            "dials": counts[_DIALS] / clients,
            "refused": counts[_REFUSED] / clients,
            "polls": counts[_POLLS] / clients,
            "attempted": float(len(tried)),
            "acknowledged": float(sum(attempt.took_s < math.inf for attempt in tried)),
        }
        if queue:
            figures["queue"] = float(max(queue))
        rows.append((at_s, figures))
    return rows


def _times(record: Crash) -> list[float]:
    return sorted(row[_AT] for answer in record.answers for row in answer["course"])


def _counts(record: Crash, at: float) -> list[int]:
    """Return the sums over the load processes of their newest rows at a time."""
    sums = [0] * 6
    for answer in record.answers:
        rows = answer["course"]
        number = bisect_right(rows, at, key=lambda row: row[_AT]) - 1
        if number >= 0:
            sums = [total + count for total, count in zip(sums, rows[number], strict=True)]
    return sums
