"""``python -m bench.measure.holdings``: the memory of what a node holds, for the constants of `softstate.lease.weight`.

Leases, names and groups are measured in this process, as the growth of its resident memory, with the lease table alone.
A connection is what a session costs a node in a process of its own (as `bench sessions`) beyond its lease, name and
group; its TLS is what a session costs a node with a certificate beyond that (as `bench tls`).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

from bench.load.process import LoadProcess
from bench.measure.cost import resident_bytes
from bench.measure.servers import softstate_server
from bench.speed.sessions import grown
from bench.speed.tls import PLAIN, TLS, Node, nodes
from softstate.auth.identity import EVERYTHING, Identity
from softstate.lease import Lease, LeaseTable

LEASES = 100_000
NAMES = 500_000
CONNECTIONS = 10_000
TLS_CONNECTIONS = 1_000
TOPIC = "orders/{:08}/state"
"""A topic of 21 characters."""


def growth(make: Callable[[], object], count: int) -> float:
    """Return by how many bytes resident memory grows for each of `count` things that are made and kept."""
    gc.collect()
    before = resident_bytes(os.getpid())
    kept = make()
    gc.collect()
    after = resident_bytes(os.getpid())
    del kept
    return (after - before) / count


def leases(table: LeaseTable, count: int) -> Iterator[Lease]:
    """Grant leases of as many principals."""
    for number in range(count):
        identity = Identity("https://id.example", f"user-{number}", EVERYTHING)
        yield table.grant(f"{number:022}", 0.0, 60.0, "a client", identity)


def session(node: Node, connections: int) -> float:
    """Return by how many bytes a node grows for each of so many sessions of the same name."""
    with LoadProcess("bench.load.sink") as first, LoadProcess("bench.load.sink") as more:
        opening = {"protocol": "softstate", "port": node.server.port, "topics": ["bench/00"]}
        first.ask("open", connections=10, authority=node.authority, **opening)  # to import what it takes
        before = resident_bytes(node.server.pid)
        more.ask("open", connections=connections, authority=node.authority, **opening)
        return (resident_bytes(node.server.pid) - before) / connections


def tls_bytes(connections: int = TLS_CONNECTIONS) -> float:
    """Return the bytes of the TLS of a connection."""
    with nodes() as both:
        return session(both[TLS], connections) - session(both[PLAIN], connections)


def measured() -> dict[str, float]:
    """Return the bytes of a lease, of a name that others hold, of one nobody else holds, of a connection, and its TLS.

    Raises `NotInstalled`.
    """
    table = LeaseTable(0.0, sessions_max=LEASES, subscriptions_max=NAMES)
    each_lease = growth(lambda: list(leases(table, LEASES)), LEASES)
    held = table.all()
    shared = [TOPIC.format(number) for number in range(20)]
    each_shared = growth(lambda: [table.add(lease, shared) for lease in held], LEASES * len(shared))
    each_name = growth(
        lambda: [
            table.add(lease, [TOPIC.format(100 + 5 * at + number) for number in range(5)])
            for at, lease in enumerate(held)
        ],
        NAMES,
    )
    each_session = grown(softstate_server, [CONNECTIONS], 1)[f"at_{CONNECTIONS}"]
    return {
        "session": each_lease,
        "name": each_shared,
        "group": each_name - each_shared,
        "connection": each_session - each_lease - each_name,
        "TLS": tls_bytes(),
    }


if __name__ == "__main__":
    for what, each in measured().items():
        print(f"{what:12} {each:8.0f} bytes")
