from __future__ import annotations

from softstate.server.edge.per_address import PerAddress


def test_an_address_has_so_many_and_none_is_remembered_without_one() -> None:
    counted = PerAddress(2)
    for _ in range(2):
        assert counted.has_room("a")
        counted.enter("a")
    assert not counted.has_room("a")
    assert counted.has_room("b")
    counted.leave("a")
    assert counted.has_room("a")
    counted.leave("a")
    assert len(counted) == 0


def test_without_a_limit_nothing_is_counted() -> None:
    counted = PerAddress(0)
    counted.enter("a")
    assert counted.has_room("a")
    counted.leave("a")
    assert len(counted) == 0
