"""The parts that all hosts of one simulated world share. `World` builds it for its nodes, clients and faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import trio

from softstate.testing.network.network import SimNetwork
from softstate.testing.simulation.callout import SimCallout
from softstate.testing.simulation.determinism import Seeds
from softstate.testing.simulation.disk import SimDisk
from softstate.testing.simulation.freezer import Freezer
from softstate.testing.simulation.issuer import SimIssuer
from softstate.testing.simulation.signed_issuer import SignedIssuer
from softstate.testing.trace import Trace


@final
@dataclass(frozen=True, slots=True)
class Environment:
    """The parts of a world that are not hosts.

    `seeds` gives each purpose a generator of its own, `trace` is the list of all events, `nursery` runs every task of
    the world, `freezer` stops the tasks of a host, `network` connects hosts by name, and `disk` is the store's.
    `issuer` makes tokens, in a world whose nodes check credentials, or `callout` does, and is asked about them.
    """

    seeds: Seeds
    trace: Trace
    nursery: trio.Nursery
    freezer: Freezer
    network: SimNetwork
    disk: SimDisk
    issuer: SimIssuer | SignedIssuer | None = None
    callout: SimCallout | None = None
