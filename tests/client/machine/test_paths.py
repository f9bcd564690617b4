"""Rewound stores, polling and publishing: the client's part of P-REW, P-PUB and P-CLI."""

from __future__ import annotations

import math
from itertools import cycle

import msgspec
import pytest

from softstate.client.machine.events import (
    Abandon,
    Closed,
    Connect,
    ConnectFailed,
    Deliver,
    Forked,
    Lost,
    Opened,
    PublishAnswered,
    PublishDropped,
    PublishRequested,
    RequestFailed,
    Reset,
    Send,
    SendPoll,
    SendPublish,
    Settled,
    Unwanted,
    Wanted,
)
from softstate.client.machine.portions import NAMES_MAX
from softstate.errors import (
    Denied,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Rewound,
    Unauthenticated,
    Unavailable,
)
from softstate.model import Change
from softstate.wire.messages import BatchResult, Error, Limits, Notify, PositionMoved, Publish, Published, Revoked
from tests.kit.machine_rig import LIMITS, OTHER, TIMEOUT_S, URL, Rig, at, gone, set_to


def _cut(rig: Rig) -> Rig:
    rig.do(Lost(rig.conn, None, "cut"))
    return rig


def _polling(rig: Rig) -> Rig:
    """Lose the connection and go on to the first poll."""
    _cut(rig)
    while not rig.machine.describe().polling:
        if rig.machine.describe().connection is not None:
            rig.do(ConnectFailed(rig.conn, "refused"))
            rig.machine._core.failures = 0
        rig.tick_once()
    return rig


def _asked(ticket: int, topic: str = "a") -> PublishRequested:
    return PublishRequested(ticket, topic, ticket, deleted=False, expect=None, key=f"key-{ticket}")


# Rewound stores ------------------------------------------------------------------------------------------------------


def _two_stores(rig: Rig, pattern: str, seconds: float) -> list[float]:
    """Answer polls as two nodes of two stores behind one URL, in turn; return when polls were sent."""
    sent: list[float] = []
    end, turn = rig.now + seconds, cycle(pattern)
    while rig.now < end:
        if not rig.machine.describe().polling:
            rig.tick_once()
            continue
        sent.append(rig.now)
        rig.now += 0.002
        store, position = next(turn), rig.poll.message.position
        if position is not None and position.epoch != store:
            rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=at(5, epoch=store))))
        else:
            rig.do(rig.polled(position=at(5, epoch=store), next_ms=15_000))
    return sent


@pytest.mark.parametrize("pattern", ["xy", "xxy", "xyyx"])
@pytest.mark.parametrize("names", [1, 2_500])
def test_two_stores_behind_one_url_are_not_polled_without_a_pause(pattern: str, names: int) -> None:
    rig = Rig(*(f"t{number}" for number in range(names)), push=False).open()
    sent = _two_stores(rig, pattern, 600.0)
    assert len(sent) < 600.0 / 12.0 * 6
    assert all(sum(at_s <= each < at_s + 5.0 for each in sent) < 20 for at_s in sent)
    rig.do(*([rig.polled(position=at(5, epoch="x"))] if rig.machine.describe().polling else []))
    _two_stores(rig, "x", 120.0)
    assert rig.age < 20.0, "once there is one store"


def test_the_poll_after_a_reset_comes_at_once_again_when_the_set_has_had_an_age() -> None:
    rig = Rig("a", push=False).open()
    rig.do(rig.polled())
    for revision in range(3, 8):
        while not rig.machine.describe().polling:
            rig.tick_once()
        polls = len(rig.all(SendPoll))
        position = at(revision, f"l{revision}")
        rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=position)))
        assert len(rig.all(SendPoll)) == polls + 1
        rig.do(rig.polled(position=position))


def test_a_reset_comes_before_the_first_value_of_the_new_history() -> None:
    rig = _polling(Rig("a", "b").live([set_to("a", 8), set_to("b", 9)]))
    rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=at(3, "l2"))))
    assert rig.recent(Reset) == [Reset(at(3, "l2"))]
    assert rig.age == math.inf
    assert rig.machine.known("a") == [Change("a", 0, "v8")], "old values stay readable"
    assert rig.poll.message.topics == {"a": 0, "b": 0}
    rig.do(rig.polled(set_to("a", 2), position=at(4, "l2")))
    assert rig.delivered() == [set_to("a", 2), gone("b", 4)]
    assert rig.machine.statistics().resets == 1


def test_rewound_before_the_welcome_resets() -> None:
    rig = _cut(Rig("a").live())
    rig.greeted()
    rig.arrive(Error("rewound", "gone", position=at(3, "l2")))
    assert rig.recent(Reset) == [Reset(at(3, "l2"))]
    assert (rig.mode, rig.left()) == ("polling", True)


def test_rewound_that_names_no_position_is_only_a_failure() -> None:
    rig = _polling(Rig("a").live())
    rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound")))
    assert rig.recent(Reset) == []
    rig = Rig("a").live()
    assert rig.arrive(Error("rewound", "gone")) == []


def test_an_answer_to_a_poll_sent_before_a_reset_is_discarded() -> None:
    rig = _cut(Rig("a").live())
    rig.greeted()
    while not rig.machine.describe().polling:
        rig.tick_once()
    poll = rig.poll
    rig.arrive(rig.welcome(position=at(3, "l2"), reset=True))
    assert Abandon(poll.request) in rig.last
    rig.do(rig.polled(set_to("a", 9)))
    assert rig.all(Deliver, rig.last) == []


def test_a_poll_answer_of_another_lineage_is_used_only_from_the_position_it_carried() -> None:
    rig = _polling(Rig("a").live())
    rig.do(rig.polled(set_to("a", 12), position=at(12, "l2")))
    assert rig.delivered() == [set_to("a", 12)]
    rig = _cut(Rig("a").live())
    rig.greeted()
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.arrive(rig.welcome(11))
    rig.do(rig.polled(set_to("a", 12), position=at(12, "l2")))
    assert rig.delivered() == []
    assert rig.machine.statistics().history_mismatches == 1
    polls = len(rig.all(SendPoll))
    rig.advance(0.5)
    assert len(rig.all(SendPoll)) == polls + 1, "and polls again"
    assert rig.poll.message.position == at(11)


def test_rewound_to_a_poll_that_carried_another_position_is_asked_again() -> None:
    rig = _cut(Rig("a").live())
    rig.greeted()
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.arrive(rig.welcome(11))
    rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=at(3, "l2"))))
    assert rig.recent(Reset) == []
    rig.advance(0.5)
    assert rig.poll.message.position == at(11)


@pytest.mark.parametrize("what", ["notify", "renewed", "subscribed", "position", "rewound"])
def test_a_connection_in_another_lineage_is_left_once_something_else_moved_the_position(what: str) -> None:
    rig = Rig("a").suspect()
    rig.do(rig.polled(position=at(12, "l2")))
    match what:
        case "notify":
            rig.arrive(Notify("a", 11, "other history"))
        case "renewed":
            rig.arrive(rig.renewed(13))
        case "subscribed":
            rig.do(Wanted(["b"]))
            rig.arrive(rig.subscribed(set_to("b", 3)))
        case "position":
            rig.arrive(PositionMoved(at(14, "l3")))
        case _:
            rig.arrive(Error("rewound", "gone", position=at(5, "l3")))
    assert rig.left()
    assert (rig.mode, rig.delivered()) == ("polling", [])
    assert rig.machine.statistics().history_mismatches == 1
    rig.advance(2.0)
    assert len(rig.all(Connect)) == 2


def test_a_connection_that_names_the_new_lineage_is_kept() -> None:
    rig = Rig("a").suspect()
    rig.do(rig.polled(position=at(12, "l2")))
    rig.arrive(PositionMoved(at(12, "l2")), Notify("a", 13, "v13"))
    assert rig.delivered() == [set_to("a", 13)]
    assert rig.machine.position == at(13, "l2")


def test_a_welcome_in_another_history_than_a_poll_brought_is_left() -> None:
    rig = Rig("a")
    rig.greeted()
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.do(rig.polled(position=at(12, "l2")))
    rig.arrive(rig.welcome(9))
    assert (rig.mode, rig.left()) == ("polling", True)
    assert rig.greeted().position == at(12, "l2")


# Polling -------------------------------------------------------------------------------------------------------------


def test_the_next_poll_comes_when_the_node_says_or_after_the_interval_with_jitter() -> None:
    rig = Rig("a", push=False).open()
    rig.do(rig.polled(next_ms=4_000))
    assert 3.2 <= rig.machine.deadline() - rig.now <= 4.8
    rig.advance(4.8)
    rig.do(rig.polled())
    assert 12.0 <= rig.machine.deadline() - rig.now <= 18.0


def test_a_poll_that_takes_too_long_is_given_up() -> None:
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    first = rig.poll
    rig.advance(10.0)
    assert Abandon(first.request) in rig.last
    rig.advance(0.01)
    assert rig.poll.url == OTHER, "the other URL at once"


@pytest.mark.parametrize("error", [None, Unavailable("down", retry_ms=7_000), NotFound("no"), Overloaded("busy")])
def test_a_failed_poll_backs_off_or_waits_as_told(error: Exception | None) -> None:
    rig = Rig("a", push=False).open()
    rig.do(RequestFailed(rig.poll.request, "failed", error))  # type: ignore[arg-type]
    wait_s = rig.machine.deadline() - rig.now
    assert (7.0 <= wait_s <= 8.0) if isinstance(error, Unavailable) else (0.0 <= wait_s <= 1.0), "and spread, by 1 s"


def test_names_wanted_while_polling_are_polled_at_once_even_behind_a_poll_in_flight() -> None:
    rig = Rig(push=False).open()
    assert rig.machine.deadline() == math.inf, "no names, nothing to poll"
    rig.do(Wanted(["a"]))
    assert rig.poll.message.topics == {"a": 0}
    rig.do(Wanted(["b"]))
    rig.do(rig.polled())
    assert rig.poll.message.topics == {"a": 0, "b": 0}
    assert rig.now == 1_000.0


def test_names_wanted_while_connecting_wait_for_the_first_poll() -> None:
    rig = Rig().open()
    rig.do(Wanted(["a"]))
    assert rig.all(SendPoll) == []
    rig.advance(1.5)
    assert len(rig.all(SendPoll)) == 1


def test_names_dropped_during_a_round_are_not_asked_about() -> None:
    names = [f"t{n}" for n in range(NAMES_MAX + 1)]
    rig = Rig(*names, push=False).open()
    rig.do(Unwanted([names[-1]]))
    rig.do(rig.polled())
    assert not rig.machine.describe().polling
    assert rig.age == 0.0


def test_names_wanted_while_offline_are_asked_about_within_the_cap() -> None:
    rig = Rig(push=False).open()
    for ticket in range(3):
        rig.do(_asked(ticket))
        while not rig.machine.describe().publishing:
            rig.tick_once()
        rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "unreachable"))
    assert rig.mode == "offline"
    rig.do(Wanted(["a"]))
    rig.advance(30.0)
    assert len(rig.all(SendPoll)) >= 1


# Publishing ----------------------------------------------------------------------------------------------------------


def test_publishes_go_over_the_connection_once_welcomed_and_again_after_a_loss() -> None:
    rig = Rig()
    rig.do(Opened(), _asked(1))
    assert rig.all(SendPublish) == []
    rig.live()
    assert rig.sent(Publish)[0].key == "key-1"
    _cut(rig)
    (request,) = rig.recent(SendPublish)
    assert [change.key for change in request.changes] == ["key-1"]
    rig.do(PublishAnswered(request.request, [BatchResult("a", 11, at(11))]))
    (settled,) = rig.recent(Settled)
    assert settled == Settled(1, Published(1, "a", 11, at(11)))
    assert rig.machine.statistics().publishes_repeated == 1


def test_publishes_wait_a_second_for_the_first_connection() -> None:
    rig = Rig().open()
    rig.do(_asked(1))
    rig.advance(0.99)
    assert rig.all(SendPublish) == []
    rig.advance(0.01)
    assert len(rig.all(SendPublish)) == 1
    rig.do(_asked(2, "b"), PublishDropped(2))
    assert len(rig.all(SendPublish)) == 1, "one request at a time"


def test_a_publish_unanswered_for_long_leaves_the_connection() -> None:
    for revoked in (False, True):
        rig = Rig().live()
        rig.do(_asked(1))
        if revoked:
            rig.arrive(Revoked("expired", 100_000))
        rig.advance(4 * TIMEOUT_S)
        assert rig.left()
        assert rig.mode == "polling"


def test_an_error_about_a_publish_concerns_it_alone() -> None:
    rig = Rig().live()
    rig.do(_asked(1))
    rig.arrive(Error("denied", "not yours", 1))
    assert rig.mode == "live"
    assert len(rig.recent(Settled)) == 1


def test_publishes_over_http_fail_and_go_elsewhere() -> None:
    rig = Rig(push=False, urls=(URL, OTHER)).open()
    rig.do(_asked(1))
    first = rig.all(SendPublish)[-1]
    rig.do(RequestFailed(first.request, "unreachable"))
    second = rig.all(SendPublish)[-1]
    assert (first.url, second.url) == (URL, OTHER)
    rig.advance(10.0)
    assert Abandon(second.request) in rig.last
    rig.advance(1.0)
    third = rig.all(SendPublish)[-1]
    rig.do(PublishAnswered(third.request, []))
    assert rig.recent(Settled) == [], "an answer of the wrong length is none"
    rig.advance(1.0)
    rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "no", Invalid("no")))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, OutcomeUnknown), "attempts without an answer came before"
    rig.do(PublishAnswered(third.request, []))
    assert rig.last == []


@pytest.mark.parametrize("lost_before", [False, True])
def test_publishes_that_every_url_refuses_by_name_were_not_applied_unless_sent_before(lost_before: bool) -> None:
    rig = Rig(push=False, urls=(URL, OTHER)).open()
    rig.do(_asked(1))
    if lost_before:
        rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "broken off"))
    error = Denied("not by this name", why="host")
    while not rig.recent(Settled):
        if rig.machine.describe().publishing:
            rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "no", error))
        else:
            rig.tick_once()
    (settled,) = rig.recent(Settled)
    assert {request.url for request in rig.all(SendPublish)} == {URL, OTHER}
    assert isinstance(settled.outcome, OutcomeUnknown) if lost_before else settled.outcome == error


def test_children_of_one_fork_draw_different_publishers() -> None:
    publishers = set()
    for seed in (None, 2, 3):
        rig = Rig()
        if seed is not None:
            rig.do(Forked(seed))
        rig.live()
        rig.do(PublishRequested(1, "a", 1, deleted=False, expect=None, key=None))
        publishers.add(rig.sent(Publish)[-1].publisher)
    assert len(publishers) == 3


def test_a_node_that_takes_no_publish_beyond_what_is_settled_gets_one_at_a_time() -> None:
    rig = Rig().syncing(limits=msgspec.structs.replace(LIMITS, inflight=0))
    for ticket, topic in enumerate("ab", start=1):
        rig.do(PublishRequested(ticket, topic, 1, deleted=False, expect=None, key=None))
    assert [publish.seq for publish in rig.sent(Publish)] == [1]


def test_offline_a_publish_answered_is_polling() -> None:
    rig = Rig(push=False).open()
    rig.do(_asked(1))
    while rig.mode != "offline":
        if rig.machine.describe().publishing:
            rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "unreachable", Unavailable("down")))
        else:
            rig.tick_once()
    rig.do(Wanted(["a"]))
    while not rig.machine.describe().publishing:
        rig.tick_once()
    rig.do(PublishAnswered(rig.all(SendPublish)[-1].request, [BatchResult("a", 3, at(3))]))
    assert rig.mode == "polling"
    rig.advance(1.0)
    assert len(rig.all(SendPoll)) == 1


def test_credentials_refused_to_a_publish_request_stop() -> None:
    rig = Rig(push=False).open()
    rig.do(_asked(1))
    error = Unauthenticated("expired")
    rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "no", error))
    assert rig.mode == "stopped"
    assert rig.recent(Settled) == [Settled(1, error)]


def test_closing_gives_up_a_publish_request() -> None:
    rig = Rig(push=False).open()
    rig.do(_asked(1), Closed())
    assert Abandon(rig.all(SendPublish)[-1].request) in rig.last


def test_the_key_life_is_the_nodes() -> None:
    rig = Rig().live()
    assert rig.machine._queue.key_s == 600.0
    rig = Rig().syncing(limits=Limits(9, 65_536, 1_048_576, 1, 1, 20_000, 1_024, 4_096, 16_384))
    assert rig.machine._queue.key_s == 20.0


def test_a_connection_reported_as_failed_after_it_was_made_is_lost() -> None:
    rig = Rig("a").live()
    rig.do(ConnectFailed(rig.conn, "odd"))
    assert rig.mode == "polling"


def test_sends_come_before_the_goodbye_of_the_connection() -> None:
    rig = Rig("a").live()
    rig.do(Closed())
    kinds = [type(action) for action in rig.last]
    assert kinds.index(Send) < len(kinds) - 1
