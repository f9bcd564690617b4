"""One flight (P-CLI-16): what goes behind hello, what its answers mean, and what a reset makes of them."""

from __future__ import annotations

import math

import pytest

from softstate.client.machine.events import (
    ConnectFailed,
    Deliver,
    Disconnect,
    Lost,
    NamesDenied,
    Reset,
    SendPoll,
    Unwanted,
    Wanted,
)
from softstate.wire.messages import Error, Hello, Limits, Notify, Renew, Renewed, ServerBye, Subscribe, Unsubscribe
from tests.kit.machine_rig import OTHER, POLL, RECOVER, TIMEOUT_S, URL, Rig, at, set_to

FEW = Limits(3, 65_536, 1_048_576, 1_024, 100_000, 600_000, 1_024, 4_096, 16_384)


def greeted(*names: str) -> Rig:
    rig = Rig(*names)
    rig.greeted()
    return rig


def cut(rig: Rig, code: int | None = None) -> Rig:
    rig.do(Lost(rig.conn, code, "cut"))
    return rig


def repairs(rig: Rig) -> int:
    statistics = rig.machine.statistics()
    return sum(getattr(statistics, name) for name in statistics.__slots__ if name.startswith("repairs_"))


# Subscribing ----------------------------------------------------------------------------------------------------------


def test_a_new_session_is_subscribed_behind_hello() -> None:
    rig = greeted("a", "p/")
    hello, subscribe = rig.recently_sent(object)
    assert isinstance(hello, Hello)
    assert isinstance(subscribe, Subscribe)
    assert (subscribe.topics, subscribe.prefixes, subscribe.replace) == ({"a": 0}, {"p/": 0}, True)
    rig.arrive(rig.welcome())
    assert rig.recently_sent(object) == []
    assert rig.mode == "syncing"
    rig.now += 1.0
    rig.arrive(rig.subscribed(set_to("a", 4)))
    assert (rig.mode, rig.age, rig.delivered()) == ("live", 1.0, [set_to("a", 4)])
    rig.renewing().arrive(rig.renewed(12))
    assert (rig.mode, rig.age, repairs(rig)) == ("live", 0.0, 0)


def test_it_says_what_is_known_already() -> None:
    rig = cut(Rig("a", "p/").live([set_to("a", 4)]))
    rig.now += 60.0  # so that the session is over
    rig.greeted()
    assert rig.sent(Subscribe)[-1].topics == {"a": 4}
    assert rig.sent(Subscribe)[-1].prefixes == {"p/": 10}


def test_nothing_wanted_is_nothing_said() -> None:
    assert greeted().recently_sent(Subscribe) == []


def test_after_it_the_session_may_be_resumed() -> None:
    rig = cut(Rig("a").live([set_to("a", 4)]))
    hello = rig.greeted()
    assert (hello.session, hello.since) == ("s1", 10)
    assert len(rig.sent(Subscribe)) == 1


def test_names_that_come_before_the_welcome_are_subscribed_behind_it() -> None:
    rig = greeted("a")
    rig.do(Wanted(["b"]))
    assert rig.recently_sent(Subscribe) == []
    rig.arrive(rig.welcome())
    (more,) = rig.recently_sent(Subscribe)
    assert (more.topics, more.replace) == ({"b": 0}, False)
    first = rig.sent(Subscribe)[0]
    rig.arrive(rig.subscribed(id=first.id))
    assert (rig.mode, rig.age) == ("syncing", math.inf)
    rig.arrive(rig.subscribed())
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_names_that_leave_before_the_welcome_leave_the_lease() -> None:
    rig = greeted("a", "b")
    rig.do(Unwanted(["b"]))
    rig.arrive(rig.welcome())
    (left,) = rig.recently_sent(Unsubscribe)
    assert left.topics == ["b"]
    assert rig.recently_sent(Subscribe) == []
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


def test_a_name_that_left_and_came_back_is_asked_for_again() -> None:
    """The answer to the first request says nothing of it: what was pushed in between would be lost (P-KNOW-3)."""
    rig = greeted("a", "b")
    rig.do(Unwanted(["b"]), Wanted(["b"]))
    rig.arrive(rig.welcome())
    assert rig.recently_sent(Unsubscribe) == []
    (again,) = rig.recently_sent(Subscribe)
    assert again.topics == {"b": 0}
    rig.arrive(rig.subscribed(id=rig.sent(Subscribe)[0].id))
    assert rig.age == math.inf
    rig.arrive(rig.subscribed())
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_all_names_leave_before_the_welcome() -> None:
    rig = greeted("a")
    rig.do(Unwanted(["a"]))
    rig.arrive(rig.welcome())
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"
    rig.renewing()
    assert rig.sent(Renew)[-1].count == 0


# How many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "early"), [(1_024, [1_000, 24]), (1_025, [1_000, 24]), (3_000, [1_000, 24])])
def test_1024_names_go_early_to_a_url_that_has_told_no_limits(count: int, early: list[int]) -> None:
    rig = greeted(*(f"t{number}" for number in range(count)))
    assert [len(each.topics) for each in rig.recently_sent(Subscribe)] == early
    assert [each.replace for each in rig.recently_sent(Subscribe)] == [True, False]
    rig.arrive(rig.welcome())
    assert sum(len(each.topics) for each in rig.recently_sent(Subscribe)) == count - 1_024
    assert not any(each.replace for each in rig.recently_sent(Subscribe))
    for each in rig.sent(Subscribe):
        assert rig.mode == "syncing"
        rig.arrive(rig.subscribed(id=each.id))
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_as_many_go_early_as_the_url_has_told() -> None:
    rig = cut(Rig().syncing(), 4_000)
    rig.do(Wanted([f"t{number}" for number in range(2_500)]))
    rig.greeted()
    assert [len(each.topics) for each in rig.sent(Subscribe)] == [1_000, 1_000, 500]
    rig.arrive(rig.welcome())
    assert rig.recently_sent(Subscribe) == []


def test_the_limits_of_one_url_are_not_those_of_another() -> None:
    rig = Rig("a", "b", "c", urls=(URL, OTHER)).syncing(limits=FEW)
    early = rig.machine._push.early
    rig.machine._knowledge.add(["d"])
    assert [len(portion) for portion in early.portions(URL)] == [3]
    assert [len(portion) for portion in early.portions(OTHER)] == [4]


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["invalid", "too_large"])
def test_an_early_request_that_is_turned_down_is_asked_again_and_denies_nothing(code: str) -> None:
    rig = greeted("a", "b")
    rig.arrive(rig.welcome())
    early = rig.sent(Subscribe)[-1]
    rig.arrive(Error(code, "no", early.id))
    assert rig.recent(NamesDenied) == []
    (again,) = rig.recently_sent(Subscribe)
    assert again.topics == {"a": 0, "b": 0}
    rig.arrive(rig.subscribed())
    assert (rig.mode, rig.age, repairs(rig)) == ("live", 0.0, 0)


@pytest.mark.parametrize("code", ["invalid", "too_large"])
def test_what_is_turned_down_again_is_denied(code: str) -> None:
    rig = greeted("a")
    rig.arrive(rig.welcome())
    for _ in range(2):
        rig.arrive(Error(code, "no", rig.sent(Subscribe)[-1].id))
    assert rig.recent(NamesDenied) == [NamesDenied(["a"])]
    assert rig.mode == "live"


def test_a_renewal_behind_a_request_that_is_turned_down_expects_the_mismatch() -> None:
    rig = greeted("a")
    rig.arrive(rig.welcome())
    rig.machine._push.renew()
    (renewal,) = rig.connection.renewals
    rig.arrive(Error("too_large", "no", rig.sent(Subscribe)[-1].id))
    rig.arrive(Renewed(renewal, False, at(10), 0, 60_000, 20_000, POLL, RECOVER, "ok"))
    assert repairs(rig) == 0


def test_one_that_was_asked_for_by_a_smaller_limit_goes_in_the_portions_of_the_new_one() -> None:
    rig = greeted("a", "b", "c", "d", "e")
    rig.arrive(rig.welcome(limits=FEW))
    assert rig.recent(NamesDenied) == [NamesDenied(["d", "e"])]
    (left,) = rig.recently_sent(Unsubscribe)
    assert left.topics == ["d", "e"]
    rig.arrive(Error("too_large", "5 names", rig.sent(Subscribe)[-1].id))
    assert rig.recent(NamesDenied) == []
    assert [each.topics for each in rig.recently_sent(Subscribe)] == [{"a": 0, "b": 0, "c": 0}]
    rig.arrive(rig.subscribed())
    assert (rig.mode, rig.age) == ("live", 0.0)


@pytest.mark.parametrize("code", ["unavailable", "overloaded", "behind", "compacted", "no_lease"])
def test_what_waiting_may_mend_is_sent_again_later(code: str) -> None:
    rig = greeted("a")
    rig.arrive(rig.welcome())
    rig.arrive(Error(code, "later", rig.sent(Subscribe)[-1].id, retry_ms=500))
    assert (rig.mode, rig.recently_sent(Subscribe)) == ("syncing", [])
    rig.advance(1.5)
    assert rig.sent(Subscribe)[-1].replace
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


@pytest.mark.parametrize("code", ["overloaded", "unavailable"])
def test_a_refused_hello_is_said_again_with_its_subscribe(code: str) -> None:
    rig = greeted("a")
    rig.arrive(Error(code, "not now", retry_ms=1_000))
    assert rig.mode == "polling"
    rig.greeted()
    assert len(rig.sent(Subscribe)) == 2


def test_a_node_that_drains_before_its_welcome() -> None:
    rig = greeted("a")
    rig.arrive(ServerBye("draining", 100, 100))
    assert rig.mode == "polling"
    rig.greeted()
    rig.arrive(rig.welcome())
    rig.arrive(rig.subscribed())
    assert (rig.mode, rig.age) == ("live", 0.0)


@pytest.mark.parametrize("code", [1_009, 1_006, 1_011, None])
def test_hello_goes_alone_after_a_connection_that_ended_over_it(code: int | None) -> None:
    """A message above the node's limits costs the connection, and the next one likewise, if it is sent again."""
    rig = cut(greeted("a"), code)
    rig.greeted()
    assert len(rig.sent(Subscribe)) == 1
    rig.arrive(rig.welcome())
    (late,) = rig.recently_sent(Subscribe)
    assert (late.topics, late.replace) == ({"a": 0}, True)
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"
    cut(rig).now += 60.0
    rig.greeted()
    assert len(rig.sent(Subscribe)) == 3, "with the welcome it is over"


@pytest.mark.parametrize("code", [4_000, 4_001, 4_004, 4_005])
def test_close_codes_of_the_protocol_say_nothing_against_what_came_early(code: int) -> None:
    rig = cut(greeted("a"), code)
    rig.greeted()
    assert len(rig.sent(Subscribe)) == 2


def test_a_connection_that_failed_says_nothing_either() -> None:
    rig = Rig("a").open()
    rig.do(ConnectFailed(rig.conn, "refused", unsent=True))
    rig.greeted()
    assert len(rig.sent(Subscribe)) == 1


# Timers ---------------------------------------------------------------------------------------------------------------


def test_the_welcome_restarts_the_timer() -> None:
    """Answers come in order: a late welcome delays what is behind it without anything being wrong (P-CLI-2)."""
    rig = greeted("a")
    rig.advance(TIMEOUT_S - 0.5)
    rig.arrive(rig.welcome())
    rig.advance(TIMEOUT_S - 0.5)
    assert rig.mode == "syncing"
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


def test_a_resumed_renewal_has_its_timer_restarted_too() -> None:
    rig = cut(Rig("a").live())
    rig.greeted()
    rig.advance(TIMEOUT_S - 0.5)
    rig.arrive(rig.welcome(12, resumed=True))
    rig.advance(TIMEOUT_S - 0.5)
    assert rig.mode == "syncing"
    rig.advance(1.0)
    assert rig.mode == "polling"


def test_an_answer_that_does_not_come_is_missed_after_the_welcome() -> None:
    rig = Rig("a").syncing()
    rig.advance(TIMEOUT_S + 0.1)
    assert (rig.mode, rig.machine.statistics().misses) == ("polling", 1)


def test_the_lease_ends_by_when_hello_was_sent() -> None:
    rig = greeted("a")
    sent = rig.now
    rig.now += 3.0
    rig.arrive(rig.welcome())
    rig.arrive(rig.subscribed())
    assert rig.connection.lease_until == sent + 0.99 * 60.0


def test_a_poll_leaves_out_what_was_asked_for_early_from_the_welcome_on() -> None:
    rig = Rig("p/").syncing()
    rig.advance(3.0)
    assert rig.all(SendPoll) == []


def test_a_connection_that_takes_long_is_passed_by_a_poll_of_all() -> None:
    rig = greeted("p/")
    rig.advance(2.0)
    assert rig.poll.message.prefixes == {"p/": 0}


# Resets ---------------------------------------------------------------------------------------------------------------


def reset(rig: Rig) -> Rig:
    """Have the welcome reset a client that had to subscribe."""
    cut(rig.live([set_to("a", 4)])).now += 60.0
    rig.greeted()
    assert rig.sent(Subscribe)[-1].topics == {"a": 4}
    rig.arrive(rig.welcome(3, reset=True, position=at(3, "l2")))
    assert rig.recent(Reset) == [Reset(at(3, "l2"))]
    return rig


def early_id(rig: Rig) -> str:
    return str(rig.sent(Subscribe)[-2].id)


def test_after_a_reset_all_is_subscribed_from_nothing() -> None:
    rig = reset(Rig("a"))
    (again,) = rig.recently_sent(Subscribe)
    assert (again.topics, again.replace) == ({"a": 0}, True)
    rig.arrive(rig.subscribed(set_to("a", 2), position=at(3, "l2")))
    assert (rig.mode, rig.delivered()) == ("live", [set_to("a", 2)])


@pytest.mark.parametrize("code", ["rewound", "invalid", "too_large", "compacted", "unavailable", "no_lease"])
def test_an_error_for_what_a_reset_made_void_is_ignored(code: str) -> None:
    rig = reset(Rig("a"))
    rig.arrive(Error(code, "void", early_id(rig), position=at(3, "l2")))
    assert rig.last == []
    assert rig.mode == "syncing"
    rig.arrive(rig.subscribed(position=at(3, "l2")))
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_an_answer_to_what_a_reset_made_void_is_ignored() -> None:
    """A node that does not join the two answers the old versions: what equals them is left out, and is not known."""
    rig = reset(Rig("a"))
    rig.arrive(rig.subscribed(id=early_id(rig), position=at(3, "l2")))
    assert (rig.mode, rig.age, rig.recent(Deliver)) == ("syncing", math.inf, [])
    rig.arrive(rig.subscribed(set_to("a", 4), position=at(4, "l2")))
    assert (rig.mode, rig.delivered()) == ("live", [set_to("a", 4)])


def test_an_error_rewound_for_what_was_asked_after_the_reset_counts() -> None:
    rig = reset(Rig("a"))
    rig.arrive(Error("rewound", "again", rig.sent(Subscribe)[-1].id, position=at(2, "l3")))
    assert rig.mode == "polling"


def test_a_reset_of_a_client_that_asked_to_resume() -> None:
    rig = cut(Rig("a").live([set_to("a", 4)]))
    rig.greeted()
    renewal = rig.sent(Renew)[-1].id
    rig.arrive(rig.welcome(3, reset=True, position=at(3, "l2")))
    assert rig.sent(Subscribe)[-1].topics == {"a": 0}
    rig.arrive(rig.renewed(id=renewal, match=False, position=at(3, "l2")))
    assert (rig.mode, repairs(rig)) == ("syncing", 0)
    rig.arrive(rig.subscribed(set_to("a", 2), position=at(3, "l2")))
    assert rig.mode == "live"


# Resuming -------------------------------------------------------------------------------------------------------------


def test_a_resumed_session_is_renewed_behind_hello() -> None:
    rig = cut(Rig("a").live([set_to("a", 4)]))
    hello = rig.greeted()
    assert hello.session == "s1"
    assert [type(message) for message in rig.recently_sent(object)] == [Hello, Renew]
    sent = rig.now
    rig.now += 1.0
    rig.arrive(rig.welcome(12, resumed=True), Notify("a", 11, "v11"), rig.renewed(12, sent=1))
    assert (rig.mode, rig.age) == ("live", rig.now - sent)
    assert rig.recently_sent(Renew) == []
    assert repairs(rig) == 0


@pytest.mark.parametrize("answer", ["mismatch", "no_lease"])
def test_a_mismatch_after_a_session_that_was_not_resumed_is_no_repair(answer: str) -> None:
    rig = cut(Rig("a").live([set_to("a", 4)]))
    rig.greeted()
    renewal = rig.sent(Renew)[-1].id
    rig.arrive(rig.welcome(12))
    (subscribe,) = rig.recently_sent(Subscribe)
    assert (subscribe.topics, subscribe.replace) == ({"a": 4}, True)
    if answer == "mismatch":
        rig.arrive(rig.renewed(12, id=renewal, match=False))
    else:
        rig.arrive(Error("no_lease", "over", renewal))
    assert (rig.mode, repairs(rig), rig.recently_sent(Subscribe)) == ("syncing", 0, [])
    rig.arrive(rig.subscribed(revision=12))
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_a_mismatch_after_a_session_that_was_resumed_is_a_repair() -> None:
    rig = cut(Rig("a").live())
    rig.greeted()
    rig.arrive(rig.welcome(12, resumed=True), rig.renewed(12, match=False))
    assert (rig.mode, rig.machine.statistics().repairs_mismatch) == ("syncing", 1)


def test_all_names_leave_before_a_welcome_that_does_not_resume() -> None:
    rig = cut(Rig("a").live())
    rig.greeted()
    rig.do(Unwanted(["a"]))
    rig.arrive(rig.welcome(12), rig.renewed(12, match=False))
    assert (rig.mode, repairs(rig)) == ("live", 0)


def test_a_lost_connection_leaves_nothing_of_what_went_early() -> None:
    rig = cut(greeted("a"), 4_000)
    assert rig.recent(Disconnect) == []
    rig.greeted()
    rig.arrive(rig.welcome(), rig.subscribed(id=rig.sent(Subscribe)[0].id))
    assert rig.mode == "syncing", "that was asked on another connection"
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"
