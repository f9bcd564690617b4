"""Rows of the client machine's table about both paths: offline, stopped, closed, several URLs, late words."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from softstate.client.machine.events import (
    Arrived,
    Closed,
    Connect,
    Connected,
    ConnectFailed,
    Disconnect,
    Jumped,
    Lost,
    Opened,
    PublishRequested,
    RequestFailed,
    SendPoll,
    Settled,
    Stopped,
)
from softstate.errors import ClientClosed, Denied, Unauthenticated, Unavailable, Unsupported
from softstate.wire.messages import ClientBye, Error, Notify, Poll, Revoked
from tests.kit.machine_rig import OTHER, RENEW_S, URL, Rig, at, set_to


def test_k_rounds_of_failed_polls_are_offline_with_one_retry_budget() -> None:
    rig = Rig("a").open()
    while rig.mode != "offline":
        _fail_next(rig)
    assert len(rig.all(SendPoll)) == 3
    times = []
    for _ in range(40):
        _fail_next(rig)
        times.append(rig.now)
        assert not (rig.machine.describe().connection is not None and rig.machine.describe().polling), (
            "one attempt at a time"
        )
    assert all(later >= earlier for earlier, later in pairwise(times))
    assert 10.0 < (times[-1] - times[10]) / 29 < 20.0, "half the cap on average, both paths together"


def test_connections_refused_do_not_hold_back_polls_that_succeed() -> None:
    """A dead node refuses within a millisecond; the node beside it answers polls."""
    rig = Rig("a", urls=(URL, OTHER)).live()
    rig.do(Lost(rig.conn, None, "killed"))
    for _ in range(200):
        if rig.machine.describe().connection is not None:
            rig.do(ConnectFailed(rig.conn, "refused"))
        elif rig.machine.describe().polling:
            dead = rig.poll.url == URL
            rig.do(RequestFailed(rig.poll.request, "refused") if dead else rig.polled())
        else:
            rig.tick_once()
        assert rig.mode == "polling"
    assert len(rig.all(SendPoll)) > 5


def test_offline_every_url_is_tried_in_one_round() -> None:
    rig = _offline("a", urls=(URL, OTHER))
    before = len(rig.all(SendPoll))
    while not rig.machine.describe().polling:
        _fail_next(rig) if rig.machine.describe().connection else rig.tick_once()
    began = rig.now
    rig.do(RequestFailed(rig.poll.request, "refused"))
    assert rig.machine.describe().polling
    assert {poll.url for poll in rig.all(SendPoll)[before:]} == {URL, OTHER}
    assert rig.now == began


def _fail_next(rig: Rig) -> int:
    """Let the machine make its next attempt, and fail it."""
    while True:
        if rig.machine.describe().connection is not None:
            rig.do(ConnectFailed(rig.conn, "refused"))
            return 1
        if rig.machine.describe().polling:
            rig.do(RequestFailed(rig.poll.request, "unreachable"))
            return 1
        rig.tick_once()


def _offline(*names: str, **options: Any) -> Rig:
    rig = Rig(*names, **options).open()
    while rig.mode != "offline":
        _fail_next(rig)
    return rig


def test_offline_tries_both_paths_in_turn() -> None:
    rig = _offline("a")
    before = (len(rig.all(Connect)), len(rig.all(SendPoll)))
    for _ in range(10):
        _fail_next(rig)
    assert len(rig.all(Connect)) - before[0] == 5
    assert len(rig.all(SendPoll)) - before[1] == 5


def test_offline_a_poll_answered_is_polling() -> None:
    rig = _offline("a")
    while not rig.machine.describe().polling:
        _fail_next(rig) if rig.machine.describe().connection else rig.tick_once()
    rig.do(rig.polled(set_to("a", 4)))
    assert rig.mode == "polling"
    assert rig.delivered() == [set_to("a", 4)]
    rig.advance(1.0)
    assert rig.machine.describe().connection is not None, "both paths are tried again, each by itself"


def test_offline_a_welcome_is_syncing() -> None:
    rig = _offline("a")
    while rig.machine.describe().connection is None:
        _fail_next(rig) if rig.machine.describe().polling else rig.tick_once()
    rig.syncing()
    assert rig.mode == "syncing"


def test_offline_retry_after_wins() -> None:
    rig = _offline("a")
    while not rig.machine.describe().polling:
        _fail_next(rig) if rig.machine.describe().connection else rig.tick_once()
    rig.do(RequestFailed(rig.poll.request, "busy", Unavailable("down", retry_ms=100_000)))
    assert rig.machine.deadline() >= rig.now + 100.0


def test_offline_with_nothing_to_poll_it_only_connects() -> None:
    rig = _offline()
    for _ in range(4):
        _fail_next(rig)
    assert rig.all(SendPoll) == []


@pytest.mark.parametrize("state", ["connecting", "live", "offline"])
@pytest.mark.parametrize("how", ["handshake", "close code", "protocol", "error", "revoked", "poll"])
def test_refused_credentials_stop(state: str, how: str) -> None:
    rig = _offline("a") if state == "offline" else Rig("a").live() if state == "live" else Rig("a").open()
    kind: type[Exception] = Unauthenticated
    if state == "offline":
        while rig.machine.describe().connection is None:
            _fail_next(rig) if rig.machine.describe().polling else rig.tick_once()
    match how:
        case "handshake" if state != "live":
            rig.do(ConnectFailed(rig.conn, "no", 403))
            kind = Denied
        case "revoked" if state == "live":
            rig.arrive(Revoked("denied"))
            kind = Denied
        case "error":
            if state != "live":
                rig.do(Connected(rig.conn))
            rig.arrive(Error("unauthenticated", "expired"))
        case "poll" if state == "connecting":
            rig.advance(1.5)
            rig.do(RequestFailed(rig.poll.request, "no", Unauthenticated("expired")))
        case "protocol":
            rig.do(Lost(rig.conn, 4200, "what?"))
            kind = Unsupported
        case _:
            rig.do(Lost(rig.conn, 4100, "expired"))
    assert rig.mode == "stopped"
    (stopped,) = rig.recent(Stopped)
    assert isinstance(stopped.error, kind)
    rig.do(PublishRequested(1, "a", 1, deleted=False, expect=None, key="k"))
    assert rig.recent(Settled) == [Settled(1, stopped.error)]
    assert rig.advance(1_000.0) == []


@pytest.mark.parametrize("state", ["connecting", "syncing", "live", "suspect", "offline", "stopped"])
def test_close_says_goodbye_and_does_nothing_more(state: str) -> None:
    rig = Rig("a")
    match state:
        case "connecting":
            rig.open()
        case "syncing":
            rig.syncing()
        case "live":
            rig.live()
        case "suspect":
            rig.suspect()
        case "offline":
            rig = _offline("a")
        case _:
            rig.live().do(Lost(rig.conn, 4100, "expired"))
    rig.do(PublishRequested(1, "a", 1, deleted=False, expect=None, key="k"), Closed())
    assert rig.mode == "closed"
    assert len(rig.recently_sent(ClientBye)) == (state in ("syncing", "live", "suspect"))
    assert len(rig.recent(Disconnect)) == (state in ("connecting", "syncing", "live", "suspect"))
    assert rig.advance(1_000.0) == []
    assert rig.do(Closed()) == []
    rig.do(PublishRequested(2, "a", 1, deleted=False, expect=None, key="k"))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, ClientClosed)


def test_nothing_happens_before_it_is_opened() -> None:
    rig = Rig("a")
    assert rig.log == []
    assert rig.advance(1_000.0) == []
    assert rig.age == float("inf")


def test_frames_of_a_connection_that_was_left_are_ignored() -> None:
    rig = Rig("a").live()
    old = rig.conn
    rig.do(Lost(old, None, "cut"))
    rig.advance(2.0)
    assert rig.conn != old
    before = rig.mode
    rig.do(Arrived(old, Notify("a", 99, "late")), Lost(old, 4100, "late"), ConnectFailed(old, "late"), Connected(old))
    assert rig.last == []
    assert rig.mode == before


def test_several_urls_are_tried_at_once_then_backed_off() -> None:
    rig = Rig("a", urls=(URL, OTHER)).open()
    rig.do(ConnectFailed(rig.conn, "refused"))
    assert [connect.url for connect in rig.recent(Connect)] == [OTHER]
    rig.do(ConnectFailed(rig.conn, "refused"))
    assert rig.recent(Connect) == []


def test_a_url_that_answers_404_is_for_polling_only() -> None:
    rig = Rig("a", urls=(URL, OTHER)).open()
    rig.do(ConnectFailed(rig.conn, "not found", 404))
    assert rig.mode == "polling"
    assert [connect.url for connect in rig.recent(Connect)] == [OTHER]
    for _ in range(4):
        rig.do(ConnectFailed(rig.conn, "refused"), rig.polled() if rig.machine.describe().polling else Jumped())
        rig.machine._core.failures = 0
        while rig.machine.describe().connection is None:
            rig.tick_once()
            if rig.machine.describe().polling:
                rig.do(rig.polled())
    assert {connect.url for connect in rig.all(Connect)[1:]} == {OTHER}
    assert rig.mode == "polling"


def test_if_no_url_serves_websocket_it_stays_polling_and_asks_again_much_later() -> None:
    rig = Rig("a").open()
    rig.do(ConnectFailed(rig.conn, "not found", 404))
    end = rig.now + 239.0
    while rig.now < end:
        rig.tick_once()
        if rig.machine.describe().polling:
            rig.do(rig.polled())
    assert len(rig.all(Connect)) == 1
    assert rig.mode == "polling"
    while len(rig.all(Connect)) == 1:
        rig.tick_once()
        if rig.machine.describe().polling:
            rig.do(rig.polled())
    assert rig.now <= 1_000.0 + 10 * 30 * 1.2 + 1.0


def test_the_poll_of_a_doubt_goes_over_the_connection() -> None:
    rig = Rig("a", "p/").live()
    rig.arrive(Notify("p/x", 14, unknown=True))
    (poll,) = rig.recently_sent(Poll)
    assert (poll.prefixes, poll.topics, poll.min_revision, poll.position) == ({"p/": 10}, {}, 14, at(14))
    assert rig.mode == "live"
    rig.arrive(Notify("stranger", 15, unknown=True))
    assert rig.recently_sent(Poll) == []
    assert rig.machine.statistics().repairs_unknown == 2


def test_renewals_are_jittered_by_a_fifth() -> None:
    gaps = []
    for seed in range(60):
        rig = Rig("a", seed=seed).live()
        start = rig.now
        gaps.append(rig.renewing().now - start)
    assert 0.8 * RENEW_S <= min(gaps) < 0.85 * RENEW_S
    assert 1.15 * RENEW_S < max(gaps) <= 1.2 * RENEW_S


def test_opening_twice_is_opening_once() -> None:
    rig = Rig("a").open()
    assert rig.do(Opened()) == []
