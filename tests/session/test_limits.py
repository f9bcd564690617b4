"""Limits of an identity, as its sessions meet them (P-AUTH-10)."""

from __future__ import annotations

import pytest

from softstate.auth.identity import Identity
from softstate.auth.presented import Presented
from softstate.errors import Overloaded
from softstate.lease import LeaseTable
from softstate.lease.principals import FULL_RETRY_MS
from softstate.session.state import State
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import Auth, Error, Hello, Message, Poll
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import Peer, SessionRig, kinds, only, subscribe


class PollGate(RulesGate):
    """Refuses each poll from the third on."""

    polls = 0

    def check_poll(self, identity: object, address: str) -> None:
        self.polls += 1
        if self.polls > 2:
            raise Overloaded("too many", retry_ms=70, why="polls_per_s")


@pytest.fixture
def gate() -> RulesGate:
    gate = PollGate()
    for subject in ("u1", "u2"):
        gate.issue(subject, subject)
        gate.may(subject, read=["/"])
    gate.may("", read=["/"])
    return gate


@pytest.fixture
def rig(gate: RulesGate) -> SessionRig:
    rig = SessionRig(names_max=8)
    rig.gate = gate
    rig.table = LeaseTable(rig.now, subscriptions_max=8, sessions_per_identity_max=2, subscriptions_per_identity_max=10)
    return rig


def opened(rig: SessionRig, token: str | None, *names: str) -> Peer:
    peer = rig.connect()
    assert kinds(peer.ask(Hello(token=token))) == ["Welcome"]
    if names:
        assert kinds(peer.ask(subscribe(0, *names))) == ["Subscribed"]
    return peer


def is_limit(message: Message, limit: str) -> bool:
    assert isinstance(message, Error)
    return (message.code, message.why, message.retry_ms) == ("overloaded", limit, FULL_RETRY_MS)


def test_a_hello_too_many_is_refused_before_the_store_is_read(rig: SessionRig) -> None:
    first, _ = opened(rig, "u1"), opened(rig, "u1")
    peer = rig.connect()
    assert is_limit(only(peer.receive(Hello(token="u1"))), "sessions_per_identity_max")
    assert peer.reading is None
    assert peer.closed is not None
    assert peer.closed.code is CloseCode.OVERLOADED
    opened(rig, "u2")
    for _ in range(4):
        opened(rig, None)
    first.lose()
    opened(rig, "u1")


def test_of_hellos_that_come_together_only_as_many_get_a_session_as_may(rig: SessionRig) -> None:
    peers = [rig.connect() for _ in range(3)]
    for peer in peers:
        peer.receive(Hello(token="u1"))
        assert peer.reading is not None
    said = [only(peer.serve()) for peer in peers]
    assert kinds(said) == ["Welcome", "Welcome", "overloaded"]
    assert is_limit(said[2], "sessions_per_identity_max")
    assert peers[2].closed is not None


def test_a_hello_with_a_subscribe_behind_it_is_refused_as_one_without(rig: SessionRig) -> None:
    opened(rig, "u1")
    late = [rig.connect() for _ in range(2)]
    for peer in late:
        peer.receive(Hello(token="u1"))
    for peer in late:
        peer.receive(subscribe(1, "a"))
    said = [peer.serve() for peer in late]
    assert kinds(said[0]) == ["Welcome", "Subscribed"]
    assert is_limit(only(said[1]), "sessions_per_identity_max")


def test_a_session_is_resumed_at_the_limit(rig: SessionRig) -> None:
    opened(rig, "u1", "a")
    peer = opened(rig, "u1", "a")
    position = rig.push("a")
    token, peer_lease = peer.machine.token, peer.machine.lease
    again = rig.connect()
    again.ask(Hello(token="u1", session=token, since=position, position=rig.position()))
    assert again.machine.lease is peer_lease


def test_names_too_many_wait_and_are_answered_once_there_is_room(rig: SessionRig) -> None:
    first = opened(rig, "u1", *(f"a{number}" for number in range(6)))
    second = opened(rig, "u1", "b1", "b2", "b3", "b4")
    error = only(second.ask(subscribe(1, "b5")))
    assert is_limit(error, "subscriptions_per_identity_max")
    assert second.machine.state is State.OPEN
    assert second.closed is None
    opened(rig, "u2", *(f"a{number}" for number in range(8)))
    first.lose()
    assert kinds(second.ask(subscribe(2, "b5"))) == ["Subscribed"]


def test_a_hello_whose_token_is_not_looked_at_now_keeps_it_and_comes_again(
    rig: SessionRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def identify(_token: str | None, _now: float, address: str) -> Identity:
        asked.append(address)
        raise Overloaded("too many", retry_ms=70, why="auth_failures_per_s")

    peer, signed_in = rig.connect(), opened(rig, "u1")
    monkeypatch.setattr(rig.gate, "identify", identify)
    peer.machine.presented = Presented(address="10.0.0.1")
    assert only(peer.ask(Hello(token="u1"))) == Error("overloaded", "too many", None, 70, why="auth_failures_per_s")
    assert peer.closed is not None
    assert peer.closed.code is CloseCode.OVERLOADED
    assert asked == ["10.0.0.1"]
    assert kinds(signed_in.ask(Auth(1, "u1"))) == ["overloaded"]
    assert signed_in.closed is None
    assert signed_in.machine.state is State.OPEN


def test_polls_too_many_are_refused(rig: SessionRig) -> None:
    peer = opened(rig, "u1")
    poll = Poll(1, topics={"a": 0})
    assert kinds(peer.ask(poll, poll, poll)) == ["Polled", "Polled", "overloaded"]
    assert peer.closed is None
