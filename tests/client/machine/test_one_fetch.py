"""A large first snapshot is fetched once, by push or by poll; publishes leave the timers of polls alone."""

from __future__ import annotations

import math

import pytest

from softstate.client.machine.events import (
    Connected,
    ConnectFailed,
    Lost,
    PollAnswered,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Settled,
    Wanted,
)
from softstate.client.machine.knowledge import IDLE_PAGES_MAX
from softstate.wire.messages import BatchResult, Error, Polled, PositionMoved, Subscribe, Subscribed
from tests.kit.machine_rig import OTHER, TIMEOUT_S, URL, Rig, at, set_to


def test_while_a_snapshot_arrives_page_by_page_nothing_is_polled() -> None:
    rig = Rig("p/").syncing()
    for page in range(15):
        rig.advance(TIMEOUT_S / 2)
        rig.arrive(rig.subscribed(set_to(f"p/{page}", page + 1), more=True))
    assert rig.all(SendPoll) == []
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


def test_names_are_polled_beside_pages_that_bring_nothing() -> None:
    rig = Rig("p/").syncing()
    rig.arrive(rig.subscribed(set_to("p/1", 1), more=True))
    for _ in range(8):
        assert rig.all(SendPoll) == []
        rig.advance(TIMEOUT_S / 2)
        rig.arrive(rig.subscribed(set_to("p/1", 1), more=True))
    rig.advance(TIMEOUT_S / 2 + 1.5)
    rig.do(rig.polled())
    assert rig.mode == "syncing"
    assert rig.age < 2.0
    rig.arrive(rig.subscribed(set_to("p/2", 2)))
    assert rig.mode == "live"


@pytest.mark.parametrize("added", [False, True])
def test_a_connection_whose_answer_comes_to_no_end_is_left(added: bool) -> None:
    rig = Rig("a", "p/", urls=(URL, OTHER)).syncing() if not added else Rig("a", urls=(URL, OTHER)).live()
    if added:
        rig.do(Wanted(["p/"]))
    request, pages = rig.sent(Subscribe)[-1].id, 0
    while rig.mode != "polling":
        pages += 1
        assert pages <= IDLE_PAGES_MAX + 1
        rig.advance(0.01)
        rig.arrive(Subscribed(request, at(10), more=True))
    assert pages == IDLE_PAGES_MAX + 1
    assert "further pages without an end" in str(rig.machine.last_error)
    while rig.machine.describe().connection is None:
        rig.tick_once()
    assert (rig.connection.url == OTHER) is not added, "a node that was in order is tried once more"


def test_a_subscribe_whose_answer_is_overdue_no_longer_holds_back_the_poll() -> None:
    rig = Rig("p/").syncing()
    rig.advance(TIMEOUT_S + 1.0)
    assert rig.mode == "polling"
    assert rig.poll.message.prefixes == {"p/": 0}


def test_a_subscribe_that_failed_no_longer_holds_back_the_poll() -> None:
    rig = Rig("p/").syncing()
    rig.arrive(Error("unavailable", "down", rig.sent(Subscribe)[-1].id, retry_ms=10_000))
    rig.advance(2.0)
    assert rig.poll.message.prefixes == {"p/": 0}


def test_names_that_are_known_are_polled_while_they_are_subscribed_anew() -> None:
    rig = Rig("a", "p/").live([set_to("a", 4)]).renewing()
    rig.arrive(rig.renewed(match=False))
    rig.do(Wanted(["new/"]))
    rig.advance(1.0)
    assert rig.poll.message.prefixes == {"p/": 10}, "only what changed comes back; new/ is on its way"
    assert rig.poll.message.topics == {"a": 4}


def test_a_connection_that_fails_is_followed_by_a_poll_at_once() -> None:
    rig = Rig("p/").open()
    rig.do(ConnectFailed(rig.conn, "refused"))
    rig.advance(1.0)
    assert len(rig.all(SendPoll)) == 1


def test_a_connection_that_takes_long_is_passed_by_a_poll() -> None:
    rig = Rig("p/").open()
    rig.do(Connected(rig.conn))
    rig.advance(1.5)
    assert rig.mode == "connecting"
    assert len(rig.all(SendPoll)) == 1


def test_a_poll_under_way_ends_with_its_page_when_a_subscribe_brings_the_rest() -> None:
    rig = Rig("p/").open()
    rig.do(Connected(rig.conn))
    rig.advance(1.5)
    rig.do(rig.polled(set_to("p/1", 1), more=True, cursor="1"))
    assert len(rig.all(SendPoll)) == 2, "as long as there is no welcome: the connection takes long"
    rig.arrive(rig.welcome())
    rig.do(rig.polled(set_to("p/2", 2), more=True, cursor="2"))
    assert rig.delivered() == [set_to("p/2", 2)]
    assert len(rig.all(SendPoll)) == 2
    rig.advance(2.0)
    rig.arrive(rig.subscribed(set_to("p/3", 3)))
    assert (rig.mode, rig.age) == ("live", 3.5), "the subscribe was sent with hello"
    assert len(rig.all(SendPoll)) == 2


# The path rule after a reset by a welcome ---------------------------------------------------------------------------


def test_a_connection_that_was_reset_by_its_welcome_may_go_on_in_the_new_history() -> None:
    # The next message is of another lineage than the `hello` carried. It is used, since the welcome reset the client to
    # the position that the connection named; else every reset would end in a connection that is left.
    rig = Rig("a").live([set_to("a", 4)])
    rig.do(Lost(rig.conn, None, "cut"))
    rig.greeted()
    rig.arrive(rig.welcome(3, reset=True, position=at(3, "l2")))
    rig.arrive(PositionMoved(at(4, "l3")))
    assert rig.machine.position == at(4, "l3")
    rig.arrive(rig.subscribed(set_to("a", 2), position=at(4, "l3")))
    assert (rig.mode, rig.left()) == ("live", False)
    assert rig.machine.statistics().history_mismatches == 0


# Publishes and the timers of polls -----------------------------------------------------------------------------------


def _asked(ticket: int) -> PublishRequested:
    return PublishRequested(ticket, "a", 1, deleted=False, expect=None, key=f"k{ticket}")


def test_a_result_without_code_and_position_is_sent_again_after_a_backoff() -> None:
    rig = Rig(push=False).open()
    rig.do(_asked(1))
    for round_ in range(1, 6):
        rig.do(PublishAnswered(rig.all(SendPublish)[-1].request, [BatchResult("a", 9)]))
        assert len(rig.all(SendPublish)) == round_, "not at once"
        before = rig.now
        while len(rig.all(SendPublish)) == round_:
            rig.tick_once()
        assert rig.now > before
    rig.do(PublishAnswered(rig.all(SendPublish)[-1].request, [BatchResult("a", 9, at(9))]))
    assert len(rig.recent(Settled)) == 1


def test_publishes_that_fail_while_offline_do_not_draw_the_timer_of_polls_anew() -> None:
    rig = Rig("a", push=False).open()
    while rig.mode != "offline":
        rig.do(RequestFailed(rig.poll.request, "unreachable"))
        if not rig.machine.describe().polling and rig.mode != "offline":
            rig.tick_once()
    due, failures = rig.machine._retries.deadline(), rig.machine._core.failures
    assert due < math.inf
    rig.do(_asked(1))
    tried = 0
    while rig.machine.deadline() < due or rig.machine.describe().publishing:
        if rig.machine.describe().publishing:
            tried += 1
            rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "unreachable"))
        else:
            rig.tick_once()
        assert rig.machine._retries.deadline() == due
    assert tried >= 1
    assert rig.machine._core.failures == failures


@pytest.mark.parametrize("subscribed", [True, False])
def test_an_offline_client_that_only_publishes_still_connects_by_its_own_timer(subscribed: bool) -> None:
    rig = Rig(*(["a"] if subscribed else [])).open()
    for _ in range(200):
        if rig.mode == "offline":
            break
        if rig.machine.describe().connection is not None:
            rig.do(ConnectFailed(rig.conn, "refused"))
        elif rig.machine.describe().polling:
            rig.do(RequestFailed(rig.poll.request, "unreachable"))
        else:
            rig.tick_once()
    assert rig.mode == "offline"
    due = rig.machine._retries.deadline()
    rig.do(_asked(1))
    while rig.machine.describe().publishing:
        rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "unreachable"))
    assert rig.machine._retries.deadline() == due


def test_an_answer_to_a_poll_that_was_given_up_for_a_subscribe_is_harmless() -> None:
    rig = Rig("p/").syncing()
    assert rig.do(PollAnswered(99, Polled(0, at(11), [set_to("p/1", 11)]))) == []
