"""The worlds of `corners` break no promise, and do come to the corner that they are about."""

from __future__ import annotations

from softstate.testing.checked import run_checked
from softstate.testing.trace import Applied, ClientEnded, ResetSeen
from softstate.testing.world import World
from tests.simulation.corners import lost_then_cut, rewound_and_left, rewound_while_suspect


def _counts(world: World) -> dict[str, int]:
    (ended,) = world.trace.of(ClientEnded)
    return dict(ended.counts)


def test_a_push_lost_before_a_cut_is_replayed() -> None:
    world, _ = run_checked(1, lost_then_cut)
    lost, later = (change for change in world.trace.of(Applied) if change.topic in ("t/lost", "t/later"))
    assert (lost.topic, later.topic) == ("t/later", "t/lost")
    assert _counts(world)["resumed"] == 1


def test_pushes_of_a_history_that_is_no_more_are_strays_to_a_client_that_looked_elsewhere() -> None:
    world, _ = run_checked(1, rewound_while_suspect)
    assert _counts(world)["strays"] == 1
    assert "never was" not in {change.value for change in world.trace.of(Applied)}


def test_pushes_of_a_history_that_is_no_more_are_not_heard_from_a_connection_that_was_left() -> None:
    world, _ = run_checked(1, rewound_and_left)
    assert _counts(world)["welcomes"] == 2
    assert world.trace.of(ResetSeen) == []
    assert "never was" not in {change.value for change in world.trace.of(Applied)}
