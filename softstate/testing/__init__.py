"""What people who build on softstate need for their tests.

`memory_node` is a whole node in memory, for tests of applications; `check_store` the conformance test for stores;
`World` a simulated world in which everything that can go wrong does, and `Oracle` what checks the promises there.

The world and its parts are imported when they are first asked for: they bring the whole server with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from softstate.testing.store_contract import REWIND_CHECKS, STORE_CHECKS, StoreCheck, check_store, run_check
from softstate.testing.store_stage import Rewindable, Stage, Truth

if TYPE_CHECKING:
    from softstate.testing.clocks import NodeClock
    from softstate.testing.faults import Faults
    from softstate.testing.frame_rules import FrameRule
    from softstate.testing.in_memory import MemoryNode, memory_node
    from softstate.testing.network import SimNetwork
    from softstate.testing.oracle import Bounds, Oracle, PromiseBroken, Violation
    from softstate.testing.sim_client import SimClient
    from softstate.testing.sim_node import SimNode
    from softstate.testing.trace import Trace
    from softstate.testing.world import Overtime, World, run_world

__all__ = [
    "REWIND_CHECKS",
    "STORE_CHECKS",
    "Bounds",
    "Faults",
    "FrameRule",
    "MemoryNode",
    "NodeClock",
    "Oracle",
    "Overtime",
    "PromiseBroken",
    "Rewindable",
    "SimClient",
    "SimNetwork",
    "SimNode",
    "Stage",
    "StoreCheck",
    "Trace",
    "Truth",
    "Violation",
    "World",
    "check_store",
    "memory_node",
    "run_check",
    "run_world",
]

_LATER: Final = {
    "Bounds": "oracle",
    "Faults": "faults",
    "FrameRule": "frame_rules",
    "MemoryNode": "in_memory",
    "NodeClock": "clocks",
    "Oracle": "oracle",
    "Overtime": "world",
    "PromiseBroken": "oracle",
    "SimClient": "sim_client",
    "SimNetwork": "network",
    "SimNode": "sim_node",
    "Trace": "trace",
    "Violation": "oracle",
    "World": "world",
    "memory_node": "in_memory",
    "run_world": "world",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
