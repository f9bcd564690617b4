"""The host slept if one clock moved more than the other between two looks."""

from softstate.client.jumps import JUMP_S_MAX, JumpDetector


def test_a_jump_is_seen_once() -> None:
    jumps = JumpDetector(0, 0)
    assert not jumps.jumped(100, 100)
    assert jumps.jumped(101 + JUMP_S_MAX + 0.01, 101)
    assert not jumps.jumped(102 + JUMP_S_MAX + 0.01, 102)
    assert not jumps.jumped(103 + 2 * JUMP_S_MAX, 103)


def test_clocks_of_different_rates_never_add_up_to_a_jump() -> None:
    jumps = JumpDetector(0, 0)
    for second in range(1000):
        assert not jumps.jumped(second * 1.01, second)
