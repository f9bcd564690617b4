"""The memory of what a lease table holds, estimated from counts, and which leases to end when that is too much.

The constants are growth of resident memory on CPython 3.11, rounded up (`python -m bench.measure.holdings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

SESSION_BYTES = 900
"""A lease without names, with its identity: 650; its history of two events, the usual one: 180."""

NAME_BYTES = 95
"""A name in a lease, and the lease in the name's group: 92."""

GROUP_BYTES = 350
"""A name that no other lease holds, of 21 characters, beyond that: 343."""

MEMORY_LIMIT = "memory_max"
"""The limit, as options and errors name it."""

MEMORY_RETRY_MS = 10_000
"""Time after which a client comes back that was refused a lease, or lost one, because memory was full. A node looks at
its memory every 5 s."""

LOOKED_AT_PER_TURN = 1_000
"""Leases that are weighed, or ended, in one turn of the loop: about 1 ms."""


class Held(Protocol):
    """A lease, as far as it is weighed."""

    @property
    def sink(self) -> object | None:
        """Its connection, if it has one."""

    @property
    def principal(self) -> str:
        """The digest of who has it, empty for nobody."""

    @property
    def count(self) -> int:
        """The number of its names."""


class Counts(Protocol):
    """The counts of a table: leases, names of all of them together, and distinct names."""

    @property
    def sessions(self) -> int:
        """The number of leases."""

    @property
    def subscriptions(self) -> int:
        """The number of names of all leases."""

    @property
    def groups(self) -> int:
        """The number of distinct names."""


L = TypeVar("L", bound=Held)


def weight_parts(counts: Counts) -> dict[str, int]:
    """Return the bytes that a table holds, by what they are."""
    return {
        "sessions": counts.sessions * SESSION_BYTES,
        "names": counts.subscriptions * NAME_BYTES,
        "groups": counts.groups * GROUP_BYTES,
    }


def victims(leases: Sequence[L], counts: Counts, excess: float) -> Iterator[Sequence[L]]:
    """Yield leases to be ended until so many bytes are free: those without a connection first, then of who holds most.

    Each turn of the loop is to take one portion, which may be empty. Those that have ended meanwhile are passed over,
    those that come meanwhile are left alone. A lease without a principal stands for itself.
    """
    each_name = NAME_BYTES + GROUP_BYTES * counts.groups / max(counts.subscriptions, 1)
    owners: dict[object, list[L]] = {}
    weights: dict[object, float] = {}
    detached: list[L] = []
    for portion in _portions(leases):
        for lease in portion:
            if lease.sink is None:
                detached.append(lease)
                continue
            owner: object = lease.principal or id(lease)
            owners.setdefault(owner, []).append(lease)
            weights[owner] = weights.get(owner, 0.0) + _weight(lease, each_name)
        yield ()
    largest = sorted(owners, key=weights.__getitem__, reverse=True)
    yield ()
    left = excess
    for group in (detached, *(owners[owner] for owner in largest)):
        for portion in _portions(group):
            ending: list[L] = []
            for lease in portion:
                if left <= 0:
                    break
                ending.append(lease)
                left -= _weight(lease, each_name)
            yield ending
            if left <= 0:
                return


def _weight(lease: Held, each_name: float) -> float:
    return SESSION_BYTES + lease.count * each_name


def _portions(leases: Sequence[L]) -> Iterable[Sequence[L]]:
    return (leases[at : at + LOOKED_AT_PER_TURN] for at in range(0, len(leases), LOOKED_AT_PER_TURN))
