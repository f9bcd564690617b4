"""A machine's description: what it is doing, as it was when it was asked."""

from __future__ import annotations

import math

from softstate.client.machine.events import Lost, TokenGot, Wanted
from softstate.client.machine.triggers import Trigger
from tests.kit.machine_rig import TTL_S, URL, Rig


def test_a_client_that_was_not_opened_does_nothing() -> None:
    found = Rig("a", "p/").machine.describe()
    assert (found.mode, found.connection, found.names) == ("closed", None, ("a", "p/"))
    assert (found.connect_at, found.poll_at, found.polling, found.publishing) == (math.inf, math.inf, False, False)
    assert (found.failures, found.token, found.fetching, found.fired) == (0, None, False, ())


def test_a_connection_is_described_with_its_requests() -> None:
    rig = Rig("a").syncing()
    assert rig.connection.requests == ("subscribe-1",)
    rig.arrive(rig.subscribed())
    rig.renewing()
    found = rig.connection
    assert (found.conn, found.url, found.open, found.requests) == (1, URL, True, ())
    assert found.renewals == ("renew-2",)
    assert found.lease_until == 1_000.0 + 0.99 * TTL_S
    assert (found.resubscribe_at, found.silent_at) == (math.inf, math.inf)


def test_it_tells_the_cells_of_the_last_event_only() -> None:
    rig = Rig("a").live()
    rig.do(Lost(rig.conn, None, "cut"))
    assert rig.machine.describe().fired == (("live", Trigger.LOST),)
    rig.do(Wanted(["b"]))
    assert rig.machine.describe().fired == ()


def test_it_shows_no_token() -> None:
    rig = Rig("a", provider=True).open()
    assert rig.machine.describe().fetching
    rig.do(TokenGot(1, "secret"))
    found = rig.machine.describe()
    assert (found.token, found.fetching) == ("secret", False)
    assert "secret" not in repr(found)
