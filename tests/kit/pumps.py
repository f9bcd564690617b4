"""Pumps for tests of parts: what a node gives its own, and how to tell that one has done all there is to do."""

from __future__ import annotations

import select
from collections.abc import Callable

import trio
import trio.testing

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.admission import Admission
from softstate.server.edge.pump import Pump, SocketWire
from tests.kit.node_rig import until


def pump_of(
    bulkhead: Bulkhead | None = None,
    flush: Callable[[], None] = lambda: None,
    accepted: Callable[[SocketWire, str, float], None] = lambda _wire, _name, _waited_s: None,
) -> Pump:
    """Make a pump in which nothing waits to be admitted. Connections that it accepts get no peer, and are closed."""
    bulkhead = bulkhead or Bulkhead(strict=True)
    return Pump(bulkhead, flush, accepted, Admission(bulkhead, {}, 0.0, lambda: 0.0), lambda: False)


async def settled(pump: Pump) -> None:
    """Return once a pump waits, and its poller has nothing to tell: what was sent on this machine was dealt with."""
    told = select.poll()
    told.register(pump.poller.fileno(), select.POLLIN)
    await trio.testing.wait_all_tasks_blocked()
    await until(lambda: pump.asleep and not told.poll(0))
