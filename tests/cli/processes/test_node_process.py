"""The set-up of a node's process."""

from __future__ import annotations

import gc

from softstate.cli.processes.node_process import COLLECTIONS_PER_FULL_ONE, make_full_collections_rare


def test_all_objects_are_seldom_looked_through() -> None:
    before = gc.get_threshold()
    try:
        make_full_collections_rare()
        assert gc.get_threshold() == (*before[:2], COLLECTIONS_PER_FULL_ONE)
    finally:
        gc.set_threshold(*before)
