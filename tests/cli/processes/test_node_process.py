"""How the process of a node is set up."""

from __future__ import annotations

import gc

from softstate.cli.processes.node_process import YOUNG_COLLECTIONS_A_FULL_ONE, seldom_collect_all


def test_all_objects_are_seldom_looked_through() -> None:
    before = gc.get_threshold()
    try:
        seldom_collect_all()
        assert gc.get_threshold() == (*before[:2], YOUNG_COLLECTIONS_A_FULL_ONE)
    finally:
        gc.set_threshold(*before)
