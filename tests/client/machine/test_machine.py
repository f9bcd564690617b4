"""Subscribing, renewing, knowledge and resuming: the client's part of P-SUB, P-REN, P-KNOW and P-RES."""

from __future__ import annotations

import math

import msgspec
import pytest

from softstate.client.machine.events import (
    ConnectFailed,
    Jumped,
    Lost,
    NamesDenied,
    PollAnswered,
    PublishRequested,
    RequestFailed,
    SendPoll,
    Unwanted,
    Wanted,
)
from softstate.client.machine.portions import NAMES_MAX
from softstate.client.machine.push_path import RENEWALS_MAX
from softstate.errors import Compacted
from softstate.wire.messages import (
    DeniedNames,
    Error,
    Limits,
    Notify,
    Poll,
    Polled,
    PositionMoved,
    Published,
    Renew,
    Revoked,
    ServerBye,
    Subscribe,
    Unsubscribe,
)
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.machine_rig import TIMEOUT_S, TTL_S, Rig, at, gone, set_to


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


# Moving knowledge ----------------------------------------------------------------------------------------------------


def test_a_notify_is_delivered_but_moves_neither_revision_nor_age() -> None:
    rig = Rig("a").live()
    rig.now += 1.0
    rig.arrive(Notify("a", 11, "v11"))
    assert rig.delivered() == [set_to("a", 11)]
    assert rig.age == 1.0
    assert rig.machine._knowledge.lowest_revision() == 10
    rig.arrive(Notify("a", 12, deleted=True))
    assert rig.delivered() == [gone("a", 12)]


def test_a_notify_above_the_position_moves_it_in_its_lineage() -> None:
    rig = Rig("a").live()
    rig.arrive(Notify("a", 11, 1), PositionMoved(at(12, "l2")), Notify("a", 13, 1), Notify("a", 9, 1))
    assert rig.machine.position == at(13, "l2")


def test_published_never_moves_the_position() -> None:
    rig = Rig("a").live()
    rig.do(PublishRequested(1, "a", 1, deleted=False, expect=None, key="k"))
    rig.arrive(Published(1, "a", 50, at(50)))
    assert rig.machine.position == at(10)
    assert rig.delivered() == []


def test_names_added_while_live_are_subscribed_at_once_and_have_no_age_until_answered() -> None:
    rig = Rig("a").live()
    rig.do(Wanted(["p/"]))
    (subscribe,) = rig.recently_sent(Subscribe)
    assert (subscribe.prefixes, subscribe.topics, subscribe.replace) == ({"p/": 0}, {}, False)
    assert rig.mode == "live"
    assert (rig.age, rig.machine.age(rig.now, ["a"])) == (math.inf, 0.0)
    rig.arrive(rig.subscribed(set_to("p/x", 3)))
    assert rig.age == 0.0
    assert rig.do(Wanted(["a"])) == [], "held already"


def test_names_dropped_are_unsubscribed_and_the_next_digest_is_that_of_the_rest() -> None:
    rig = Rig("a", "p/").live()
    rig.do(Unwanted(["p/", "stranger"]))
    assert rig.recently_sent(Unsubscribe) == [Unsubscribe([], ["p/"])]
    rig.renewing()
    (renew,) = rig.sent(Renew)
    assert (renew.digest, renew.count) == (digest_text(digest_of(["a"])), 1)
    assert rig.do(Unwanted(["stranger"])) == []


def test_a_renewal_certifies_the_set_as_it_was_when_it_was_sent() -> None:
    rig = Rig("a").live().renewing()
    rig.do(Wanted(["b"]))
    rig.arrive(rig.renewed(12))
    assert rig.machine.age(rig.now, ["a"]) == 0.0
    assert rig.machine.age(rig.now, ["b"]) == math.inf


def test_a_late_answer_counts_from_when_it_was_asked() -> None:
    rig = Rig("a").syncing()
    rig.advance(3.0)
    rig.arrive(rig.subscribed(lag_ms=1_000))
    assert rig.age == 4.0


def test_pages_are_applied_as_they_come_and_certify_only_with_the_last() -> None:
    rig = Rig("p/").syncing()
    rig.arrive(rig.subscribed(set_to("p/a", 3), more=True))
    assert rig.delivered() == [set_to("p/a", 3)]
    assert (rig.mode, rig.age) == ("syncing", math.inf)
    rig.arrive(rig.subscribed(set_to("p/b", 4), revision=12))
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_each_page_restarts_the_timers_of_later_requests() -> None:
    rig = Rig("p/").syncing()
    for _ in range(5):
        rig.advance(TIMEOUT_S - 0.1)
        rig.arrive(rig.subscribed(more=True))
    assert rig.mode == "syncing"
    rig.advance(TIMEOUT_S)
    assert rig.left()


def test_answers_to_later_requests_do_not_keep_a_lost_renewal_waiting() -> None:
    # Found by the simulator: a client that subscribes often would have stayed, live, at an age without bound (B).
    rig = Rig("a").live().renewing()
    lost = rig.sent(Renew)[-1]
    rig.advance(TIMEOUT_S / 2)
    rig.do(Wanted(["b"]))
    rig.arrive(rig.subscribed(revision=12))
    rig.advance(TIMEOUT_S / 2)
    assert rig.recently_sent(Renew)[0] != lost, "missed, so it renews once more"


def test_a_poll_certifies_and_sweeps() -> None:
    rig = _polling(Rig("p/").live([set_to("p/a", 3), set_to("p/b", 4)]))
    assert rig.poll.message.prefixes == {"p/": 10}
    rig.do(rig.polled(set_to("p/b", 12), revision=12, compacted=["p/"]))
    assert rig.delivered() == [set_to("p/b", 12), gone("p/a", 12)]
    assert rig.age == 0.0


def test_a_long_poll_answer_is_followed_page_by_page() -> None:
    rig = Rig("p/", push=False).open()
    first = rig.poll
    rig.do(rig.polled(set_to("p/a", 3), more=True, cursor="next"))
    assert rig.delivered() == [set_to("p/a", 3)]
    assert rig.poll.request != first.request
    assert (rig.poll.message.cursor, rig.poll.message.prefixes) == ("next", {"p/": 0})
    rig.now += 2.0
    rig.do(rig.polled(set_to("p/b", 4)))
    assert rig.age == 2.0


def test_a_poll_answer_cut_off_certifies_and_sweeps_nothing() -> None:
    rig = Rig("p/", push=False).open()
    rig.do(rig.polled(set_to("p/a", 3), more=True, cursor="next"))
    rig.do(RequestFailed(rig.poll.request, "cut"))
    assert rig.age == math.inf
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.do(rig.polled(set_to("p/a", 3), more=True))
    assert (rig.recent(SendPoll), rig.age) == ([], math.inf), "a page that promises more without a cursor is no answer"


def test_denied_names_leave_the_set_and_are_reported() -> None:
    rig = Rig("a", "b").syncing()
    rig.arrive(rig.subscribed(denied=["b"]))
    assert rig.recent(NamesDenied) == [NamesDenied(["b"])]
    assert (rig.mode, rig.age) == ("live", 0.0)
    rig = Rig("a", "b", push=False).open()
    rig.do(rig.polled(denied=["b"]))
    assert rig.recent(NamesDenied) == [NamesDenied(["b"])]
    assert rig.age == 0.0


def test_of_a_denied_prefix_it_is_reported_what_may_be_read_below_it() -> None:
    narrow, told = {"p/": ["p/a/"]}, [NamesDenied(["p/"], {"p/": ["p/a/"]})]
    rig = Rig("p/", "b").syncing()
    rig.arrive(msgspec.structs.replace(rig.subscribed(denied=["p/"]), narrow=narrow))
    assert rig.recent(NamesDenied) == told
    rig = Rig("p/", "b").live()
    rig.arrive(DeniedNames(["p/"], narrow))
    assert rig.recent(NamesDenied) == told
    rig = Rig("p/", "b", push=False).open()
    answer = rig.polled(denied=["p/"])
    rig.do(PollAnswered(answer.request, msgspec.structs.replace(answer.message, narrow=narrow)))
    assert rig.recent(NamesDenied) == told


def test_a_renewal_sent_before_names_were_denied_is_no_mismatch() -> None:
    rig = Rig("a").live()
    rig.do(Wanted(["b"]), Jumped())
    rig.arrive(rig.subscribed(denied=["b"]), rig.renewed(match=False))
    assert len(rig.recently_sent(Renew)) == 1
    assert rig.recently_sent(Subscribe) == []
    assert rig.machine.statistics().repairs_mismatch == 0


def test_names_denied_by_a_poll_on_the_connection_are_unsubscribed() -> None:
    rig = Rig("a", "b").live()
    rig.arrive(Notify("b", 12, unknown=True))
    rig.arrive(Polled(rig.sent(Poll)[-1].id, at(12), denied=["b"]))
    assert rig.recent(NamesDenied) == [NamesDenied(["b"])]
    assert rig.recently_sent(Unsubscribe) == [Unsubscribe(["b"], [])]


def test_after_unknown_only_a_later_answer_moves_what_covers_the_topic() -> None:
    rig = Rig("a", "b").live().renewing()
    rig.arrive(Notify("a", 12, unknown=True))
    rig.arrive(rig.renewed(12, sent=1))
    assert rig.machine.age(rig.now, ["b"]) == 0.0
    assert rig.machine.age(rig.now, ["a"]) > 0.0
    rig.arrive(Polled(rig.sent(Poll)[-1].id, at(12), [set_to("a", 12)]))
    assert rig.delivered() == [set_to("a", 12)]
    assert rig.age == 0.0
    assert rig.mode == "live"


def test_a_poll_of_a_doubt_that_fails_makes_it_subscribe_anew() -> None:
    rig = Rig("a").live()
    rig.arrive(Notify("a", 12, unknown=True))
    rig.arrive(Error("unavailable", "down", rig.sent(Poll)[-1].id, retry_ms=1_000))
    assert rig.mode == "syncing"
    rig.advance(1.5)
    rig.arrive(rig.subscribed(set_to("a", 12), revision=12))
    assert (rig.mode, rig.age) == ("live", rig.now - rig.machine._knowledge.subscriptions["a"].asof)


# Subscribing ---------------------------------------------------------------------------------------------------------


def test_a_large_set_goes_in_several_subscribes_the_first_of_which_replaces() -> None:
    rig = Rig(*(f"t{n}" for n in range(NAMES_MAX + 1))).syncing()
    first, second = rig.sent(Subscribe)
    assert (len(first.topics), first.replace) == (NAMES_MAX, True)
    assert (len(second.topics), second.replace) == (1, False)
    rig.arrive(rig.subscribed(id=first.id))
    assert rig.mode == "syncing"
    rig.arrive(rig.subscribed(id=second.id))
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_a_large_set_goes_in_several_polls() -> None:
    rig = Rig(*(f"t{n}" for n in range(NAMES_MAX + 1)), push=False).open()
    assert len(rig.poll.message.topics) == NAMES_MAX
    rig.do(rig.polled())
    assert len(rig.poll.message.topics) == 1
    assert rig.age == math.inf
    rig.do(rig.polled())
    assert rig.age == 0.0
    assert not rig.machine.describe().polling


def test_no_names_are_live_at_once_and_renew() -> None:
    rig = Rig().syncing()
    assert (rig.mode, rig.age) == ("live", 0.0)
    assert rig.sent(Subscribe) == []
    rig.renewing()
    assert (rig.sent(Renew)[0].digest, rig.sent(Renew)[0].count) == ("0" * 16, 0)
    rig.arrive(rig.renewed(match=False))
    assert rig.recently_sent(Subscribe) == [Subscribe("subscribe-2", replace=True)]


def test_names_beyond_the_limit_are_denied() -> None:
    limits = Limits(2, 65_536, 1_048_576, 1, 1, 600_000, 1_024, 4_096, 16_384)
    rig = Rig("a", "b", "c").syncing(limits=limits)
    assert rig.recent(NamesDenied) == [NamesDenied(["c"])]
    rig.arrive(Error("too_large", "3 names", rig.sent(Subscribe)[-1].id))
    assert rig.sent(Subscribe)[-1].topics == {"a": 0, "b": 0}
    rig.arrive(rig.subscribed())
    rig.do(Wanted(["d"]))
    assert rig.last == [NamesDenied(["d"])]
    rig.do(Unwanted(["a"]), Wanted(["e", "f"]))
    assert rig.recent(NamesDenied) == [NamesDenied(["f"])]
    assert rig.sent(Subscribe)[-1].topics == {"e": 0}


@pytest.mark.parametrize("code", ["too_large", "invalid", "something new"])
def test_a_subscribe_that_waiting_cannot_mend_reports_its_names(code: str) -> None:
    rig = Rig("a").live()
    rig.do(Wanted(["b"]), Jumped())
    rig.arrive(Error(code, "no", rig.sent(Subscribe)[-1].id))
    assert rig.recent(NamesDenied) == [NamesDenied(["b"])]
    rig.arrive(rig.renewed(match=False))
    assert rig.machine.statistics().repairs_mismatch == 0
    rig.arrive(rig.renewed())
    assert (rig.mode, rig.age) == ("live", 0.0)


def test_a_subscribe_in_vain_while_live_is_sent_again() -> None:
    rig = Rig("a").live().renewing()
    rig.do(Wanted(["b"]))
    rig.arrive(Error("unavailable", "down", rig.sent(Subscribe)[-1].id, retry_ms=1_000))
    assert rig.mode == "syncing"
    rig.arrive(rig.renewed(match=False))
    rig.do(Wanted(["c"]))
    rig.arrive(Error("no_lease", "over", "renew-0"))
    assert len(rig.sent(Subscribe)) == 2, "names that left the lease are subscribed again when the wait is over"
    rig.advance(1.6)
    assert rig.sent(Subscribe)[-1].topics == {"a": 0, "b": 0, "c": 0}


def test_compacted_lists_anew() -> None:
    rig = Rig("p/").live([set_to("p/a", 3)])
    rig.arrive(Revoked("expired"))
    rig.tick_once()
    rig.arrive(Error("compacted", "too old", rig.sent(Subscribe)[-1].id))
    assert rig.age == math.inf
    rig.advance(1.0)
    assert rig.sent(Subscribe)[-1].prefixes == {"p/": 0}
    rig.arrive(rig.subscribed(revision=15))
    assert rig.delivered() == [gone("p/a", 15)]


def test_compacted_polls_list_anew() -> None:
    rig = Rig("p/", push=False).open()
    rig.do(rig.polled(set_to("p/a", 3)))
    rig.advance(18.0)
    assert rig.poll.message.prefixes == {"p/": 10}
    rig.do(RequestFailed(rig.poll.request, "too old", Compacted("too old")))
    while not rig.machine.describe().polling:
        rig.tick_once()
    assert rig.poll.message.prefixes == {"p/": 0}


# Renewing ------------------------------------------------------------------------------------------------------------


def test_every_push_on_the_connection_counts() -> None:
    rig = Rig("a").live()
    rig.arrive(Notify("a", 11, 1), Notify("a", 11, 1), Notify("stranger", 12, 1), Notify("a", 13, unknown=True))
    rig.renewing().arrive(rig.renewed(13, sent=4))
    assert rig.machine.statistics().repairs_sent_unequal == 0
    assert rig.mode == "live"


def test_the_leases_end_comes_before_the_nodes_also_while_the_store_is_down() -> None:
    rig = Rig("a").live().renewing()
    sent = rig.now
    rig.arrive(rig.renewed(store="down"))
    assert rig.connection.lease_until == sent + 0.99 * TTL_S


def test_a_renewal_that_fails_certifies_nothing_and_the_next_follows() -> None:
    rig = Rig("a").live().renewing()
    rig.arrive(Error("unavailable", "down", rig.sent(Renew)[-1].id))
    assert (rig.mode, rig.age > 0.0) == ("live", True)
    rig.renewing()
    assert len(rig.sent(Renew)) == 2


def test_no_lease_while_a_subscribe_is_due_is_mended_by_it() -> None:
    rig = Rig("a").live().renewing()
    rig.do(Wanted(["b"]))
    rig.arrive(Error("unavailable", "down", rig.sent(Subscribe)[-1].id, retry_ms=1_000))
    rig.arrive(Error("no_lease", "over", rig.sent(Renew)[-1].id))
    assert len(rig.sent(Subscribe)) == 2
    assert rig.machine.statistics().repairs_no_lease == 0


def test_renewals_that_nobody_answers_are_forgotten_beyond_a_limit() -> None:
    rig = Rig("a").live()
    for _ in range(RENEWALS_MAX + 3):
        rig.machine._push.renew()
    assert len(rig.connection.renewals) == RENEWALS_MAX


def test_an_unanswered_subscribe_counts_as_a_miss() -> None:
    rig = Rig("a").live()
    rig.do(Wanted(["b"]))
    rig.advance(TIMEOUT_S)
    assert rig.mode == "suspect"
    rig.arrive(rig.subscribed())
    assert rig.mode == "suspect"
    rig.arrive(rig.renewed())
    assert rig.mode == "live"


# Leases outlive connections ------------------------------------------------------------------------------------------


def test_it_resumes_only_with_the_set_that_both_sides_agreed_on() -> None:
    rig = _cut(Rig("a", "b").live())
    assert rig.greeted().session == "s1"
    rig = _cut(Rig("a", "b").live())
    rig.do(Unwanted(["b"]))
    hello = rig.greeted()
    assert (hello.session, hello.since, hello.position) == (None, None, at(10))
    rig = Rig("a", "b").live()
    rig.do(Unwanted(["b"]))
    assert _cut(rig).greeted().session is None, "the client cannot know whether the unsubscribe arrived"
    rig = Rig("a", "b").live()
    rig.do(Unwanted(["b"]))
    rig.renewing().arrive(rig.renewed())
    assert _cut(rig).greeted().session == "s1"


def test_since_is_the_lowest_certified_revision_and_absent_while_one_has_none() -> None:
    rig = Rig("a").live()
    rig.do(Wanted(["b"]))
    rig.arrive(rig.subscribed(revision=20))
    assert _cut(rig).greeted().since == 10
    rig = _cut(Rig("a").live())
    rig.do(Unwanted(["a"]), Wanted(["a"]))
    assert rig.greeted().session is None


def test_it_does_not_resume_a_lease_that_must_be_over() -> None:
    rig = _cut(Rig("a").live())
    rig.now += TTL_S
    assert rig.greeted().session is None


@pytest.mark.parametrize("reason", ["rewound", "replaced"])
def test_some_farewells_drop_the_session(reason: str) -> None:
    rig = Rig("a").live()
    rig.arrive(ServerBye(reason, 0, 0))  # type: ignore[arg-type]
    assert rig.greeted().session is None


def test_close_code_4001_drops_the_session() -> None:
    rig = Rig("a").live()
    rig.do(Lost(rig.conn, 4001, "replaced"))
    assert rig.greeted().session is None


def test_a_set_that_changed_on_the_way_is_subscribed_even_if_resumed() -> None:
    rig = _cut(Rig("a").live())
    rig.greeted()
    rig.do(Wanted(["b"]))
    rig.arrive(rig.welcome(resumed=True))
    (subscribe,) = rig.recently_sent(Subscribe)
    assert (subscribe.replace, subscribe.topics) == (True, {"a": 0, "b": 0})


def test_a_connection_is_welcomed_once() -> None:
    rig = Rig("a").live()
    assert rig.arrive(rig.welcome(12)) == []


def test_before_the_welcome_other_messages_mean_nothing() -> None:
    rig = Rig("a").open()
    assert rig.arrive(rig.welcome()) == [], "not even said hello"
    rig.greeted()
    assert rig.arrive(Notify("a", 3, 1)) == []


def test_a_name_that_left_and_came_back_before_the_welcome_is_not_resumed() -> None:
    rig = Rig("a").live([set_to("a", 4)])
    rig.do(Lost(rig.conn, None, "cut"))
    rig.greeted()
    rig.do(Unwanted(["a"]), Wanted(["a"]))
    rig.arrive(rig.welcome(12, resumed=True))
    (subscribe,) = rig.recently_sent(Subscribe)
    assert (subscribe.topics, subscribe.replace) == ({"a": 0}, True)
    assert rig.age == math.inf
