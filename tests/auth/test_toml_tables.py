"""Tables of a TOML file: values that may be there once."""

from __future__ import annotations

import pytest

from softstate.auth.toml_tables import repeated


@pytest.mark.parametrize(
    ("values", "found"), [("", None), ("abc", None), ("abcb", (3, 1)), ("aab", (1, 0)), ("abab", (2, 0))]
)
def test_a_value_that_is_there_twice_is_found(values: str, found: tuple[int, int] | None) -> None:
    assert repeated(values) == found


def test_values_are_not_compared_with_each_other_one() -> None:
    compared = 0

    class Value(int):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return int.__eq__(self, other)

        __hash__ = int.__hash__

    assert repeated([Value(number) for number in range(1_000)]) is None
    assert compared < 10_000
