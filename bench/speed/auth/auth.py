"""``python -m bench auth``: what permissions cost, a node with a policy file beside the same node without.

Both are up at the same time, and take turns. Tokens are signed by the bench; each is of another subject, with a grant
of its own. To the node without a policy file none are presented.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure.options import Measuring
from bench.measure.permissions import permissions
from bench.measure.report import Report
from bench.speed.auth.candidates import both_nodes
from bench.speed.auth.connects import connects
from bench.speed.auth.forged import forged
from bench.speed.auth.judged import judged
from bench.speed.auth.rates import deliveries, polls, publishes, renewals
from bench.speed.auth.revocation import revocation


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in one run of each comparison."""

    connections: int = 1_000
    """Sessions that are opened, and that renew; with a new token each, fewer than a node remembers."""
    renewals: int = 5
    subscribers: int = 1_000
    topics: int = 20
    bursts: int = 20
    pollers: int = 32
    publishers: int = 64
    run_s: float = 1.5
    revocations: int = 100
    forged_s: float = 6.0
    leases: int = 20_000
    sessions: int = 5_000
    """Sessions that are weighed: fewer than the tokens that a node remembers."""


WHOLE = Size()
QUICK = Size(bursts=10, run_s=0.7, revocations=20, forged_s=2.0, leases=2_000, sessions=2_000)


def auth(measuring: Measuring, size: Size | None = None) -> Report:
    """Measure all comparisons, and return the report."""
    measuring.refuse_against("auth", "it compares a node with permissions and one without, and others may have none")
    size = size or (QUICK if measuring.quick else WHOLE)
    rounds = measuring.rounds
    report = measuring.report("auth", "a node with --auth beside the same node without")
    with permissions() as made:
        with both_nodes(made) as nodes:
            connects(report, nodes, size.connections, rounds)
            renewals(report, nodes, size.connections, size.renewals, rounds)
            deliveries(report, nodes, size.subscribers, size.topics, size.bursts, rounds)
            polls(report, nodes, size.pollers, size.run_s, rounds)
            publishes(report, nodes, size.publishers, size.run_s, rounds)
            forged(report, nodes, size.forged_s, rounds)
        revocation(report, made, size.revocations)
    judged(report, size.leases, size.sessions, rounds)
    report.note("the node without --auth is sent no tokens, unless it says so: a longer request is part of their cost")
    return report
