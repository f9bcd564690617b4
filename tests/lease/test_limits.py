"""The limits of a table: sessions, subscriptions of one, and leases looked at in one turn."""

from dataclasses import replace

import pytest

from softstate.errors import Overloaded, TooLarge
from softstate.lease.principals import FULL_RETRY_MS
from softstate.lease.table import LeaseTable
from softstate.lease.timer_wheel import LOOK_AHEAD_TICKS, TICK_S, VISITS_MAX
from softstate.wire.subscription_digest import digest_of
from tests.kit.leases import NOTHING


def test_the_last_session_fits_and_the_next_is_overloaded() -> None:
    table = LeaseTable(0.0, sessions_max=2)
    first = table.grant("t", 0.0, 60.0)
    table.grant("u", 0.0, 60.0)
    with pytest.raises(Overloaded) as caught:
        table.grant("v", 0.0, 60.0)
    assert caught.value.retry_ms == FULL_RETRY_MS
    assert table.get("v") is None
    table.release(first)
    table.grant("v", 0.0, 60.0)


def test_sessions_that_come_and_go_at_once_neither_pile_up_nor_keep_others_out() -> None:
    table = LeaseTable(0.0, grace=0.0, released_max=3)
    kept = table.grant("kept", 0.0, 5.0)
    for number in range(100):
        table.release(table.grant(f"t{number}", 0.0, 10.0))
        assert len(table._wheel) - len(table) <= 3
    assert table.expire(5.0) == [kept]
    assert table.expire(1000.0) == []
    assert len(table._wheel) == 0


def test_the_last_subscription_fits_and_the_next_is_too_large() -> None:
    table = LeaseTable(0.0, subscriptions_max=3)
    lease = table.grant("t", 0.0, 60.0)
    table.add(lease, ["a", "b", "c"])
    table.add(lease, ["a", "b", "c", "c"])
    with pytest.raises(TooLarge, match="at most 3 subscriptions"):
        table.add(lease, ["a", "d"])
    table.check_room(lease, ["c", "a"])
    for names in (["d"], ["c", "d"]):
        with pytest.raises(TooLarge, match="at most 3 subscriptions, this would make it 4"):
            table.check_room(lease, names)
    assert list(lease.names) == ["a", "b", "c"]
    assert lease.digest == digest_of(["a", "b", "c"])
    assert table.statistics() == replace(NOTHING, sessions=1, attached=1, subscriptions=3, groups=3)
    table.remove(lease, ["a"])
    table.check_room(lease, ["d", "d"])
    assert table.add(lease, ["d", "d"]) == ["d"]


def test_expiry_looks_at_no_more_leases_than_its_limit() -> None:
    table = LeaseTable(0.0, grace=0.0)
    leases = [table.grant(f"t{n}", 0.0, 10.0) for n in range(VISITS_MAX + 1)]
    assert table.expire(10.0, limit=2) == leases[:2]
    assert table.next_expire_s(10.0) == 0.0
    assert table.expire(10.0) == leases[2 : VISITS_MAX + 2]
    assert table.next_expire_s(10.0) == LOOK_AHEAD_TICKS * TICK_S
