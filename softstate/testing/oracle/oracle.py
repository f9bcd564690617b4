"""An oracle: it reads the events of a simulated world, and reports every promise that broke.

::

    async def scenario(world: World) -> None:
        oracle = Oracle.attach(world.trace)
        ...                                   # clients, publishes, faults
        await world.faults.heal()
        await world.sleep(oracle.bounds.converge_s)
        oracle.finish(world.now)              # the checks that need the end
        oracle.check()                        # raises PromiseBroken

`run_checked` does all that. The oracle knows the commits from the disk, the delivered changes from the applications,
and nothing else: it shares no code with the product. S1, S2, S4, S5, S6, S7 (of renewals and beats, if messages are
recorded), S8, S9, S10, S12 to S16 (where nodes check credentials, and messages are recorded), S18 and B are checked
with every event, L from the last `heal` on; S3, S11, and the rest of S4 and L by `finish`. The docstring of each check
says what is exempt from it.

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
from softstate.testing.oracle.permissions import PermissionChecks
from softstate.testing.oracle.publishes import PublishChecks
from softstate.testing.oracle.revocations import RevocationChecks
from softstate.testing.oracle.verdict import Bounds, Findings, PromiseBroken, Violation
from softstate.testing.oracle.wire import WireChecks
from softstate.testing.trace import (
    AgeSampled,
    ChangeCommitted,
    ChangeDelivered,
    ClientEnded,
    FaultInjected,
    HistoryReplaced,
    KeyReplaced,
    LeasesDropped,
    LineageCommitted,
    MessageWritten,
    NamesDenied,
    NodeEnded,
    NodeSampled,
    NodeStarted,
    PublishAcknowledged,
    PublishFailed,
    PublishStarted,
    RecordDamaged,
    ResetDelivered,
    RevocationNamed,
    RightsChanged,
    Subscribed,
    TokenIssued,
    Trace,
    TraceEvent,
    Unsubscribed,
)

__all__ = ["Bounds", "Oracle", "PromiseBroken", "Violation"]


@final
class Oracle:
    """Checks the promises. Give every event to `see`, in order; or `attach` it to a trace."""

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
        self.permissions = permissions = PermissionChecks(faults, bounds, findings)
        self.revocations = revocations = RevocationChecks(histories, faults, bounds, findings)
        self._checks: dict[type[TraceEvent], tuple[Callable[[Any], object], ...]] = {
            LineageCommitted: (histories.opened,),
            ChangeCommitted: (lambda event: publishes.committed(histories.committed(event)),),
            HistoryReplaced: (histories.replaced, clients.replaced, nodes.replaced),
            RecordDamaged: (clients.damaged,),
            FaultInjected: (faults.take, nodes.faulted),
            NodeStarted: (faults.node_started, nodes.started),
            NodeEnded: (nodes.ended,),
            NodeSampled: (nodes.sampled,),
            LeasesDropped: (clients.dropped, nodes.dropped),
            Subscribed: (clients.subscribed,),
            Unsubscribed: (clients.unsubscribed,),
            ChangeDelivered: (clients.delivered, permissions.delivered),
            NamesDenied: (clients.denied,),
            RightsChanged: (permissions.rights_changed,),
            TokenIssued: (permissions.issued, revocations.issued),
            RevocationNamed: (revocations.named,),
            KeyReplaced: (permissions.key_replaced,),
            ResetDelivered: (clients.reset,),
            AgeSampled: (clients.sampled, nodes.client_sampled),
            PublishStarted: (publishes.started,),
            PublishAcknowledged: (publishes.answered,),
            PublishFailed: (publishes.failed,),
            ClientEnded: (clients.ended, nodes.client_ended, permissions.ended),
            MessageWritten: (wire.written, permissions.written, revocations.written),
        }

    @classmethod
    def attach(cls, trace: Trace, bounds: Bounds | None = None) -> Oracle:
        """Make an oracle that has seen all of a trace, and will see every event added to it."""
        oracle = cls(bounds)
        for event in trace.events:
            oracle.see(event)
        trace.listeners.append(oracle.see)
        return oracle

    def see(self, event: TraceEvent) -> None:
        """Check one event, and record violations. Raises nothing: see `check`."""
        self.steps += 1
        for check in self._checks.get(type(event), ()):
            check(event)

    def finish(self, at_s: float) -> None:
        """Make the checks that need the end: S3, S11, L, the rest of S4 and S10. `at_s` is the end, in seconds."""
        self.publishes.finish(at_s)
        self.nodes.finish(at_s)
        self.clients.finish(at_s)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The violations so far, in order."""
        return tuple(self.findings.violations)

    def check(self) -> None:
        """Raise `PromiseBroken` if any promise did not hold."""
        if self.violations:
            raise PromiseBroken(self.violations)
