"""The parts of a node that all its WebSocket connections share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from softstate.lease import LeaseTable
from softstate.server.auth.gate import NodeGate
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.edge.patience import Patience
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import OutboxBounds
from softstate.server.fanout.turns import Turns
from softstate.server.measure.client_reports import ClientReports
from softstate.server.storage.access import StoreAccess
from softstate.server.websocket.beats import Beats
from softstate.session import Effect, NodeTerms, ServiceRate

Work: TypeAlias = Generator[int, None, Sequence[Effect]]
"""Work in portions: yields what the next one costs, in names, ahead of it; returns the effects of all of it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """One node, as its connections see it: an object of its own, so that a connection holds one reference, not 16.

    `now` is the clock of the leases, in seconds; `terms` what to tell clients now; `tokens` makes session tokens;
    `repairs` counts repairs by kind, and `closes` WebSockets by the code that this node closed them with; `handshakes`
    and `polls` measure how many of them the node can serve; `beats` sends beats; `gate` knows who presents credentials;
    `reports` counts clients by what they say of themselves.
    """

    config: ServerConfig
    leases: LeaseTable
    hub: Hub
    access: StoreAccess
    turns: Turns
    patience: Patience
    bounds: OutboxBounds
    bulkhead: Bulkhead
    terms: Callable[[], NodeTerms]
    tokens: Callable[[], str]
    repairs: Counter[str]
    closes: Counter[int]
    now: Callable[[], float]
    handshakes: ServiceRate
    polls: ServiceRate
    beats: Beats
    gate: NodeGate
    reports: ClientReports
