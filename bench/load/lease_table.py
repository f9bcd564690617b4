"""The steps of a lease table, or of a bare dict that does the same, timed in a process of their own.

``python -m bench.load.lease_table``, driven over `bench.load.process`; meant for one command in each process, so that
no run inherits another's heap. The steps are those of a node: leases are granted over one TTL; each is renewed
`RENEWALS` times within a TTL, in random order; the wheel visits each once; then renewals stop, and all expire. Tokens
are made before the clock starts, and referenced by the table alone at the end. The garbage collector runs, as in a
node.
"""

from __future__ import annotations

import time
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any

from bench.load.process import LoadFailed, serve
from softstate.lease import LeaseTable
from softstate.lease.timer_wheel import TICK_S

TTL_S = 60.0
GRACE = 0.1
LASTS_S = TTL_S * (1 + GRACE)
RENEWALS = 3
"""Renewals of a client within its TTL."""
SEED = 1


class Candidate(ABC):
    """A structure of deadlines by token."""

    @abstractmethod
    def grant(self, tokens: Sequence[str], nows: Sequence[float]) -> list[Any]:
        """Add each token until TTL plus grace after its time in `nows`; return the objects to renew."""

    @abstractmethod
    def renew(self, holders: Sequence[Any], now: float) -> None:
        """Renew these, all at the time `now`."""

    @abstractmethod
    def visit(self, now: float) -> None:
        """Do the work of once in a TTL, which does not depend on the number of renewals."""

    @abstractmethod
    def expire(self, begins: float, ends: float) -> int:
        """Remove the leases that end between these times; return their number."""


class Table(Candidate):
    """The lease table, used as in a node: a renewal has the lease at hand, and each tick is swept."""

    def __init__(self, count: int) -> None:
        self._table = LeaseTable(0.0, grace=GRACE, sessions_max=count)

    def grant(self, tokens: Sequence[str], nows: Sequence[float]) -> list[Any]:
        """Grant."""
        grant = self._table.grant
        return [grant(token, now, TTL_S) for token, now in zip(tokens, nows, strict=True)]

    def renew(self, holders: Sequence[Any], now: float) -> None:
        """Extend."""
        extend = self._table.extend
        for lease in holders:
            extend(lease, now)

    def visit(self, now: float) -> None:
        """Let the wheel visit each lease, and file it again."""
        if self._sweep(now):
            raise LoadFailed("a renewed lease expired")

    def expire(self, begins: float, ends: float) -> int:
        """Sweep at every tick."""
        ticks = int((ends - begins) / TICK_S) + 1
        return sum(self._sweep(begins + tick * TICK_S) for tick in range(ticks + 1))

    def _sweep(self, now: float) -> int:
        """Expire in steps of the table's own limit, until none is left."""
        table = self._table
        count = len(table.expire(now))
        while table.next_expire_s(now) == 0.0:
            count += len(table.expire(now))
        return count


class Dict(Candidate):
    """Deadlines by token in a dict, which is walked once, after the last deadline.

    This is the least that a dict can cost: sweeping it at each tick would walk it whole each time.
    """

    def __init__(self, count: int) -> None:
        del count
        self._deadlines: dict[str, float] = {}

    def grant(self, tokens: Sequence[str], nows: Sequence[float]) -> list[Any]:
        """Write."""
        deadlines, lasts_s = self._deadlines, LASTS_S
        for token, now in zip(tokens, nows, strict=True):
            deadlines[token] = now + lasts_s
        return list(tokens)

    def renew(self, holders: Sequence[Any], now: float) -> None:
        """Write again."""
        deadlines, lasts_s = self._deadlines, LASTS_S
        for token in holders:
            deadlines[token] = now + lasts_s

    def visit(self, now: float) -> None:
        """Do nothing."""

    def expire(self, begins: float, ends: float) -> int:
        """Walk the dict, and delete due tokens."""
        del begins
        deadlines = self._deadlines
        due = [token for token, deadline in deadlines.items() if deadline <= ends]
        for token in due:
            del deadlines[token]
        return len(due)


CANDIDATES: dict[str, type[Table | Dict]] = {"table": Table, "dict": Dict}


def live(candidate: str, count: int, times: int) -> dict[str, float]:
    """Run `count` leases through all steps, `times` times; return the mean seconds of each step for a lease."""
    lives = [_live(candidate, count) for _ in range(times)]
    return {step: sum(life[step] for life in lives) / times for step in lives[0]}


def _live(candidate: str, count: int) -> dict[str, float]:
    held = CANDIDATES[candidate](count)
    random = Random(SEED)
    tokens, nows = _tokens(count, random), _times(count)
    began = time.perf_counter()
    holders = held.grant(tokens, nows)
    grant_s = time.perf_counter() - began

    random.shuffle(holders)
    # In a node, all renewals of one turn of the loop share its time.
    turns = int(TTL_S / RENEWALS / TICK_S)
    size = -(-count // turns)
    renew_s, now = 0.0, TTL_S
    for _ in range(RENEWALS):
        for first in range(0, count, size):
            now += TICK_S
            turn = holders[first : first + size]
            began = time.perf_counter()
            held.renew(turn, now)
            renew_s += time.perf_counter() - began
    del holders, turn, tokens, nows  # expired tokens must be freed within the timed step, for both candidates

    passes = TTL_S + LASTS_S
    began = time.perf_counter()
    held.visit(passes)
    pass_s = time.perf_counter() - began

    began = time.perf_counter()
    gone = held.expire(passes, now + LASTS_S)
    expire_s = time.perf_counter() - began
    if gone != count:
        raise LoadFailed(f"{gone} of {count} expired")
    return {
        "grant_s": grant_s / count,
        "renew_s": renew_s / count / RENEWALS,
        "pass_s": pass_s / count,
        "expire_s": expire_s / count,
    }


def weigh(candidate: str, count: int) -> dict[str, float]:
    """Return the bytes that one of `count` leases without names takes, without its token (tracemalloc)."""
    tokens, nows = _tokens(count, Random(SEED)), _times(count)
    tracemalloc.start()
    held = CANDIDATES[candidate](count)
    holders = held.grant(tokens, nows)
    del holders
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes": size / count}


def _tokens(count: int, random: Random) -> list[str]:
    return [f"{random.getrandbits(128):032x}" for _ in range(count)]


def _times(count: int) -> list[float]:
    return [number * TTL_S / count for number in range(count)]


if __name__ == "__main__":
    serve({"live": live, "weigh": weigh})
