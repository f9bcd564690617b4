"""``python -m bench beats``: the ages that idle clients state, and how soon they notice a silent node.

Real clients, in the process of the bench, hold one topic each and get no change. With beats their ages are those of the
last beat; without, those of the last renewal. Then the node is stopped (SIGSTOP), which looks to them like a network
that swallows everything: each notes when it no longer takes its connection for live. `bench lone` has what beats cost.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
from collections.abc import Sequence
from functools import partial

import trio

from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, softstate_server
from softstate import Client, connect
from softstate.client.machine.state import BEAT_MS

CLIENTS = {False: 200, True: 50}
SAMPLED_S = {False: 60.0, True: 10.0}
"""With and without ``--quick``. Renewals come every 20 s."""
SAMPLE_EVERY_S = 0.05
TTL_MS = 60_000
"""A node's default; those of benches have a longer one."""

AGE_P50_S_MAX = 0.8
AGE_P99_S_MAX = 1.6
SILENT_S_MAX = 3.5
SILENT_S_WAITED = 40.0
"""Time given to clients to notice; without beats they need a renewal and a timeout, 29 s at most."""

BEATS = "a beat each second"
RENEWALS = "renewals alone"

AGES = (
    Column("age_p50_s", "age p50 s", digits=2),
    Column("age_p99_s", "age p99 s", digits=2),
    Column("silent_p50_s", "noticed p50 s", digits=2),
    Column("silent_max_s", "noticed by all s", digits=2),
)


def beats(measuring: Measuring) -> Report:
    """Measure the ages of idle clients, and the time until they notice a silent node, with and without beats."""
    report = measuring.report("beats", "ages that idle clients state, and a silent node noticed")
    count, seconds = CLIENTS[measuring.quick], SAMPLED_S[measuring.quick]
    candidates = {
        name: partial(_measure, count, seconds, beat_ms) for name, beat_ms in ((BEATS, BEAT_MS), (RENEWALS, None))
    }
    result = run_rounds(candidates, measuring.rounds, "beats")
    report.table(f"{count} idle clients, for {seconds:g} s", result, AGES, baseline=RENEWALS, compares="age_p50_s")
    _judge(report, result)
    return report


def _judge(report: Report, result: Rounds) -> None:
    for figure, name, limit in (
        ("age_p50_s", "age, p50", AGE_P50_S_MAX),
        ("age_p99_s", "age, p99", AGE_P99_S_MAX),
        ("silent_max_s", "a silent node is noticed by all clients", SILENT_S_MAX),
    ):
        report.figure_at_most(name, result.median(BEATS, figure), limit, "s")


def _measure(count: int, seconds: float, beat_ms: int | None) -> Figures:
    with softstate_server() as server:
        return trio.run(_run, server, count, seconds, beat_ms)


async def _run(server: Server, count: int, seconds: float, beat_ms: int | None) -> Figures:
    ages: list[float] = []
    noticed: list[float] = []
    async with trio.open_nursery() as nursery:
        clients = [await nursery.start(_hold, server.port, number, beat_ms) for number in range(count)]
        await trio.sleep(2.0)
        ends = trio.current_time() + seconds
        while trio.current_time() < ends:
            ages += [client.age for client in clients]
            await trio.sleep(SAMPLE_EVERY_S)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await _notice(clients, noticed)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        nursery.cancel_scope.cancel()
    percentiles = statistics.quantiles(ages, n=100)
    return {
        "age_p50_s": percentiles[49],
        "age_p99_s": percentiles[98],
        "silent_p50_s": statistics.median(noticed),
        "silent_max_s": max(noticed),
    }


async def _hold(
    port: int, number: int, beat_ms: int | None, task_status: trio.TaskStatus[Client] = trio.TASK_STATUS_IGNORED
) -> None:
    """Hold one topic until cancelled."""
    url, name = f"ws://127.0.0.1:{port}", f"inbox/{number:06}"
    async with connect(url, ttl_ms=TTL_MS, beat_ms=beat_ms) as client, client.subscribe(name):
        async for mode in client.modes():
            if mode == "live":
                break
        task_status.started(client)
        await trio.sleep_forever()


async def _notice(clients: Sequence[Client], noticed: list[float]) -> None:
    """Note for each client after how many seconds it is no longer live; infinity if it never notices."""
    stopped = trio.current_time()

    async def watch(client: Client) -> None:
        async for mode in client.modes():
            if mode != "live":
                noticed.append(trio.current_time() - stopped)
                return

    with trio.move_on_after(SILENT_S_WAITED):
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(watch, client)
    noticed += [math.inf] * (len(clients) - len(noticed))
