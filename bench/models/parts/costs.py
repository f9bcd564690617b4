"""F-e: memory of a session, CPU of a renewal and an expiry, over the number of sessions; and the TTL that follows."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc

from bench.models.part import Part
from softstate.lease.table import LeaseTable
from softstate.session.load_advice import RENEWALS_PER_TTL

SIZES = {False: (1_000, 10_000, 100_000), True: (1_000, 10_000)}
TTL_S = 60.0
NAMES = 50
"""Distinct names, each held by many sessions."""

TOKEN_BYTES = 80
"""A token as long as a session's, which the table holds, too."""

FULL_RENEWAL_S = 63e-6
"""CPU of a whole renewal of a node, WebSocket and all, by `bench sessions` at b859957."""
SHARE = 0.1
TTL_S_MIN, TTL_S_MAX = 15.0, 600.0


def f_e(seed: int, *, quick: bool) -> Part:
    """Measure the lease table alone, and say what TTL a node would need."""
    part = Part(
        "F-e",
        "memory and CPU of leases over their number, and the TTL that follows",
        f"The product's lease table alone, {NAMES} names, one for each session, TTL {TTL_S:g} s; memory by"
        f" tracemalloc, tokens included. Model of the TTL: renewals may use {SHARE:.0%} of a core, so that L = 3 n"
        f" κ / {SHARE:g}, with κ = {FULL_RENEWAL_S * 1e6:g} us for a whole renewal of a node (`bench sessions`),"
        f" within {TTL_S_MIN:g} and {TTL_S_MAX:g} s.",
        seed,
        machine_bound=True,
    )
    head = ["sessions", "bytes each", "ns a renewal", "ns an expiry", "TTL s, model", "B2 s at it, model"]
    rows = part.table("leases", head)
    costs = part.figure("CPU of a lease over their number", "leases", "ns", log=True)
    held: list[float] = []
    for sessions in SIZES[quick]:
        held_bytes, renew_s, expire_s = measure(sessions)
        ttl_s = ttl_for(sessions)
        stale_s = 1.2 * ttl_s / RENEWALS_PER_TTL + 5.0
        held.append(held_bytes)
        costs.add("renewal", sessions, renew_s * 1e9)
        costs.add("expiry", sessions, expire_s * 1e9)
        rows.append([sessions, held_bytes, renew_s * 1e9, expire_s * 1e9, ttl_s, stale_s])
    least, *_, most = SIZES[quick]
    part.compare(f"bytes each of {most:,} sessions; model: as many as of {least:,}", held[-1], held[0], 0.2)
    part.notes.append(
        "nodes do not adapt their TTL by themselves yet: the last two columns are the model's. With beats, silence is"
        " found after seconds at any TTL"
    )
    return part


def ttl_for(sessions: int) -> float:
    """Return the TTL at which renewals take `SHARE` of a core."""
    return min(max(RENEWALS_PER_TTL * sessions * FULL_RENEWAL_S / SHARE, TTL_S_MIN), TTL_S_MAX)


def measure(sessions: int) -> tuple[float, float, float]:
    """Return the bytes of a session, and the CPU seconds of a renewal and of an expiry, names reaped included."""
    tokens = [f"{number:0{TOKEN_BYTES}}" for number in range(sessions)]
    names = [f"topic/{number}" for number in range(NAMES)]
    gc.collect()
    tracemalloc.start()
    table = LeaseTable(0.0, sessions_max=sessions)
    leases = [table.grant(token, 0.0, TTL_S) for token in tokens]
    for number, lease in enumerate(leases):
        table.add(lease, [names[number % NAMES]])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held += sum(map(sys.getsizeof, tokens)) - sys.getsizeof(leases)  # the list is of this function
    began = time.process_time()
    for lease in leases:
        table.extend(lease, 10.0)
    renew_s = (time.process_time() - began) / sessions
    began = time.process_time()
    now = 0.0
    while len(table):
        now += 1.0
        table.expire(now, sessions)
        table.reap(sessions)
    expire_s = (time.process_time() - began) / sessions
    return held / sessions, renew_s, expire_s
