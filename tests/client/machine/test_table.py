"""The client machine's table: each cell is a row or a named reason, and PROTOCOL.md's rows (section 16) are in it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from softstate.client.machine import actions
from softstate.client.machine.events import (
    Abandon,
    Connect,
    Connected,
    ConnectFailed,
    Jumped,
    Lost,
    RequestFailed,
    Reset,
    SendPoll,
)
from softstate.client.machine.table import IGNORED, MODES, ROWS, TABLE, Row
from softstate.client.machine.triggers import Trigger
from softstate.errors import Rewound
from softstate.model import Mode
from softstate.wire.messages import Error, Notify, RecoverAdvice, Renew, Revoked, ServerBye, Subscribe
from tests.kit.machine_rig import OTHER, TIMEOUT_S, TTL_S, URL, Rig, at, set_to

T = Trigger


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trigger", Trigger)
def test_every_cell_is_a_row_or_ignored_for_a_named_reason(mode: Mode, trigger: Trigger) -> None:
    cell = (mode, trigger)
    assert (cell in TABLE) != (cell in IGNORED)


def test_the_tables_hold_nothing_else() -> None:
    assert len(TABLE) + len(IGNORED) == len(MODES) * len(Trigger)
    assert all(reason for reason in IGNORED.values())
    assert all(to is None or to in MODES for _, _, to, _ in ROWS)


def test_every_action_is_used_by_a_row() -> None:
    functions = [thing for thing in vars(actions).values() if inspect.isfunction(thing)]
    own = {each for each in functions if each.__module__ == actions.__name__ and each.__name__[0] != "_"}
    assert {action for row in TABLE.values() for action in row.actions} == own


@pytest.mark.parametrize(
    ("modes", "trigger", "to"),
    [
        ("closed", T.OPENED, "connecting"),
        ("connecting polling offline", T.WELCOME_RESUMED, "syncing"),
        ("connecting polling offline", T.WELCOME_NEW, "syncing"),
        ("connecting polling offline", T.WELCOME_RESET, "syncing"),
        ("connecting syncing live suspect polling offline", T.REWOUND, "polling"),
        ("connecting", T.REFUSED, "polling"),
        ("syncing", T.ALL_ANSWERED, "live"),
        ("syncing", T.RENEWED_MATCH, "live"),
        ("syncing", T.RETRY_LATER, None),
        ("syncing", T.RENEWED_DOWN, None),
        ("syncing", T.LOST, "polling"),
        ("syncing", T.ANSWER_MISSED, "polling"),
        ("syncing", T.BYE, "polling"),
        ("live", T.RENEWED_MATCH, None),
        ("live suspect syncing", T.MISMATCH, "syncing"),
        ("live suspect syncing", T.NO_LEASE, "syncing"),
        ("live suspect", T.RENEWED_DOWN, None),
        ("live", T.ANSWER_MISSED, "suspect"),
        ("live", T.JUMPED, "suspect"),
        ("suspect", T.RENEWED_MATCH, "live"),
        ("suspect", T.ANSWER_MISSED, "polling"),
        ("suspect", T.EXPIRED, "polling"),
        ("live suspect", T.LOST, "polling"),
        ("live suspect", T.BYE, "polling"),
        ("live suspect syncing", T.REVOKED, "polling"),
        ("polling", T.WAIT_OVER, "syncing"),
        ("polling", T.OFFLINE_THRESHOLD, "offline"),
        ("offline", T.HTTP_ANSWERED, "polling"),
        ("connecting syncing live suspect polling offline", T.FORBIDDEN, "stopped"),
        ("connecting syncing live suspect polling offline stopped", T.CLOSED, "closed"),
    ],
)
def test_the_rows_of_the_protocol(modes: str, trigger: Trigger, to: Mode | None) -> None:
    for mode in modes.split():
        row = TABLE[mode, trigger]  # type: ignore[index]
        assert isinstance(row, Row)
        assert row.to == to


# One test per row of PROTOCOL.md section 16, on the running machine ---------------------------------------------------


def test_open_connects_and_polls_in_parallel_after_a_short_jitter() -> None:
    rig = Rig("a").open()
    assert rig.recent(Connect) == [Connect(1, URL, 5.0)]
    assert rig.modes() == ["connecting"]
    rig.advance(0.99)
    assert rig.all(SendPoll) == [], "a quarter of the time for an answer, give or take a fifth"
    rig.advance(0.51)
    assert len(rig.recent(SendPoll)) == 1


def test_without_push_it_polls_at_once_and_never_connects() -> None:
    rig = Rig("a", push=False).open()
    assert rig.modes() == ["polling"]
    assert len(rig.recent(SendPoll)) == 1
    rig.advance(200.0)
    assert rig.all(Connect) == []


def test_a_new_session_subscribes_all_with_versions() -> None:
    rig = Rig("a", "p/").syncing()
    (subscribe,) = rig.sent(Subscribe)
    assert (subscribe.topics, subscribe.prefixes, subscribe.replace) == ({"a": 0}, {"p/": 0}, True)
    assert rig.mode == "syncing"


def test_a_resumed_session_renews() -> None:
    rig = Rig("a").live([set_to("a", 4)])
    rig.do(Lost(rig.conn, None, "cut"))
    hello = rig.greeted()
    assert (hello.session, hello.since, hello.position) == ("s1", 10, at(10))
    rig.arrive(rig.welcome(12, resumed=True))
    assert rig.recently_sent(Subscribe) == []
    assert len(rig.sent(Renew)) == 1, "behind hello"
    assert rig.mode == "syncing"
    rig.arrive(Notify("a", 11, "v11"), rig.renewed(12, sent=1))
    assert rig.mode == "live"
    assert rig.delivered() == [set_to("a", 11)]
    assert rig.age == 0.0


def test_a_welcome_with_reset_resets_then_subscribes() -> None:
    rig = Rig("a").live([set_to("a", 4)])
    rig.do(Lost(rig.conn, None, "cut"))
    rig.greeted()
    rig.arrive(rig.welcome(3, reset=True, position=at(3, "l2")))
    assert rig.recent(Reset) == [Reset(at(3, "l2"))]
    (subscribe,) = rig.recently_sent(Subscribe)
    assert subscribe.topics == {"a": 0}
    assert rig.mode == "syncing"
    rig.arrive(rig.subscribed(set_to("a", 2), position=at(3, "l2")))
    assert rig.delivered() == [set_to("a", 2)]
    assert rig.mode == "live"


@pytest.mark.parametrize("state", ["connecting", "syncing", "live", "suspect"])
def test_a_rewound_poll_resets_and_leaves_the_connection(state: str) -> None:
    rig = Rig("a")
    if state == "connecting":
        rig.open()
    elif state == "syncing":
        rig.live().renewing().arrive(rig.renewed(match=False))
        assert rig.mode == "syncing"
    else:
        rig.suspect()
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=at(2, "l2"))))
    assert rig.recent(Reset) == [Reset(at(2, "l2"))]
    assert rig.left()
    assert rig.mode == "polling"
    assert rig.machine.position == at(2, "l2")
    assert rig.poll.message.position == at(2, "l2"), "and polls again at once, in the new history"


def test_rewound_on_the_connection_resets_and_leaves_it() -> None:
    rig = Rig("a").live()
    rig.arrive(Error("rewound", "the store was rewound", position=at(2, "l2")))
    assert rig.recent(Reset) == [Reset(at(2, "l2"))]
    assert rig.left()
    assert rig.mode == "polling"


@pytest.mark.parametrize("how", ["refused", "lost", "connect timeout", "hello timeout", "error", "bye"])
def test_no_connection_means_polling(how: str) -> None:
    rig = Rig("a").open()
    if how in ("lost", "hello timeout", "error", "bye"):
        rig.do(Connected(rig.conn))
    match how:
        case "refused":
            rig.do(ConnectFailed(rig.conn, "refused"))
        case "lost":
            rig.do(Lost(rig.conn, None, "cut"))
        case "error":
            rig.arrive(Error("unavailable", "store down", retry_ms=9_000))
        case "bye":
            rig.arrive(ServerBye("draining", 9_000, 0))
        case _:
            rig.advance(5.0)
            assert rig.left()
    assert rig.mode == "polling"
    connects = len(rig.all(Connect))
    rig.advance(8.9 if how in ("error", "bye") else 0.0)
    assert len(rig.all(Connect)) == connects, "Retry-After holds"
    rig.advance(1.0)
    assert len(rig.all(Connect)) == 2, "and then it is tried again"


def test_all_answered_is_live_and_stops_polling() -> None:
    rig = Rig("a").open()
    rig.advance(1.5)
    poll = rig.poll
    rig.live([set_to("a", 4)])
    assert Abandon(poll.request) in rig.last
    before = len(rig.all(SendPoll))
    rig.advance(2.0)
    assert len(rig.all(SendPoll)) == before
    rig.do(rig.polled())
    assert rig.last == [], "a late answer to a poll given up is ignored"


@pytest.mark.parametrize("code", ["unavailable", "overloaded", "behind"])
def test_syncing_sends_again_after_retry_ms_and_polls(code: str) -> None:
    rig = Rig("a").syncing()
    rig.arrive(Error(code, "later", rig.sent(Subscribe)[-1].id, retry_ms=3_000))
    assert rig.mode == "syncing"
    rig.advance(2.9)
    assert len(rig.sent(Subscribe)) == 1
    assert len(rig.all(SendPoll)) >= 1
    rig.advance(0.2)
    assert [subscribe.replace for subscribe in rig.sent(Subscribe)] == [True, True]
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


def test_syncing_with_the_store_down_renews_again_later() -> None:
    rig = Rig("a").live()
    rig.do(Lost(rig.conn, None, "cut"))
    rig.syncing(resumed=True)
    rig.arrive(rig.renewed(store="down"))
    assert rig.mode == "syncing"
    rig.advance(0.6)
    assert len(rig.sent(Renew)) == 2
    rig.arrive(rig.renewed())
    assert rig.mode == "live"


@pytest.mark.parametrize("how", ["lost", "timed out", "bye", "expired"])
def test_syncing_falls_back_to_polling(how: str) -> None:
    rig = Rig("a").syncing(ttl_ms=1_000 if how == "expired" else int(TTL_S * 1000))
    match how:
        case "lost":
            rig.do(Lost(rig.conn, 1006, "cut"))
        case "timed out":
            rig.advance(TIMEOUT_S)
            assert rig.left()
        case "bye":
            rig.arrive(ServerBye("draining", 100, 100))
            assert rig.left()
        case "expired":
            rig.advance(0.99)
    assert rig.mode == "polling"
    rig.advance(2.0)
    assert len(rig.all(Connect)) >= 2, "a spread later at the latest"


def test_a_matching_renewal_sets_a_new_expiry_and_age_counts_from_its_sending() -> None:
    rig = Rig("a").live().renewing()
    sent = rig.now
    rig.advance(2.0)
    rig.arrive(rig.renewed(15, lag_ms=500))
    assert rig.mode == "live"
    assert rig.age == 2.5
    assert rig.machine.position == at(15)
    assert rig.connection.lease_until == sent + 0.99 * TTL_S


@pytest.mark.parametrize("state", ["live", "suspect", "syncing"])
@pytest.mark.parametrize(
    ("fields", "counter"),
    [
        ({"match": False}, "repairs_mismatch"),
        ({"sent": 3}, "repairs_sent_unequal"),
        ({"code": "no_lease"}, "repairs_no_lease"),
    ],
)
def test_a_set_in_disorder_is_subscribed_anew(state: str, fields: dict[str, Any], counter: str) -> None:
    rig = Rig("a", "p/").live([set_to("a", 4)])
    if state == "syncing":
        rig.do(Lost(rig.conn, None, "cut"))
        rig.syncing(resumed=True)
    else:
        rig.renewing()
        if state == "suspect":
            rig.advance(TIMEOUT_S)
    assert rig.mode == state
    if "code" in fields:
        rig.arrive(Error("no_lease", "the lease is over", rig.sent(Renew)[-1].id))
    else:
        rig.arrive(rig.renewed(12, **fields))
    assert rig.mode == "syncing"
    (subscribe,) = rig.recently_sent(Subscribe)
    assert (subscribe.replace, subscribe.topics, subscribe.prefixes) == (True, {"a": 4}, {"p/": 10})
    assert getattr(rig.machine.statistics(), counter) == 1
    polls = len(rig.all(SendPoll))
    rig.advance(1.0)
    assert len(rig.all(SendPoll)) == max(polls, 1), "polls meanwhile"
    rig.arrive(rig.subscribed(set_to("a", 11), revision=12))
    assert rig.mode == "live"
    rig.renewing().arrive(rig.renewed(12, sent=fields.get("sent", 0)))
    assert rig.mode == "live", "the count of pushes was put right"


@pytest.mark.parametrize("state", ["live", "suspect"])
def test_with_the_store_down_nothing_is_certified_and_the_mode_stays(state: str) -> None:
    rig = Rig("a").live().renewing()
    if state == "suspect":
        rig.advance(TIMEOUT_S)
    age = rig.age
    rig.arrive(rig.renewed(store="down"))
    assert (rig.mode, rig.age) == (state, age)
    assert age > 0.0


def test_a_missed_answer_polls_everything_now_and_renews_once_more() -> None:
    rig = Rig("a", "p/").live().renewing()
    rig.advance(TIMEOUT_S)
    assert rig.mode == "suspect"
    assert len(rig.recently_sent(Renew)) == 1
    assert rig.poll in rig.last
    assert (rig.poll.message.topics, rig.poll.message.prefixes) == ({"a": 0}, {"p/": 10})
    rig.arrive(rig.renewed())
    assert rig.mode == "live"


def test_a_silent_node_is_not_the_first_to_be_polled_if_there_is_another() -> None:
    rig = Rig("a", urls=(URL, OTHER)).live().renewing()
    rig.advance(TIMEOUT_S)
    assert rig.mode == "suspect"
    assert rig.poll.url == OTHER
    assert rig.poll.timeout_s == TIMEOUT_S, "a node that spoke has said how long to wait"


def test_a_host_that_slept_is_suspect() -> None:
    rig = Rig("a").live()
    rig.do(Jumped())
    assert rig.mode == "suspect"
    assert len(rig.recently_sent(Renew)) == 1
    assert len(rig.recent(SendPoll)) == 1
    rig.do(Jumped())
    assert rig.last == []


def test_a_second_miss_closes_and_reconnects() -> None:
    rig = Rig("a").suspect()
    rig.advance(TIMEOUT_S)
    assert rig.mode == "polling"
    assert rig.left()
    rig.advance(2.0)
    assert len(rig.all(Connect)) == 2
    assert rig.machine.statistics().misses == 2


def test_suspect_expires() -> None:
    rig = Rig("a").live()
    link = rig.machine._push.connection
    assert link is not None
    rig.do(Jumped())
    link.lease_until = rig.now + 1.0
    rig.advance(1.0)
    assert rig.mode == "polling"
    assert rig.left()


@pytest.mark.parametrize("state", ["live", "suspect"])
@pytest.mark.parametrize("spread_s", [2.0, 40.0])
def test_a_lost_lease_spreads_its_reconnect_and_polls_before_a_late_one(state: str, spread_s: float) -> None:
    waits = {True: [], False: []}  # type: dict[bool, list[float]]
    for seed in range(80):
        rig = Rig("a", seed=seed)
        rig.greeted()
        recover = RecoverAdvice(int(spread_s * 1000), 500, 80_000)
        rig.arrive(rig.welcome(recover=recover))
        rig.arrive(rig.subscribed())
        if state == "suspect":
            rig.do(Jumped())
            rig.do(rig.polled())
        lost, before = rig.now, len(rig.all(SendPoll))
        rig.do(Lost(rig.conn, None, "cut"))
        assert rig.mode == "polling"
        while len(rig.all(Connect)) == 1:
            rig.tick_once()
            if rig.recent(SendPoll):
                first = len(rig.all(SendPoll)) == before + 1
                assert not first or rig.now - lost <= 1.0, "within the spread of polls"
                rig.do(rig.polled())
        polled = len(rig.all(SendPoll)) > before
        assert len(rig.all(SendPoll)) <= before + 1 + (rig.now - lost) // 12, "once, and then at the usual interval"
        waits[polled].append(rig.now - lost)
    assert max(map(max, filter(None, waits.values()))) <= spread_s
    assert not waits[False] or max(waits[False]) <= TIMEOUT_S / 2, "a connection that comes soon brings it all"
    assert not waits[True] or min(waits[True]) > TIMEOUT_S / 2
    assert bool(waits[True]) == (spread_s > 2.0)


def test_a_connection_that_comes_soon_and_then_takes_long_is_passed_by_a_poll() -> None:
    rig = Rig("a").live()
    rig.do(Lost(rig.conn, None, "cut"))
    rig.greeted()
    began, before = rig.now, len(rig.all(SendPoll))
    rig.advance(0.99)
    assert len(rig.all(SendPoll)) == before
    rig.advance(0.51)
    assert len(rig.all(SendPoll)) == before + 1, f"a quarter of the time for an answer after {began}"


def test_after_a_bye_it_waits_as_told() -> None:
    rig = Rig("a").live()
    rig.arrive(ServerBye("draining", 4_000, 1_000))
    assert rig.left()
    rig.advance(3.9)
    assert len(rig.all(Connect)) == 1
    rig.advance(1.2)
    assert len(rig.all(Connect)) == 2


@pytest.mark.parametrize("state", ["live", "suspect", "syncing"])
def test_a_revoked_lease_waits_and_subscribes_again_on_the_open_connection(state: str) -> None:
    rig = Rig("a").syncing()
    if state != "syncing":
        rig.arrive(rig.subscribed())
        if state == "suspect":
            rig.do(Jumped())
    rig.arrive(Revoked("slow_consumer", 3_000, 1_000))
    assert rig.mode == "polling"
    rig.do(Jumped())
    rig.arrive(Revoked("expired"))
    before = len(rig.sent(Subscribe))
    rig.advance(2.9)
    assert len(rig.sent(Subscribe)) == before
    assert len(rig.all(SendPoll)) >= 1
    rig.advance(0.2)
    assert rig.mode == "syncing"
    assert rig.sent(Subscribe)[-1].replace
    assert rig.all(Connect) == rig.all(Connect)[:1]
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"


@pytest.mark.parametrize("how", ["lost", "bye"])
def test_a_revoked_connection_may_end_too(how: str) -> None:
    rig = Rig("a").live()
    rig.arrive(Revoked("overloaded", 60_000))
    if how == "lost":
        rig.do(Lost(rig.conn, None, "cut"))
    else:
        rig.arrive(ServerBye("idle", 500, 500))
    assert rig.mode == "polling"
    rig.advance(2.0)
    assert len(rig.all(Connect)) == 2
