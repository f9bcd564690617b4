"""The workload of the spectrum, once: the product's own placement keeps its promises through all phases."""

from __future__ import annotations

from bench.spectrum.workload import Placement, Run, Size


def test_soft_state_keeps_its_promises_and_forgets_the_dead() -> None:
    found = Run(Placement("soft", "node", own=True), 1, Size(4, 20.0)).run()
    assert found.broken == []
    assert (found.lost, found.repeated, found.operations_per_min) == (0, 0, 0)
    assert 40 < found.orphan_s < 68
    assert found.bye_orphan_s < 1
    assert found.all_fresh_s < 10
    assert found.all_live_s is not None
    assert 2 < found.all_live_s < 10
    assert found.wasted > 0
