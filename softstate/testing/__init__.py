"""What people who build on softstate need to test it: the conformance test for stores, and a simulated world.

The world and its parts are imported when they are first asked for: they bring the whole server with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from softstate.testing.store_contract import STORE_CHECKS, StoreCheck, check_store, run_check
from softstate.testing.store_stage import Rewindable, Stage, Truth

if TYPE_CHECKING:
    from softstate.testing.clocks import NodeClock
    from softstate.testing.faults import Faults
    from softstate.testing.frame_rules import FrameRule
    from softstate.testing.network import SimNetwork
    from softstate.testing.sim_client import SimClient
    from softstate.testing.sim_node import SimNode
    from softstate.testing.trace import Trace
    from softstate.testing.world import Overtime, World, run_world

__all__ = [
    "STORE_CHECKS",
    "Faults",
    "FrameRule",
    "NodeClock",
    "Overtime",
    "Rewindable",
    "SimClient",
    "SimNetwork",
    "SimNode",
    "Stage",
    "StoreCheck",
    "Trace",
    "Truth",
    "World",
    "check_store",
    "run_check",
    "run_world",
]

_LATER: Final = {
    "Faults": "faults",
    "FrameRule": "frame_rules",
    "NodeClock": "clocks",
    "Overtime": "world",
    "SimClient": "sim_client",
    "SimNetwork": "network",
    "SimNode": "sim_node",
    "Trace": "trace",
    "World": "world",
    "run_world": "world",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
