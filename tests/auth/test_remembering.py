import pytest

from softstate.auth.remembering import FORGOTTEN_FRACTION, remember


@pytest.mark.parametrize("most", [1, 2, 15, 16, 100])
def test_those_that_came_last_are_kept(most: int) -> None:
    kept: dict[int, int] = {}
    for number in range(3 * most):
        remember(kept, number, -number, most)
        assert most - most // FORGOTTEN_FRACTION <= len(kept) + (most if number < most else 0)
        assert len(kept) <= most
        assert list(kept.items()) == [(n, -n) for n in range(number + 1 - len(kept), number + 1)]
