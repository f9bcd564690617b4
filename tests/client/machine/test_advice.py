"""Advice of a node that would make a client hurry, or wait for days: it is bounded (P-CLI-18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from softstate.client.machine.backoff import RETRY_S_MAX, Advice
from softstate.client.machine.events import (
    Arrived,
    Connect,
    Connected,
    ConnectFailed,
    Event,
    Lost,
    ModeChanged,
    PollAnswered,
    RequestFailed,
    Send,
    SendPoll,
)
from softstate.session.load_advice import advise
from softstate.wire.messages import (
    Hello,
    PollAdvice,
    Polled,
    RecoverAdvice,
    Renew,
    Revoked,
    ServerBye,
    ServerMessage,
    Subscribe,
    Subscribed,
)
from tests.kit.machine_rig import OTHER, URL, Rig, at

RTT_S = 0.002
HURRY: dict[str, Any] = {"renew_ms": 0, "timeout_ms": 0, "poll": PollAdvice(0, 0), "recover": RecoverAdvice(0, 0, 0)}

Farewell = Callable[[], list[ServerMessage]]


class _Node:
    """A node that answers everything at once, advises `advice`, and says `farewell` behind each `subscribed`."""

    def __init__(self, advice: dict[str, Any], farewell: Farewell = list, **options: Any) -> None:
        self.rig = Rig("a", **options).open()
        self.advice, self.farewell = advice, farewell
        self.poll_ms = 0 if advice is HURRY else 15_000
        self.times: dict[type, list[float]] = {Renew: [], Subscribe: [], Connect: [], SendPoll: [], ModeChanged: []}

    def run(self, seconds: float) -> _Node:
        rig = self.rig
        end, seen = rig.now + seconds, 0
        while rig.now < end:
            answers: list[Event] = []
            for action in rig.log[seen:]:
                kind = type(action.message) if isinstance(action, Send) else type(action)
                self.times.setdefault(kind, []).append(rig.now)
                answers += self._answer(action)
            seen = len(rig.log)
            if answers:
                rig.now += RTT_S
                rig.do(*answers)
            else:
                rig.tick_once()
        return self

    def _answer(self, action: object) -> list[Event]:
        rig = self.rig
        match action:
            case Connect(conn):
                return [Connected(conn)]
            case SendPoll(request):
                return [PollAnswered(request, Polled(0, at(10), next_ms=self.poll_ms))]
            case Send(conn, Hello()):
                return [Arrived(conn, rig.welcome(**self.advice))]
            case Send(conn, Subscribe(id=each)):
                return [Arrived(conn, message) for message in (Subscribed(each, at(10)), *self.farewell())]
            case Send(conn, Renew()):
                advice = {name: value for name, value in self.advice.items() if name != "timeout_ms"}
                return [Arrived(conn, rig.renewed(**advice))]
        return []

    def most(self, kind: type, seconds: float) -> int:
        """Return how often a client did it within such a time, at most."""
        times = self.times[kind]
        return max((sum(began <= each < began + seconds for each in times) for began in times), default=0)


def test_renewals_polls_and_suspicion_have_a_pace_of_their_own() -> None:
    node = _Node(HURRY).run(60.0)
    assert node.rig.mode == "live"
    assert 200 < len(node.times[Renew]) < 60.0 / 0.16
    assert node.rig.modes().count("suspect") == 0, "answers come within 100 ms"
    assert node.rig.machine._core.poll_timeout_s >= 0.1
    assert len(_Node(HURRY, push=False).run(60.0).times[SendPoll]) < 60.0 / 0.04


def test_an_answer_is_waited_for() -> None:
    rig = Rig("a")
    rig.syncing(timeout_ms=0, renew_ms=1).arrive(rig.subscribed())
    rig.renewing().advance(0.09)
    assert rig.mode == "live"
    rig.advance(0.02)
    assert rig.mode == "suspect"


REVOKED = [Revoked("slow_consumer"), Revoked("expired", 0, 0)]


@pytest.mark.parametrize("revoked", REVOKED)
def test_leases_that_end_at_once_follow_each_other_ever_more_slowly(revoked: Revoked) -> None:
    node = _Node({}, lambda: [revoked]).run(600.0)
    assert node.most(Subscribe, 10.0) < 20
    late = [at_s for at_s in node.times[Subscribe] if at_s > 1_300.0]
    assert 10 < len(late) < 300.0 / 15.0 * 2
    assert len(node.times[Connect]) == 1


@pytest.mark.parametrize(("recover", "mean_s", "seconds"), [
    (RecoverAdvice(0, 0, 0), 0.1, 60.0),
    (RecoverAdvice(0, 500, 30_000), 15.0, 1_200.0),
    (RecoverAdvice(2_000, 500, 30_000), 15.0, 1_200.0),
])  # fmt: skip
def test_connections_whose_leases_end_at_once_back_off(recover: RecoverAdvice, mean_s: float, seconds: float) -> None:
    node = _Node({"recover": recover}, lambda: [ServerBye("idle", 0, 0)]).run(seconds)
    assert node.most(Connect, 2.0) < 40
    late = [at_s for at_s in node.times[Connect] if at_s > 1_000.0 + seconds / 2]
    assert 0.5 * seconds / 2 / mean_s < len(late) < 1.6 * seconds / 2 / mean_s


def test_leases_that_lasted_are_followed_by_another_as_the_node_advises() -> None:
    rig = Rig("a").live()
    for _ in range(3):
        rig.advance(5.0)
        rig.arrive(Revoked("expired", 0, 0))
        assert rig.recently_sent(Subscribe), "at once"
        rig.arrive(rig.subscribed())
        assert rig.mode == "live"
    rig.advance(5.0)
    rig.arrive(ServerBye("idle", 0, 0))
    assert rig.recent(Connect)


def test_a_connection_lost_at_once_is_followed_by_one_within_the_spread_and_then_by_a_backoff() -> None:
    rig, waits = Rig("a").live(), []
    for _ in range(8):
        rig.do(Lost(rig.conn, None, "cut"))
        waits.append(rig.machine.describe().connect_at - rig.now)
        rig.live()
    assert waits[0] <= 2.0
    assert max(waits) > 2.0


WEEK_MS = 7 * 24 * 3_600_000
WEEK = {"poll": PollAdvice(WEEK_MS, WEEK_MS), "recover": RecoverAdvice(WEEK_MS, WEEK_MS, WEEK_MS)}


@pytest.mark.parametrize("advice", [WEEK, {"recover": WEEK["recover"]}, {"poll": WEEK["poll"]}])
@pytest.mark.parametrize("renewed", [False, True])
def test_a_node_that_advises_a_week_and_dies_does_not_keep_a_client_from_another(
    advice: dict[str, Any], renewed: bool
) -> None:
    for seed in range(20):
        rig = Rig("a", seed=seed, urls=(URL, OTHER))
        rig.syncing(**({} if renewed else advice)).arrive(rig.subscribed())
        if renewed:
            rig.renewing().arrive(rig.renewed(**advice))
        rig.do(Lost(rig.conn, None, "cut"))
        died, found = rig.now, False
        while not found:
            assert rig.now <= died + 1.2 * RETRY_S_MAX
            if rig.machine.describe().connection is not None:
                found = rig.connection.url == OTHER
                rig.do(ConnectFailed(rig.conn, "dead", unsent=True))
            elif rig.machine.describe().polling:
                found = rig.poll.url == OTHER
                rig.do(RequestFailed(rig.poll.request, "dead", unsent=True))
            else:
                rig.tick_once()


def test_spreads_of_farewells_and_the_next_poll_are_an_hour_away_at_most() -> None:
    for seed in range(20):
        rig = Rig("a", seed=seed).live()
        rig.arrive(ServerBye("draining", 0, WEEK_MS))
        assert rig.machine.describe().connect_at - rig.now <= RETRY_S_MAX
        rig = Rig("a", seed=seed).live()
        rig.arrive(Revoked("expired", 0, WEEK_MS))
        assert rig.connection.resubscribe_at - rig.now <= RETRY_S_MAX
        rig = Rig("a", seed=seed)
        rig.greeted()
        rig.arrive(ServerBye("draining", 0, WEEK_MS))
        assert rig.machine.describe().connect_at - rig.now <= RETRY_S_MAX + 2.0
        rig = Rig("a", seed=seed, push=False).open()
        rig.do(rig.polled(next_ms=WEEK_MS))
        assert 0.8 * RETRY_S_MAX <= rig.machine.deadline() - rig.now <= 1.2 * RETRY_S_MAX


def test_no_advice_of_a_node_of_this_version_is_cut() -> None:
    poll, recover = advise(10_000_000, 10.0, 10.0)
    advice = Advice.of(poll, recover)
    assert advice.poll_every_s * 1000 == poll.every_ms
    assert advice.poll_spread_s * 1000 == poll.spread_ms
    assert advice.recover_spread_s * 1000 == recover.spread_ms
    assert advice.cap_s * 1000 == recover.cap_ms
