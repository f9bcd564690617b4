"""URLs that refuse connections: one probe of each for both paths, which know of each other's."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from softstate.client.machine.events import Connect, Connected, ConnectFailed, Jumped, SendPoll, Ticked, Wanted
from softstate.wire.messages import ServerBye
from tests.kit.client_network import Network, asked, killed_node_rig
from tests.kit.machine_rig import OTHER, TIMEOUT_S, URL, Rig


def test_while_a_url_refuses_polls_wait_for_the_probe_of_the_connection() -> None:
    rig = killed_node_rig()
    network = Network(rig, URL)
    rig.do(Wanted(["b"]))  # which asks for a poll at once
    network.run(1.9)
    knocks = network.times()
    assert network.times(URL, "SendPoll") == knocks[:1], "the poll was refused before the connection was due"
    network.run(20.0)
    assert network.times(URL, "SendPoll") == knocks[:1]
    rig.do(Wanted(["c"]))
    assert rig.recent(SendPoll) == [], "it is known to refuse"


def test_a_refused_poll_leaves_the_connection_its_place_in_the_spread() -> None:
    rig = killed_node_rig(spread_s=40.0)
    due = rig.machine.describe().connect_at
    assert due > rig.now + 2.5
    network = Network(rig, URL)
    network.run(due - rig.now - 0.001)
    assert len(network.knocks) == 1
    assert rig.machine.describe().connect_at == due


def test_polls_go_on_when_a_connection_was_made_that_says_nothing() -> None:
    rig = killed_node_rig()
    network = Network(rig, URL)
    rig.do(Wanted(["b"]))
    network.run(2.0)
    assert rig.mode == "polling"
    network.down.clear()
    rig.advance(rig.machine.deadline() - rig.now)
    assert [type(action) for action in rig.last] == [Connect]
    rig.do(Connected(rig.conn))
    rig.advance(1.5)
    assert len(rig.recent(SendPoll)) == 1


def test_a_probe_that_hangs_holds_the_other_path_back_no_longer_than_its_timeout() -> None:
    rig = killed_node_rig()
    network = Network(rig, URL)
    rig.do(Wanted(["b"]))
    network.run(2.0)
    assert rig.mode == "polling"
    polls = len(rig.all(SendPoll))
    rig.advance(rig.machine.deadline() - rig.now)
    assert rig.machine.describe().connection is not None
    began = rig.now
    rig.advance(4.9)
    assert len(rig.all(SendPoll)) == polls, "one probe a URL"
    rig.advance(0.2)
    assert len(rig.all(SendPoll)) == polls + 1
    assert rig.now - began <= TIMEOUT_S + 0.2


def test_a_client_that_only_polls_spreads_its_polls_likewise() -> None:
    times = []
    for seed in range(100):
        rig = Rig("a", seed=seed, push=False).open()
        network = Network(rig, URL)
        network.run(1.0)
        knocks = network.times()
        times += [later - knocks[0] for later in knocks[1:2]]
    assert min(times) < 0.2
    assert max(times) <= 1.0


def test_of_a_dead_and_a_live_url_the_live_one_is_used_and_the_dead_one_left_alone() -> None:
    rig = killed_node_rig(urls=(URL, OTHER))
    network = Network(rig, URL)
    network.run(3.0, until="live")
    assert len(network.times(URL)) == 1, "refused, and the other at once"
    assert network.times(OTHER)[0] == network.times(URL)[0]
    rig.do(Jumped())
    network.answer(rig.last)
    assert len(network.times(URL)) == 1, "a poll elsewhere does not knock there again"


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_answers_polls_keeps_its_clients_fresh_while_the_one_that_pushes_is_dead(seed: int) -> None:
    """The connections alone are refused everywhere: that must not count as having no node."""
    rig = killed_node_rig(seed, urls=(URL, OTHER), spread_s=0.5)
    network = Network(rig, URL, polls_only=OTHER)
    network.run(120.0)
    polls = network.times(OTHER, "SendPoll")
    gaps = [later - earlier for earlier, later in pairwise(polls)]
    assert rig.mode == "polling"
    assert len(polls) >= 4
    assert max(gaps) <= 36.0, "an interval of polls, with its jitter"
    assert len(network.times(URL, "Connect")) > 2 * len(polls), "connections are refused more often than polls are due"


def test_of_two_dead_urls_each_has_one_probe() -> None:
    rig = killed_node_rig(urls=(URL, OTHER), spread_s=8.0)
    network = Network(rig, URL, OTHER)
    network.run(100.0)
    for url in (URL, OTHER):
        knocks = network.times(url)
        gaps = [later - earlier for earlier, later in pairwise(knocks)]
        assert len(knocks) >= 3
        assert min(gaps[1:]) >= 8.0 - 0.01, "after the first, which may have been a poll's"


def test_a_node_that_refuses_for_ten_minutes_is_found_when_it_is_back() -> None:
    rig = killed_node_rig()
    network = Network(rig, URL)
    network.run(600.0)
    assert rig.mode == "offline"
    assert 20 <= len(network.knocks) <= 80, "every 30 s at last"
    network.down.clear()
    back = rig.now
    network.run(62.0, until="live")
    assert rig.mode == "live"
    assert rig.now - back <= 60.0


def test_a_client_that_slept_through_the_wait_knocks_at_once() -> None:
    rig = killed_node_rig(spread_s=60.0)
    network = Network(rig, URL)
    network.run(30.0)
    before = len(network.knocks)
    rig.now += 36_000.0
    rig.do(Jumped(), Ticked())
    network.answer(rig.last)
    assert len(network.knocks) == before + 1, "and not twice"


def test_a_url_that_serves_polls_alone_is_polled_again_soon_after_it_refused() -> None:
    """The next connection is due in five minutes, which must not hold back polls for as long."""
    rig = Rig("a").open()
    rig.do(ConnectFailed(rig.conn, "not found", 404))
    network = Network(rig, URL)
    network.run(60.0)
    polls = network.times(URL, "SendPoll")
    assert len(polls) >= 5
    assert network.times(URL, "Connect") == [], "nor is it asked for a WebSocket before its time"
    network.down.clear()
    network.run(40.0)
    assert rig.age < 31.0


def test_the_wait_of_a_bye_is_not_cut_short_by_polls_that_are_refused() -> None:
    rig = Rig("a").live()
    rig.arrive(ServerBye("draining", 20_000, 0))
    network = Network(rig, URL)
    network.run(19.9)
    assert len(network.times(URL, "SendPoll")) >= 2
    assert network.times(URL, "Connect") == []
    network.down.clear()
    network.run(10.0, until="live")
    assert rig.mode == "live"


def test_a_live_client_polls_no_more_when_its_host_is_reached_once_more() -> None:
    rig = killed_node_rig()
    network = Network(rig, URL)
    rig.do(Wanted(["b"]))
    network.run(1.9)
    network.down.clear()
    network.run(10.0, until="live")
    rig.machine._core.refused_dial(URL)
    rig.machine._core.reached(URL)
    assert rig.machine.describe().poll_at == math.inf


# Publishes -----------------------------------------------------------------------------------------------------------


def test_publishes_have_a_backoff_of_their_own_that_no_spread_lengthens() -> None:
    rig = killed_node_rig(spread_s=600.0)
    network = Network(rig, URL)
    network.run(1.0)
    due = rig.machine.describe().connect_at
    network.answer(rig.do(asked(1)))
    network.run(5.0)
    assert 2 <= len(network.times(URL, "SendPublish")) <= 12
    assert rig.machine.describe().connect_at == due, "which moves no client to the front of the herd"
    network.down.clear()
    network.run(8.0)
    assert rig.machine.refusal(1) is None
    assert rig.machine._queue.ready is False or not rig.machine.describe().publishing
    assert rig.machine.describe().connect_at == due


def test_a_refused_publish_tells_the_polls() -> None:
    rig = Rig(push=False).open()
    network = Network(rig, URL)
    network.answer(rig.do(asked(1)))
    assert len(network.knocks) == 1
    rig.do(Wanted(["a"]))
    assert rig.recent(SendPoll) == []
