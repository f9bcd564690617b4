"""An oracle: it hears what happens in a simulated world, and says which promise broke.

::

    async def scenario(world: World) -> None:
        oracle = Oracle.attach(world.trace)
        ...                                   # clients, publishes, faults
        await world.faults.heal()
        await world.sleep(oracle.bounds.converge_s)
        oracle.finish(world.now)              # checks what is known only at the end
        oracle.check()                        # raises PromiseBroken

It knows the commits from the disk, what applications were given from the applications, and nothing else: it shares no
code with the product. S1, S2, S4, S5, S6, S7 (if messages are recorded), S8, S9, S10 and B are checked with every
event, L from the last healing on; S3, S11 and what remains of L by `finish`. What is exempt from a check is said in the
docstring of that check.

(An oracle beside a deterministic simulation: Zhou et al., "FoundationDB", SIGMOD 2021, section 4; checking a history
of operations: Kingsbury's Jepsen.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from softstate.testing.oracle.clients import ClientChecks
from softstate.testing.oracle.faults import FaultRecord
from softstate.testing.oracle.history import Histories
from softstate.testing.oracle.nodes import NodeChecks
from softstate.testing.oracle.publishes import PublishChecks
from softstate.testing.oracle.verdict import Bounds, Findings, PromiseBroken, Violation
from softstate.testing.oracle.wire import WireChecks
from softstate.testing.trace import (
    Acknowledged,
    AgeSampled,
    Applied,
    Asked,
    ClientEnded,
    Committed,
    FaultInjected,
    HistoryReplaced,
    LeasesDropped,
    LineageCommitted,
    NodeEnded,
    NodeSampled,
    NodeStarted,
    ResetSeen,
    Spoken,
    Trace,
    TraceEvent,
    Unwanted,
    Wanted,
)

__all__ = ["Bounds", "Oracle", "PromiseBroken", "Violation"]


@final
class Oracle:
    """Checks the promises. Give every event to `see`, in order; or `attach` it to a trace, past and future."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds = bounds or Bounds()
        self.steps = 0
        """Events seen."""
        self.findings = findings = Findings()
        self.histories = histories = Histories()
        self.faults = faults = FaultRecord()
        self.clients = clients = ClientChecks(histories, faults, bounds, findings)
        self.publishes = publishes = PublishChecks(histories, bounds, findings)
        self.nodes = nodes = NodeChecks(faults, bounds, findings)
        self.wire = wire = WireChecks(histories, findings)
        self._heard: dict[type[TraceEvent], tuple[Callable[[Any], object], ...]] = {
            LineageCommitted: (histories.opened,),
            Committed: (lambda event: publishes.committed(histories.committed(event)),),
            HistoryReplaced: (histories.replaced, clients.replaced, nodes.replaced),
            FaultInjected: (faults.take, nodes.faulted),
            NodeStarted: (nodes.started,),
            NodeEnded: (nodes.ended,),
            NodeSampled: (nodes.sampled,),
            LeasesDropped: (nodes.dropped,),
            Wanted: (clients.wanted,),
            Unwanted: (clients.unwanted,),
            Applied: (clients.applied,),
            ResetSeen: (clients.reset,),
            AgeSampled: (clients.sampled, nodes.client_sampled),
            Asked: (publishes.asked,),
            Acknowledged: (publishes.answered,),
            ClientEnded: (clients.ended, nodes.client_ended),
            Spoken: (wire.spoken,),
        }

    @classmethod
    def attach(cls, trace: Trace, bounds: Bounds | None = None) -> Oracle:
        """Make one that has seen all of a trace, and sees what will be added to it."""
        oracle = cls(bounds)
        for event in trace.events:
            oracle.see(event)
        trace.listeners.append(oracle.see)
        return oracle

    def see(self, event: TraceEvent) -> None:
        """Take one event, and note what it breaks. Raises nothing: see `check`."""
        self.steps += 1
        for hear in self._heard.get(type(event), ()):
            hear(event)

    def finish(self, at: float) -> None:
        """Check what only the end can tell: S3, S11, L, and the rest of S10."""
        self.publishes.finish(at)
        self.nodes.finish(at)
        self.clients.finish(at)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The violations so far, in order."""
        return tuple(self.findings.violations)

    def check(self) -> None:
        """Raise `PromiseBroken` if any promise did not hold."""
        if self.violations:
            raise PromiseBroken(self.violations)
