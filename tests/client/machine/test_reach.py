"""URLs that refuse connections: one probe for both paths, and an even stream of clients when a node comes back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from softstate.client.machine import backoff as backoff_module, reach as reach_module
from softstate.client.machine.backoff import RETRY_S_MAX, Advice, Rotation
from softstate.client.machine.events import (
    Connect,
    Connected,
    ConnectFailed,
    Jumped,
    Lost,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Ticked,
    Wanted,
)
from softstate.client.machine.reach import Reach
from softstate.client.machine.state import Core
from softstate.errors import Overloaded, Unavailable
from softstate.wire.messages import BatchResult, Error, RecoverAdvice, ServerBye
from tests.kit.machine_rig import OTHER, RECOVER, TIMEOUT_S, URL, Rig, at

SPREAD_S = RECOVER.spread_ms / 1000


class _Network:
    """Answers the dials of a rig: `down` URLs refuse, others accept, those of `polls_only` no WebSocket.

    Counts knocks by URL, with their times.
    """

    def __init__(self, rig: Rig, *down: str, polls_only: str = "") -> None:
        self.rig, self.down, self.polls_only = rig, set(down), polls_only
        self.knocks: list[tuple[float, str, str]] = []

    def run(self, seconds: float, until: str | None = None) -> None:
        """Let time pass, and fail or answer what the client sends."""
        rig, end = self.rig, self.rig.now + seconds
        self.answer(rig.last)
        while rig.mode != until and (due := rig.machine.deadline()) <= end:
            rig.now = max(rig.now, due)
            self.answer(rig.do(Ticked()))
        if until is None:
            rig.now = end

    def answer(self, actions: list[Any]) -> None:
        rig, todo = self.rig, list(actions)
        while todo:
            action = todo.pop(0)
            if isinstance(action, Connect | SendPoll | SendPublish):
                self.knocks.append((rig.now, type(action).__name__, action.url))
            match action:
                case Connect(conn=conn, url=url) if url in self.down:
                    todo += rig.do(ConnectFailed(conn, "refused", unsent=True))
                case Connect(conn=conn, url=url) if url == self.polls_only:
                    todo += rig.do(ConnectFailed(conn, "not found", 404))
                case Connect(conn=conn):
                    todo += rig.do(Connected(conn))
                    rig.arrive(rig.welcome())
                    todo += rig.arrive(rig.subscribed())
                case SendPoll(request=request, url=url) if url in self.down:
                    todo += rig.do(RequestFailed(request, "refused", unsent=True))
                case SendPoll():
                    todo += rig.do(rig.polled())
                case SendPublish(request=request, url=url) if url in self.down:
                    todo += rig.do(RequestFailed(request, "refused", unsent=True))
                case SendPublish(request=request):
                    todo += rig.do(PublishAnswered(request, [BatchResult("a", 11, at(11))]))
                case _:
                    pass

    def times(self, url: str = URL, *kinds: str) -> list[float]:
        return [now for now, kind, to in self.knocks if to == url and (not kinds or kind in kinds)]


def _killed(seed: int = 1, spread_s: float = SPREAD_S, **options: Any) -> Rig:
    """Return a client whose node has just been killed."""
    rig = Rig("a", seed=seed, **options)
    rig.greeted()
    rig.arrive(rig.welcome(recover=RecoverAdvice(int(spread_s * 1000), 500, 60_000)))
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"
    rig.do(Lost(rig.conn, None, "killed"))
    return rig


def _asked(ticket: int) -> PublishRequested:
    return PublishRequested(ticket, "a", ticket, deleted=False, expect=None, key=f"key-{ticket}")


# The waits -----------------------------------------------------------------------------------------------------------


def _gaps(spread_s: float, absence_s: float, *, placed: bool) -> list[float]:
    gaps = []
    for seed in range(300):
        reach = Reach(Random(seed))
        if absence_s:
            reach.refused(URL, 100.0 - absence_s, Advice(), spread_s, placed=placed)
        reach.refused(URL, 100.0, Advice(), spread_s, placed=placed)
        gaps.append(reach.allowed_at(URL) - 100.0)
    return gaps


def test_a_dial_in_its_place_of_the_spread_is_repeated_one_spread_later() -> None:
    assert set(_gaps(8.0, 0.0, placed=True)) == {8.0}


def test_a_first_dial_that_was_not_spread_is_repeated_within_the_whole_spread() -> None:
    gaps = _gaps(8.0, 0.0, placed=False)
    assert min(gaps) < 0.8
    assert 7.2 < max(gaps) <= 8.0
    assert set(_gaps(8.0, 3.0, placed=False)) == {8.0}, "by then it has a place"


@pytest.mark.parametrize(("absence_s", "bound_s"), [(0.0, 0.5), (4.0, 2.0), (40.0, 20.0), (600.0, 30.0)])
def test_where_the_spread_is_short_a_wait_is_at_most_half_of_the_absence(absence_s: float, bound_s: float) -> None:
    gaps = _gaps(0.1, absence_s, placed=True)
    assert min(gaps) < 0.1 + 0.05 * bound_s
    assert 0.9 * bound_s < max(gaps) <= bound_s


@pytest.mark.parametrize("down_s", [0.0, 1.5, 4.0, 9.0, 60.0])
def test_however_long_a_node_was_away_its_clients_arrive_in_an_even_stream(down_s: float) -> None:
    """N clients with the spread S that fills three quarters of a node: N / S arrivals a second, and all within S."""
    count, spread_s = 1_500, 4.0
    arrivals: Counter[int] = Counter()
    for seed in range(count):
        rig = _killed(seed, spread_s)
        died = rig.now
        network = _Network(rig, URL)
        network.run(down_s)
        network.down.clear()
        network.run(60.0, until="live")
        arrivals[int((rig.now - died - down_s) * 2)] += 1
    # Half seconds. After a minute the bound of a backoff, 30 s, is wider than the spread.
    even = count * 0.5 / spread_s
    assert max(arrivals.values()) <= 1.25 * even, arrivals
    if down_s <= 9.0:
        assert max(arrivals) * 0.5 <= 1.2 * spread_s, arrivals


def test_dials_and_polls_of_a_herd_after_two_seconds_stay_below_two_a_client() -> None:
    knocks = 0
    for seed in range(300):
        rig = _killed(seed, spread_s=2.0)
        network = _Network(rig, URL)
        network.run(2.0)
        network.down.clear()
        network.run(60.0, until="live")
        knocks += len(network.knocks)
    assert knocks / 300 <= 2.0, knocks / 300


# One probe a URL -----------------------------------------------------------------------------------------------------


def test_while_a_url_refuses_polls_wait_for_the_probe_of_the_connection() -> None:
    rig = _killed()
    network = _Network(rig, URL)
    rig.do(Wanted(["b"]))  # which asks for a poll at once
    network.run(1.9)
    knocks = network.times()
    assert network.times(URL, "SendPoll") == knocks[:1], "the poll was refused before the connection was due"
    network.run(20.0)
    assert network.times(URL, "SendPoll") == knocks[:1]
    rig.do(Wanted(["c"]))
    assert rig.recent(SendPoll) == [], "it is known to refuse"


def test_a_refused_poll_leaves_the_connection_its_place_in_the_spread() -> None:
    rig = _killed(spread_s=40.0)
    due = rig.machine._push.connect_at
    assert due > rig.now + 2.5
    network = _Network(rig, URL)
    network.run(due - rig.now - 0.001)
    assert len(network.knocks) == 1
    assert rig.machine._push.connect_at == due


def test_polls_go_on_when_a_connection_was_made_that_says_nothing() -> None:
    rig = _killed()
    network = _Network(rig, URL)
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
    rig = _killed()
    network = _Network(rig, URL)
    rig.do(Wanted(["b"]))
    network.run(2.0)
    assert rig.mode == "polling"
    polls = len(rig.all(SendPoll))
    rig.advance(rig.machine.deadline() - rig.now)
    assert rig.machine._push.connection is not None
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
        network = _Network(rig, URL)
        network.run(1.0)
        knocks = network.times()
        times += [later - knocks[0] for later in knocks[1:2]]
    assert min(times) < 0.2
    assert max(times) <= 1.0


def test_of_a_dead_and_a_live_url_the_live_one_is_used_and_the_dead_one_left_alone() -> None:
    rig = _killed(urls=(URL, OTHER))
    network = _Network(rig, URL)
    network.run(3.0, until="live")
    assert len(network.times(URL)) == 1, "refused, and the other at once"
    assert network.times(OTHER)[0] == network.times(URL)[0]
    rig.do(Jumped())
    network.answer(rig.last)
    assert len(network.times(URL)) == 1, "a poll elsewhere does not knock there again"


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_answers_polls_keeps_its_clients_fresh_while_the_one_that_pushes_is_dead(seed: int) -> None:
    """The connections alone are refused everywhere: that must not count as having no node."""
    rig = _killed(seed, urls=(URL, OTHER), spread_s=0.5)
    network = _Network(rig, URL, polls_only=OTHER)
    network.run(120.0)
    polls = network.times(OTHER, "SendPoll")
    gaps = [later - earlier for earlier, later in pairwise(polls)]
    assert rig.mode == "polling"
    assert len(polls) >= 4
    assert max(gaps) <= 36.0, "an interval of polls, with its jitter"
    assert len(network.times(URL, "Connect")) > 2 * len(polls), "connections are refused more often than polls are due"


def test_of_two_dead_urls_each_has_one_probe() -> None:
    rig = _killed(urls=(URL, OTHER), spread_s=8.0)
    network = _Network(rig, URL, OTHER)
    network.run(100.0)
    for url in (URL, OTHER):
        knocks = network.times(url)
        gaps = [later - earlier for earlier, later in pairwise(knocks)]
        assert len(knocks) >= 3
        assert min(gaps[1:]) >= 8.0 - 0.01, "after the first, which may have been a poll's"


def test_a_node_that_refuses_for_ten_minutes_is_found_when_it_is_back() -> None:
    rig = _killed()
    network = _Network(rig, URL)
    network.run(600.0)
    assert rig.mode == "offline"
    assert 20 <= len(network.knocks) <= 80, "every 30 s at last"
    network.down.clear()
    back = rig.now
    network.run(62.0, until="live")
    assert rig.mode == "live"
    assert rig.now - back <= 60.0


def test_a_client_that_slept_through_the_wait_knocks_at_once() -> None:
    rig = _killed(spread_s=60.0)
    network = _Network(rig, URL)
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
    network = _Network(rig, URL)
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
    network = _Network(rig, URL)
    network.run(19.9)
    assert len(network.times(URL, "SendPoll")) >= 2
    assert network.times(URL, "Connect") == []
    network.down.clear()
    network.run(10.0, until="live")
    assert rig.mode == "live"


def test_a_live_client_polls_no_more_when_its_host_is_reached_once_more() -> None:
    rig = _killed()
    network = _Network(rig, URL)
    rig.do(Wanted(["b"]))
    network.run(1.9)
    network.down.clear()
    network.run(10.0, until="live")
    rig.machine._core.refused_dial(URL)
    rig.machine._core.reached(URL)
    assert rig.machine._poll.poll_at == math.inf


# Publishes -----------------------------------------------------------------------------------------------------------


def test_publishes_have_a_backoff_of_their_own_that_no_spread_lengthens() -> None:
    rig = _killed(spread_s=600.0)
    network = _Network(rig, URL)
    network.run(1.0)
    due = rig.machine._push.connect_at
    network.answer(rig.do(_asked(1)))
    network.run(5.0)
    assert 2 <= len(network.times(URL, "SendPublish")) <= 12
    assert rig.machine._push.connect_at == due, "which moves no client to the front of the herd"
    network.down.clear()
    network.run(8.0)
    assert rig.machine.refusal(1) is None
    assert rig.machine._queue.ready is False or not rig.machine._publishes.in_flight
    assert rig.machine._push.connect_at == due


def test_a_refused_publish_tells_the_polls() -> None:
    rig = Rig(push=False).open()
    network = _Network(rig, URL)
    network.answer(rig.do(_asked(1)))
    assert len(network.knocks) == 1
    rig.do(Wanted(["a"]))
    assert rig.recent(SendPoll) == []


# Other failures ------------------------------------------------------------------------------------------------------


def test_a_proxy_that_answers_503_without_a_time_is_tried_again_within_the_spread() -> None:
    waits = []
    for seed in range(100):
        rig = _killed(seed, spread_s=8.0)
        while rig.machine._push.connection is None:
            rig.tick_once()
            if rig.recent(SendPoll):
                rig.do(rig.polled())
        rig.do(ConnectFailed(rig.conn, "answered 503", 503))
        waits.append(rig.machine._push.connect_at - rig.now)
        assert not rig.machine._core.reach.refuses(URL), "it answers: polls may be served all the same"
    assert min(waits) < 1.0
    assert 7.0 < max(waits) <= 8.0


def test_a_shed_dial_waits_as_told_and_then_within_the_spread() -> None:
    waits = []
    for seed in range(100):
        rig = _killed(seed, spread_s=8.0)
        while rig.machine._push.connection is None:
            rig.tick_once()
            if rig.recent(SendPoll):
                rig.do(rig.polled())
        rig.do(ConnectFailed(rig.conn, "overloaded", 503, 3_000))
        waits.append(rig.machine._push.connect_at - rig.now)
    assert 3.0 <= min(waits) < 4.0
    assert 10.0 < max(waits) <= 11.0, "whole seconds would bring them back in steps"


@pytest.mark.parametrize("kind", [Overloaded, Unavailable])
def test_a_wait_of_a_day_counts_as_an_hour(kind: type[Overloaded | Unavailable]) -> None:
    rig = Rig("a", push=False).open()
    rig.do(RequestFailed(rig.poll.request, "busy", kind("busy", retry_ms=86_400_000)))
    assert RETRY_S_MAX <= rig.machine.deadline() - rig.now <= RETRY_S_MAX + 1.0
    rig = Rig("a").open()
    rig.do(ConnectFailed(rig.conn, "busy", 503, 86_400_000))
    assert RETRY_S_MAX <= rig.machine._push.connect_at - rig.now <= RETRY_S_MAX + 1.0


def test_an_error_before_the_welcome_is_no_refused_dial() -> None:
    rig = _killed()
    rig.greeted()
    rig.arrive(Error("unavailable", "the store is down", retry_ms=9_000))
    assert not rig.machine._core.reach.refuses(URL)
    assert rig.machine._push.connect_at >= rig.now + 9.0


def test_a_first_node_that_is_not_up_yet_is_found_soon() -> None:
    for seed in range(50):
        rig = Rig("a", seed=seed).open()
        network = _Network(rig, URL)
        network.run(0.3)
        network.down.clear()
        network.run(5.0, until="live")
        assert rig.now - 1_000.3 <= 1.0


def test_what_is_not_planned_is_not_planned() -> None:
    reach = Reach(Random(1))
    assert reach.allowed_at(URL) == -math.inf
    assert reach.next_probe_at([URL]) is None
    assert not reach.reached(URL)
    reach.probe(URL, 50.0)
    assert not reach.refuses(URL)


# Mutants: each takes one rule out, and a test above notices ----------------------------------------------------------


def _places_are_drawn_again(patch: pytest.MonkeyPatch) -> None:
    def refused(self: Reach, url: str, now: float, advice: Advice, spread_s: float, *, placed: bool) -> None:
        del placed
        self.wait(url, now, now + advice.pause_s(self._random, 0, spread_s))

    patch.setattr(Reach, "refused", refused)


def _retries_forget_the_spread(patch: pytest.MonkeyPatch) -> None:
    refused = Reach.refused

    def unspread(self: Reach, url: str, now: float, advice: Advice, _: float, *, placed: bool) -> None:
        refused(self, url, now, advice, 0.0, placed=placed)

    patch.setattr(Reach, "refused", unspread)


def _first_dials_have_a_place(patch: pytest.MonkeyPatch) -> None:
    refused = Reach.refused

    def at_once(self: Reach, url: str, now: float, advice: Advice, spread_s: float, *, placed: bool) -> None:
        del placed
        refused(self, url, now, advice, spread_s, placed=True)

    patch.setattr(Reach, "refused", at_once)


def _waits_grow_without_regard_to_the_absence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reach_module, "OF_ABSENCE", 4.0)


def _paths_do_not_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rotation, "choose", lambda _, now: now)


def _any_number_of_probes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reach, "probe", lambda *_: None)


def _refused_polls_move_the_connection(patch: pytest.MonkeyPatch) -> None:
    refused_dial = Core.refused_dial

    def drawn(self: Core, url: str, _: float = math.inf, *, placed: bool = False) -> None:
        refused_dial(self, url, placed=placed)

    patch.setattr(Core, "refused_dial", drawn)


def _waits_have_no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff_module, "RETRY_S_MAX", math.inf)


def _shed_dials_come_in_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Advice, "pause_s", lambda *_: 0.0)


def _a_silent_host_refuses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reach, "reached", lambda *_: False)


@pytest.mark.parametrize(
    ("mutate", "noticed"),
    [
        (_places_are_drawn_again, lambda: test_however_long_a_node_was_away_its_clients_arrive_in_an_even_stream(4.0)),
        (_retries_forget_the_spread, test_dials_and_polls_of_a_herd_after_two_seconds_stay_below_two_a_client),
        (_first_dials_have_a_place, test_a_first_dial_that_was_not_spread_is_repeated_within_the_whole_spread),
        (
            _waits_grow_without_regard_to_the_absence,
            lambda: test_where_the_spread_is_short_a_wait_is_at_most_half_of_the_absence(4.0, 2.0),
        ),
        (_paths_do_not_share, test_while_a_url_refuses_polls_wait_for_the_probe_of_the_connection),
        (_any_number_of_probes, test_a_probe_that_hangs_holds_the_other_path_back_no_longer_than_its_timeout),
        (_refused_polls_move_the_connection, test_a_refused_poll_leaves_the_connection_its_place_in_the_spread),
        (_waits_have_no_bound, lambda: test_a_wait_of_a_day_counts_as_an_hour(Overloaded)),
        (_shed_dials_come_in_steps, test_a_shed_dial_waits_as_told_and_then_within_the_spread),
        (_a_silent_host_refuses, test_polls_go_on_when_a_connection_was_made_that_says_nothing),
    ],
    ids=lambda given: getattr(given, "__name__", "").strip("_"),
)
def test_a_mutant_is_caught(
    mutate: Callable[[pytest.MonkeyPatch], None], noticed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        noticed()
