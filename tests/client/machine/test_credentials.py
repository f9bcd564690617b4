"""The client's token: fetched before it ends, presented in place, one for all paths."""

from __future__ import annotations

import pytest

from softstate.client.machine.credentials import CREDENTIALS_MARGIN, FETCH_CAP_S, LAST_S, REFRESH_FROM, REFRESH_UPTO
from softstate.client.machine.events import Connect, Connected, FetchToken, Jumped, Lost, SendPoll, Stopped, TokenFailed
from softstate.errors import Denied, Unavailable
from softstate.wire.messages import Auth, Authenticated, Hello
from tests.kit.machine_rig import set_to
from tests.kit.provided_rig import HOUR_MS, Provided

# The first token ------------------------------------------------------------------------------------------------------


def test_nothing_begins_before_there_is_a_token() -> None:
    rig = Provided("a")
    rig.open()
    assert rig.all(FetchToken) == [FetchToken(1, None, 0)]
    rig.advance(100)
    assert not rig.all(Connect)
    assert not rig.all(SendPoll)
    rig.give()
    assert rig.recent(Connect)
    rig.do(Connected(rig.conn))
    assert rig.sent(Hello)[-1].token == "t1"
    assert rig.machine.describe().token == "t1"


def test_a_client_that_only_polls_waits_for_it_as_well() -> None:
    rig = Provided("a", push=False)
    rig.open()
    assert not rig.all(SendPoll)
    rig.give()
    assert rig.recent(SendPoll)


def test_a_fetch_that_fails_is_made_again_with_full_jitter() -> None:
    rig = Provided("a")
    rig.open()
    bound_s = 1.0
    for attempt in range(1, 12):
        failed_at = rig.now
        rig.fail()
        assert rig.until_fetch().attempt == attempt
        assert rig.now - failed_at <= min(bound_s, FETCH_CAP_S)
        bound_s *= 2
    rig.give()
    assert rig.recent(Connect)
    assert isinstance(rig.machine.last_error, Unavailable)


def test_a_provider_that_gives_no_token_any_more_stops_the_client() -> None:
    rig = Provided("a").come_live()
    rig.until_fetch()
    rig.do(TokenFailed(rig.all(FetchToken)[-1].number, Denied("signed out"), final=True))
    assert rig.mode == "stopped"
    (stopped,) = rig.recent(Stopped)
    assert isinstance(stopped.error, Denied)


# In time --------------------------------------------------------------------------------------------------------------


def test_a_token_is_fetched_well_before_it_ends_and_presented_in_place() -> None:
    """S17: no lease and no certificate is lost by it, and no repair is counted."""
    rig = Provided("a").come_live()
    sent = rig.now
    rig.live_until_fetch(sent + HOUR_MS / 1000)
    part = (rig.now - sent) / (HOUR_MS / 1000 - LAST_S)
    assert REFRESH_FROM <= part <= REFRESH_UPTO
    assert rig.all(FetchToken)[-1].rejected is None
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    assert auth.token == "t2"
    rig.arrive(Authenticated(auth.id, HOUR_MS, "u1"))
    assert rig.mode == "live"
    assert not rig.recent(Connect)
    statistics = rig.machine.statistics()
    assert (statistics.repairs_mismatch, statistics.misses, statistics.connects) == (0, 0, 1)


def test_clients_do_not_refresh_together() -> None:
    due = set()
    for seed in range(20):
        rig = Provided("a", seed=seed).come_live()
        due.add(round(rig.machine._credentials.deadline() - rig.now))
    assert len(due) > 15


@pytest.mark.parametrize("credentials_ms", [1_100, 2_000, 4_000, 6_000])
def test_a_brief_token_is_fetched_before_its_last_second_in_which_nodes_refuse_it(credentials_ms: int) -> None:
    usable_s = max(credentials_ms / 1000 - LAST_S, credentials_ms / 2000)
    for seed in range(20):
        rig = Provided("a", seed=seed).come_live(credentials_ms)
        assert REFRESH_FROM * usable_s <= rig.machine._credentials.deadline() - rig.now <= REFRESH_UPTO * usable_s


def test_a_client_that_slept_refreshes_with_its_first_event() -> None:
    rig = Provided("a").come_live()
    rig.now += HOUR_MS / 1000 * 0.9
    rig.do(Jumped())
    assert rig.recent(FetchToken)


def test_a_token_that_is_the_present_one_still_is_not_presented_again() -> None:
    rig = Provided("a").come_live()
    rig.live_until_fetch(rig.now + HOUR_MS / 1000)
    rig.give("t1")
    assert not rig.recently_sent(Auth)
    assert rig.mode == "live"


def test_a_token_that_comes_during_the_greeting_is_presented_behind_the_welcome() -> None:
    rig = Provided("a").come_live()
    rig.do(Lost(rig.conn, None, "gone"))
    rig.greeted()
    fetch = rig.machine._credentials
    fetch._due_at = rig.now
    rig.do(Jumped())
    rig.give()
    assert not rig.recently_sent(Auth)
    rig.arrive(rig.welcome(credentials_ms=1_000_000))
    assert [auth.token for auth in rig.recently_sent(Auth)] == ["t2"]


def test_a_token_that_comes_while_a_connection_opens_is_no_other_than_that_of_the_handshake() -> None:
    rig = Provided("a").come_live()
    rig.do(Lost(rig.conn, None, "gone"))
    while rig.machine.describe().connection is None:
        rig.tick_once()
    rig.machine._credentials._due_at = rig.now
    rig.do(Jumped())
    rig.give()
    rig.do(Connected(rig.conn))
    assert rig.sent(Hello)[-1].token == "t1"
    rig.arrive(rig.welcome(credentials_ms=1_000_000))
    assert [auth.token for auth in rig.recently_sent(Auth)] == ["t2"]


def test_polls_tell_when_a_token_ends_too() -> None:
    rig = Provided("a", push=False)
    rig.open()
    rig.give()
    sent = rig.now
    rig.do(rig.polled(set_to("a", 5), next_ms=10_000_000, credentials_ms=10_000))
    rig.until_fetch()
    assert REFRESH_FROM * 10 <= rig.now - sent <= REFRESH_UPTO * 10
    rig.give()
    assert rig.machine.describe().token == "t2"


# The lease ------------------------------------------------------------------------------------------------------------


def test_no_lease_is_taken_to_go_beyond_the_credentials() -> None:
    """S6: the node's ends with them, though it told a longer TTL before."""
    rig = Provided("a").come_live(credentials_ms=8_000)
    connection = rig.machine._push.connection
    assert connection is not None
    assert connection.lease_until == pytest.approx(rig.now + CREDENTIALS_MARGIN * 8)
    rig.now += 1
    connection.extend(rig.now)
    assert connection.lease_until == pytest.approx(rig.now - 1 + CREDENTIALS_MARGIN * 8)
