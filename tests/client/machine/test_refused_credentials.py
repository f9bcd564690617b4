"""The client's token where a node refuses it: another one is fetched, and all paths wait for it."""

from __future__ import annotations

import pytest

from softstate.client.machine.credentials import REFUSED_MAX
from softstate.client.machine.events import (
    Connect,
    Connected,
    ConnectFailed,
    Disconnect,
    FetchToken,
    Jumped,
    Lost,
    NodeRefused,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Settled,
    Stopped,
    TokenRefused,
)
from softstate.errors import Unauthenticated
from softstate.wire.messages import Auth, Authenticated, Error, Hello, Publish, Published, Renew, Revoked, Subscribe
from tests.kit.machine_rig import OTHER, URL, Rig, at
from tests.kit.provided_rig import HOUR_MS, Provided


def refusal(number: str | int | None = None, why: str = "expired") -> Error:
    return Error("unauthenticated", "not good", number, why=why)


def test_without_a_provider_a_refusal_stops_the_client() -> None:
    rig = Rig("a", token="t")
    assert rig.greeted().token == "t"
    rig.arrive(refusal())
    assert rig.mode == "stopped"
    (stopped,) = rig.recent(Stopped)
    assert isinstance(stopped.error, Unauthenticated)
    assert stopped.error.why == "expired"


@pytest.mark.parametrize("how", ["error", "close", "http", "poll"])
def test_a_refused_token_is_replaced_and_all_paths_wait(how: str) -> None:
    rig = Provided("a")
    rig.open()
    rig.give()
    if how == "http":
        error = Unauthenticated("no", why="signature")
        rig.do(ConnectFailed(rig.conn, "401", 401, error=error))
    elif how == "poll":
        rig.advance(5)
        rig.do(RequestFailed(rig.poll.request, "401", Unauthenticated("no", why="signature")))
    else:
        rig.do(Connected(rig.conn))
        if how == "error":
            rig.arrive(refusal(why="signature"))
        rig.do(Lost(rig.conn, 4100, "no"))
    assert rig.mode == "polling"
    assert [told.url for told in rig.all(NodeRefused)] == [URL]
    fetches = rig.all(FetchToken)
    polls, connects = len(rig.all(SendPoll)), len(rig.all(Connect))
    if len(fetches) == 1:  # it was fresh: after a backoff
        rig.until_fetch()
    assert rig.all(FetchToken)[-1].rejected == ("unauthenticated" if how == "close" else "signature")
    rig.advance(200)
    assert (len(rig.all(SendPoll)), len(rig.all(Connect))) == (polls, connects)
    assert rig.mode == "polling"
    rig.give()
    assert rig.recent(SendPoll)
    assert rig.recent(Connect)
    rig.do(Connected(rig.conn))
    assert rig.sent(Hello)[-1].token == "t2"
    rig.live_with()


def test_a_refused_renewal_keeps_the_connection_and_goes_on_with_another_token() -> None:
    rig = Provided("a").come_live()
    rig.renewing()
    rig.arrive(refusal(rig.sent(Renew)[-1].id))
    assert rig.mode == "polling"
    assert not rig.recent(Disconnect)
    assert rig.recent(FetchToken) == [FetchToken(rig.all(FetchToken)[-1].number, "expired", 0)]
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    assert rig.recent(SendPoll)
    subscribes = len(rig.sent(Subscribe))
    rig.arrive(Authenticated(auth.id, HOUR_MS))
    rig.advance(0)
    assert rig.mode == "syncing"
    assert len(rig.sent(Subscribe)) == subscribes + 1
    assert rig.sent(Subscribe)[-1].replace
    rig.arrive(rig.subscribed(revision=10))
    assert rig.mode == "live"
    assert rig.machine.statistics().connects == 1
    assert not rig.all(NodeRefused), "that a token has ended is no news"


def test_a_lease_that_is_revoked_as_denied_is_the_same() -> None:
    rig = Provided("a").come_live()
    rig.arrive(Revoked("denied"))
    assert (rig.mode, rig.recent(FetchToken)[0].rejected) == ("polling", "revoked")
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    rig.arrive(Authenticated(auth.id))
    rig.advance(0)
    assert rig.mode == "syncing"
    other = Rig("a").live()
    other.arrive(Revoked("denied"))
    assert other.mode == "stopped"


def test_a_bad_new_token_leaves_the_client_live_and_another_is_fetched() -> None:
    rig = Provided("a").come_live()
    ends_at = rig.now + HOUR_MS / 1000
    rig.live_until_fetch(ends_at)
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    rig.arrive(refusal(auth.id, "signature"))
    assert rig.mode == "live"
    assert [told.error.why for told in rig.all(NodeRefused)] == ["signature"]
    assert rig.machine.describe().token == "t1"
    rig.live_until_fetch(ends_at)
    assert rig.all(FetchToken)[-1].rejected == "signature"


def test_an_answer_to_what_was_sent_before_the_new_token_waits_for_it() -> None:
    """The old token ends while `auth` is on its way: the lease is over, and begins again behind `authenticated`."""
    rig = Provided("a").come_live()
    rig.renewing()
    rig.machine._credentials._due_at = rig.now
    rig.do(Jumped())
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    fetches = len(rig.all(FetchToken))
    rig.arrive(refusal(rig.sent(Renew)[-1].id))
    assert rig.mode == "polling"
    assert len(rig.all(FetchToken)) == fetches
    rig.arrive(Authenticated(auth.id, HOUR_MS))
    rig.advance(0)
    assert rig.mode == "syncing"


def test_a_token_that_a_node_cannot_judge_yet_is_presented_again() -> None:
    """Its key may be on its way: that is no refusal."""
    rig = Provided("a").come_live()
    rig.live_until_fetch(rig.now + HOUR_MS / 1000)
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    rig.arrive(Error("unavailable", "keys are being fetched", auth.id, 500))
    assert rig.mode == "live"
    rig.live_until_fetch(rig.now + 600)
    rig.give("t2")
    assert [each.token for each in rig.recently_sent(Auth)] == ["t2"]


def test_the_same_token_again_is_not_presented_again() -> None:
    """A8: a provider that keeps tokens gives the refused one twice."""
    rig = Provided("a").come_live()
    rig.renewing()
    rig.arrive(refusal(rig.sent(Renew)[-1].id))
    for _ in range(2):
        rig.give("t1")
        assert not rig.recently_sent(Auth)
        assert rig.until_fetch().rejected == "expired"
    rig.give("good")
    assert rig.recently_sent(Auth)


def test_three_other_tokens_that_are_refused_stop_the_client() -> None:
    rig = Provided("a")
    rig.open()
    for _ in range(REFUSED_MAX):
        assert rig.mode != "stopped"
        rig.give()
        rig.greeted()
        rig.arrive(refusal(why="audience"))
        if rig.mode != "stopped":
            rig.until_fetch()
    assert rig.mode == "stopped"


def test_refusals_of_one_token_count_once() -> None:
    """Reads, polls and the connection present the same."""
    rig = Provided("a").come_live()
    for _ in range(REFUSED_MAX):
        rig.do(TokenRefused("t1", Unauthenticated("no", why="audience")))
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    rig.arrive(refusal(auth.id, "audience"))
    assert rig.mode == "live"


@pytest.mark.parametrize("why", ["unknown_key", "not_yet", "expired", "revoked"])
def test_refusals_that_waiting_mends_stop_no_client(why: str) -> None:
    """S14: a node may not have fetched the keys yet, and clocks differ."""
    rig = Provided("a")
    rig.open()
    for _ in range(10):
        rig.give()
        rig.greeted()
        rig.arrive(refusal(why=why))
        rig.until_fetch()
    assert rig.mode == "polling"
    rig.give()
    rig.live_with()


def test_a_refusal_of_an_earlier_token_says_nothing() -> None:
    rig = Provided("a", urls=(URL, OTHER), push=False)
    rig.open()
    rig.give()
    request = rig.poll.request
    rig.machine._credentials._due_at = rig.now
    rig.do(Jumped())
    rig.give()
    fetches = len(rig.all(FetchToken))
    rig.do(RequestFailed(request, "401", Unauthenticated("no")))
    rig.advance(2)
    assert len(rig.all(FetchToken)) == fetches
    assert rig.poll.request != request


def test_a_read_that_is_refused_has_a_token_fetched_and_leaves_the_connection_alone() -> None:
    rig = Provided("a").come_live()
    rig.do(TokenRefused("t0", Unauthenticated("no")))
    assert not rig.recent(FetchToken)
    rig.do(TokenRefused("t1", Unauthenticated("no", why="signature")))
    assert (rig.mode, rig.recent(FetchToken)[0].rejected) == ("live", "signature")
    rig.give()
    assert rig.recently_sent(Auth)
    lonely = Rig("a", token="t").live()
    lonely.do(TokenRefused("t", Unauthenticated("no")))
    assert lonely.mode == "live"


def test_a_presented_token_that_is_never_answered_has_the_connection_left() -> None:
    rig = Provided("a").come_live()
    rig.renewing()
    rig.arrive(refusal(rig.sent(Renew)[-1].id))
    rig.give()
    rig.advance(4 * 5.0 + 0.1)
    assert rig.all(Disconnect)


# Publishes ------------------------------------------------------------------------------------------------------------


def publish(ticket: int) -> PublishRequested:
    return PublishRequested(ticket, f"p{ticket}", 1, deleted=False, expect=None, key=None)


def test_publishes_that_are_refused_are_made_again_behind_the_token() -> None:
    rig = Provided("a").come_live()
    rig.do(publish(1), publish(2))
    first, second = rig.sent(Publish)
    rig.arrive(refusal(first.id), refusal(second.id))
    assert not rig.all(Settled)
    assert not rig.recent(Disconnect)
    rig.do(publish(3))
    assert len(rig.sent(Publish)) == 2
    rig.give()
    (auth,) = rig.recently_sent(Auth)
    rig.arrive(Authenticated(auth.id))
    again = rig.sent(Publish)[2:]
    assert [(each.topic, each.seq) for each in again] == [("p1", first.seq), ("p2", second.seq), ("p3", 3)]
    rig.arrive(*(Published(each.id, each.topic, 11, at(11)) for each in again))
    assert len(rig.all(Settled)) == 3


def test_publishes_over_http_wait_for_the_token() -> None:
    rig = Provided("a", push=False)
    rig.open()
    rig.do(publish(1))
    rig.give()
    request = rig.all(SendPublish)[-1].request
    rig.do(RequestFailed(request, "401", Unauthenticated("no")))
    assert not rig.all(Settled)
    if len(rig.all(FetchToken)) == 1:
        rig.until_fetch()
    sent = len(rig.all(SendPublish))
    rig.advance(50)
    assert len(rig.all(SendPublish)) == sent
    rig.give()
    assert len(rig.all(SendPublish)) == sent + 1
