from __future__ import annotations

from softstate.server.edge.per_address import ADDRESS_LIMIT, RETRY_MS, PerAddress


def test_an_address_has_so_many_and_none_is_remembered_without_one() -> None:
    counted = PerAddress(2)
    for _ in range(2):
        assert counted.refusal("a") is None
        counted.enter("a")
    error = counted.refusal("a")
    assert error is not None
    assert (error.why, error.retry_ms) == (ADDRESS_LIMIT, RETRY_MS)
    assert counted.refusal("b") is None
    counted.leave("a")
    assert counted.refusal("a") is None
    counted.leave("a")
    assert len(counted) == 0


def test_without_a_limit_nothing_is_counted() -> None:
    counted = PerAddress(0)
    counted.enter("a")
    assert counted.refusal("a") is None
    counted.leave("a")
    assert len(counted) == 0
