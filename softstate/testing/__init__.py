"""Tools for tests of programs that use softstate, of stores, and of softstate itself. README.md is the guide.

`memory_node` runs a whole node in memory, for tests of applications. `check_store` is the conformance test of stores.
`run_world` runs real nodes and clients in a simulated `World` with injected faults, on virtual time, and `run_checked`
does so with an `Oracle`, which checks every promise.

The simulation is imported on first use, because it brings the whole server with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from softstate.later import later
from softstate.testing.conformance.contract import REWIND_CHECKS, STORE_CHECKS, StoreCheck, check_store, run_check
from softstate.testing.conformance.stage import Backend, Readable, Rewindable, Stage

if TYPE_CHECKING:
    from softstate.testing.in_memory import MemoryNode, memory_node
    from softstate.testing.network.capacity import Capacity, Processor
    from softstate.testing.network.frame_rules import FrameRule
    from softstate.testing.network.frame_tap import Frame
    from softstate.testing.network.network import SimNetwork
    from softstate.testing.network.route import Route
    from softstate.testing.network.stream import SimConnection, SimListener, SimStream
    from softstate.testing.oracle.oracle import Bounds, Oracle, PromiseBroken, Violation
    from softstate.testing.simulation.checked_run import run_checked
    from softstate.testing.simulation.client import SimClient
    from softstate.testing.simulation.clocks import SimClock
    from softstate.testing.simulation.faults import Faults
    from softstate.testing.simulation.listener import StreamListener
    from softstate.testing.simulation.node import SimNode
    from softstate.testing.simulation.world import ScenarioTimeout, World, run_world
    from softstate.testing.trace import Trace, TraceEvent

__all__ = [
    "REWIND_CHECKS",
    "STORE_CHECKS",
    "Backend",
    "Bounds",
    "Capacity",
    "Faults",
    "Frame",
    "FrameRule",
    "MemoryNode",
    "Oracle",
    "Processor",
    "PromiseBroken",
    "Readable",
    "Rewindable",
    "Route",
    "ScenarioTimeout",
    "SimClient",
    "SimClock",
    "SimConnection",
    "SimListener",
    "SimNetwork",
    "SimNode",
    "SimStream",
    "Stage",
    "StoreCheck",
    "StreamListener",
    "Trace",
    "TraceEvent",
    "Violation",
    "World",
    "check_store",
    "memory_node",
    "run_check",
    "run_checked",
    "run_world",
]

__getattr__ = later(
    __name__,
    {
        "Bounds": "oracle.oracle",
        "Capacity": "network.capacity",
        "Processor": "network.capacity",
        "Faults": "simulation.faults",
        "Frame": "network.frame_tap",
        "FrameRule": "network.frame_rules",
        "MemoryNode": "in_memory",
        "Oracle": "oracle.oracle",
        "PromiseBroken": "oracle.oracle",
        "Route": "network.route",
        "ScenarioTimeout": "simulation.world",
        "SimClient": "simulation.client",
        "SimClock": "simulation.clocks",
        "SimConnection": "network.stream",
        "SimListener": "network.stream",
        "SimNetwork": "network.network",
        "SimNode": "simulation.node",
        "StreamListener": "simulation.listener",
        "SimStream": "network.stream",
        "Trace": "trace",
        "TraceEvent": "trace",
        "Violation": "oracle.oracle",
        "World": "simulation.world",
        "memory_node": "in_memory",
        "run_checked": "simulation.checked_run",
        "run_world": "simulation.world",
    },
)
