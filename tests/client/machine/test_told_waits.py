"""Waits that a node asks for: kept on every path, for an hour at most (P-CLI-5)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from softstate.client.machine.backoff import RETRY_S_MAX
from softstate.client.machine.events import Connect, ConnectFailed, Jumped, RequestFailed, SendPoll, Wanted
from softstate.errors import Denied, Overloaded, Rewound, Unavailable
from softstate.wire.messages import Error, Revoked, ServerBye
from tests.kit.client_network import killed_node_rig
from tests.kit.machine_rig import OTHER, URL, Rig, at

BUSY = Overloaded("busy", retry_ms=60_000)


def _polls_until(rig: Rig, seconds: float) -> list[tuple[float, str]]:
    """Return when and where it polls, every poll being refused for its host."""
    polls: list[tuple[float, str]] = []
    end = rig.now + seconds
    while rig.now < end:
        if rig.machine.describe().polling:
            polls.append((rig.now, rig.poll.url))
            rig.do(RequestFailed(rig.poll.request, "no", Denied("not by this name", why="host")))
        else:
            rig.tick_once()
    return polls


def test_names_wanted_while_a_node_asks_for_a_pause_are_not_polled_before_its_end() -> None:
    rig = Rig("a", push=False).open()
    rig.do(RequestFailed(rig.poll.request, "busy", BUSY))
    rig.do(Wanted(["b"]))
    rig.advance(59.9)
    assert len(rig.all(SendPoll)) == 1
    rig.advance(1.2)
    assert rig.poll.message.topics == {"a": 0, "b": 0}


def test_names_wanted_while_a_node_asks_for_a_pause_are_polled_elsewhere_at_once() -> None:
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    rig.do(RequestFailed(rig.poll.request, "busy", BUSY))
    rig.do(rig.polled())
    assert [poll.url for poll in rig.all(SendPoll)] == [URL, OTHER]
    rig.do(Wanted(["b"]))
    rig.do(RequestFailed(rig.poll.request, "busy", Unavailable("down", retry_ms=30_000)))
    rig.do(Wanted(["c"]))
    rig.advance(29.9)
    assert len(rig.all(SendPoll)) == 3
    rig.advance(1.2)
    assert rig.poll.url == OTHER


def test_names_wanted_while_offline_do_not_cut_the_pause_short() -> None:
    rig = Rig("a", push=False).open()
    while rig.mode != "offline":
        if rig.machine.describe().polling:
            rig.do(RequestFailed(rig.poll.request, "busy", BUSY))
        else:
            rig.tick_once()
    polls = len(rig.all(SendPoll))
    rig.do(Wanted(["b"]))
    rig.advance(59.9)
    assert len(rig.all(SendPoll)) == polls
    rig.advance(31.0)
    assert len(rig.all(SendPoll)) > polls


def test_the_wait_of_a_bye_is_kept_when_the_store_turns_out_to_be_rewound() -> None:
    rig = Rig("a").live()
    rig.arrive(ServerBye("draining", 20_000, 0))
    while not rig.machine.describe().polling:
        rig.tick_once()
    rig.do(RequestFailed(rig.poll.request, "gone", Rewound("rewound", position=at(3, "l2"))))
    rig.do(rig.polled(position=at(4, "l2")))
    rig.advance(1_020.0 - rig.now - 0.1)
    assert len(rig.all(Connect)) == 1
    rig.advance(2.1)
    assert len(rig.all(Connect)) == 2


def test_a_pause_holds_for_the_node_that_asked_even_if_polls_have_moved_on() -> None:
    rig = Rig("a", urls=(URL, OTHER)).live()
    rig.do(Jumped())
    asked = rig.poll
    assert asked.url == OTHER
    rig.machine._poll.avoid(OTHER)  # as when the connection moves there and goes silent
    rig.do(RequestFailed(asked.request, "busy", BUSY))
    assert rig.poll.url == URL
    rig.do(RequestFailed(rig.poll.request, "broken"))
    rig.advance(4.0)
    assert {poll.url for poll in rig.all(SendPoll)[1:]} == {URL}


def test_a_node_that_asks_for_an_hour_does_not_keep_the_client_from_another() -> None:
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    rig.do(RequestFailed(rig.poll.request, "busy", Overloaded("busy", retry_ms=3_600_000)))
    polls: list[tuple[float, str]] = []
    while rig.now < 1_600.0:
        if rig.machine.describe().polling:
            polls.append((rig.now, rig.poll.url))
            rig.do(RequestFailed(rig.poll.request, "broken"))
        else:
            rig.tick_once()
    assert {url for _, url in polls} == {OTHER}
    assert len(polls) >= 20
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(polls)), "and with a pause each time"


@pytest.mark.parametrize("push", [True, False])
def test_of_a_url_that_refuses_and_one_that_breaks_off_the_latter_is_tried_once_a_round(push: bool) -> None:
    rig = Rig("a", push=push, urls=(URL, OTHER)).open()
    tries: list[float] = []
    while rig.now < 1_300.0:
        connection, poll = rig.machine.describe().connection, rig.machine.describe().polling
        if connection is None and not poll:
            rig.tick_once()
        elif connection is not None:
            tries += [rig.now] if connection.url == OTHER else []
            rig.do(ConnectFailed(connection.conn, "failed", unsent=connection.url == URL))
        else:
            tries += [rig.now] if rig.poll.url == OTHER else []
            rig.do(RequestFailed(rig.poll.request, "failed", unsent=rig.poll.url == URL))
    assert rig.mode == "offline"
    assert len(tries) >= 10
    assert len({at_s for at_s in tries if at_s > 1_060.0}) == len([at_s for at_s in tries if at_s > 1_060.0])


def test_a_bye_or_a_revoked_lease_for_a_day_counts_as_an_hour() -> None:
    rig = Rig("a").live()
    rig.arrive(ServerBye("draining", 86_400_000, 0))
    assert rig.machine.describe().connect_at - rig.now == RETRY_S_MAX
    rig = Rig("a").live()
    rig.arrive(Revoked("expired", 86_400_000))
    assert rig.connection.resubscribe_at - rig.now == RETRY_S_MAX
    rig = Rig("a")
    rig.greeted()
    rig.arrive(ServerBye("draining", 86_400_000, 1_000))
    assert RETRY_S_MAX <= rig.machine.describe().connect_at - rig.now <= RETRY_S_MAX + 2.0
    rig = Rig("a").live()
    rig.do(Wanted(["b"]))
    rig.arrive(Error("overloaded", "busy", "subscribe-2", retry_ms=86_400_000))
    assert rig.connection.resubscribe_at - rig.now == RETRY_S_MAX


def test_urls_that_all_refuse_polls_by_name_are_asked_again_much_later_also_when_offline() -> None:
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    polls = _polls_until(rig, 3_600.0)
    assert rig.mode == "offline"
    for url in (URL, OTHER):
        times = [now for now, to in polls if to == url]
        assert len(times) >= 8, "but they are asked"
        assert min(later - earlier for earlier, later in pairwise(times)) >= 0.8 * 300.0


def test_urls_that_all_refuse_polls_by_name_leave_connections_their_turn() -> None:
    rig = Rig("a", urls=(URL, OTHER)).open()
    end = rig.now + 2_000.0
    connects: list[float] = []
    while rig.now < end:
        for action in list(rig.last):
            if isinstance(action, Connect):
                connects.append(rig.now)
                rig.do(ConnectFailed(action.conn, "broken"))
                break
            if isinstance(action, SendPoll):
                rig.do(RequestFailed(action.request, "no", Denied("not by this name", why="host")))
                break
        else:
            rig.tick_once()
    assert max(later - earlier for earlier, later in pairwise(connects)) <= 60.0


def waits_after_503(retry_ms: int | None) -> list[float]:
    """Return when 100 clients of a node that came back dial again, each after its dial was answered 503."""
    waits = []
    for seed in range(100):
        rig = killed_node_rig(seed, spread_s=8.0)
        while rig.machine.describe().connection is None:
            rig.tick_once()
            if rig.recent(SendPoll):
                rig.do(rig.polled())
        rig.do(ConnectFailed(rig.conn, "answered 503", 503, retry_ms))
        waits.append(rig.machine.describe().connect_at - rig.now)
        assert not rig.machine._core.reach.refuses(URL), "it answers: polls may be served all the same"
    return waits


def test_a_proxy_that_answers_503_without_a_time_is_tried_again_within_the_spread() -> None:
    waits = waits_after_503(None)
    assert min(waits) < 1.0
    assert 7.0 < max(waits) <= 8.0


def test_a_shed_dial_waits_as_told_and_then_within_the_spread() -> None:
    waits = waits_after_503(3_000)
    assert 3.0 <= min(waits) < 4.0
    assert 10.0 < max(waits) <= 11.0, "whole seconds would bring them back in steps"


@pytest.mark.parametrize("kind", [Overloaded, Unavailable])
def test_a_wait_of_a_day_counts_as_an_hour(kind: type[Overloaded | Unavailable]) -> None:
    rig = Rig("a", push=False).open()
    rig.do(RequestFailed(rig.poll.request, "busy", kind("busy", retry_ms=86_400_000)))
    assert RETRY_S_MAX <= rig.machine.deadline() - rig.now <= RETRY_S_MAX + 1.0
    rig = Rig("a").open()
    rig.do(ConnectFailed(rig.conn, "busy", 503, 86_400_000))
    assert RETRY_S_MAX <= rig.machine.describe().connect_at - rig.now <= RETRY_S_MAX + 1.0


def test_an_error_before_the_welcome_is_no_refused_dial() -> None:
    rig = killed_node_rig()
    rig.greeted()
    rig.arrive(Error("unavailable", "the store is down", retry_ms=9_000))
    assert not rig.machine._core.reach.refuses(URL)
    assert rig.machine.describe().connect_at >= rig.now + 9.0
