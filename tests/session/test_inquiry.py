"""Requests about whose names the callout has to be asked first: they wait, and with them all behind (P-AUTH-15)."""

from __future__ import annotations

import pytest

from softstate.auth.name_answers import QUESTIONS_MAX
from softstate.errors import Unavailable
from softstate.session import Submit
from softstate.session.state import State
from softstate.wire.messages import (
    ClientMessage,
    DeniedNames,
    Error,
    Hello,
    Poll,
    Polled,
    Publish,
    Revoked,
    Subscribed,
    Welcome,
)
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import Peer, SessionRig, kinds, only, opened, renew, subscribe

DOWN = Unavailable("the callout is down", retry_ms=1_000)


@pytest.fixture
def gate(gate: RulesGate) -> RulesGate:
    gate.may("u1", read=["a"], write=["a"])
    gate.to_ask = {("u1", "read", "n"), ("u1", "write", "n")}
    return gate


def answered(peer: Peer, gate: RulesGate, *, allowed: bool) -> None:
    """Have the names be known, and the request under way go on."""
    gate.to_ask.clear()
    if allowed:
        gate.may("u1", read=["a", "n"], write=["a", "n"])
    peer.inquire()


def unasked(peer: Peer) -> list[str]:
    assert peer.inquiry is not None
    names = peer.inquiry.about.names  # type: ignore[union-attr]
    return sorted(names)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_subscribe_waits_and_is_judged_by_the_answer(rig: SessionRig, gate: RulesGate, allowed: bool) -> None:
    rig.push("a", "n")
    peer = opened(rig, "a")
    peer.receive(subscribe(1, "n"))
    peer.receive(Publish(2, "a", 1))
    assert unasked(peer) == ["n"]
    assert (peer.machine.busy, peer.submitted) == (True, []), "all behind it waits"
    assert list(peer.machine.lease.names) == ["a"]  # type: ignore[union-attr]
    answered(peer, gate, allowed=allowed)
    (answer,) = peer.serve()
    assert isinstance(answer, Subscribed)
    assert answer.denied == ([] if allowed else ["n"])
    assert [change.topic for change in answer.changes] == (["n"] if allowed else [])
    assert len(peer.submitted) == 1
    assert len(gate.denials) == (0 if allowed else 1)


def test_a_subscribe_about_which_nobody_can_tell_is_unavailable_and_not_denied(
    rig: SessionRig, gate: RulesGate
) -> None:
    peer = opened(rig, "a")
    peer.receive(subscribe(1, "n", "a"))
    peer.inquire(DOWN)
    error = only(peer.serve())
    assert isinstance(error, Error)
    assert (error.code, error.id, error.retry_ms) == ("unavailable", 1, 1_000)
    lease = peer.machine.held_lease()
    assert lease is not None
    assert list(lease.names) == [], "a failed subscribe leaves its names, as its client does (P-SUB-13)"
    assert gate.denials == []
    peer.ask(subscribe(2, "a"))
    assert kinds(peer.ask(renew(3, "a"))) == ["Renewed"]
    assert not rig.repairs


@pytest.mark.parametrize("allowed", [True, False])
def test_a_poll_waits(rig: SessionRig, gate: RulesGate, allowed: bool) -> None:
    rig.push("n")
    peer = opened(rig)
    peer.receive(Poll(1, topics={"n": 0, "a": 0}))
    assert unasked(peer) == ["n"]
    answered(peer, gate, allowed=allowed)
    answer = only(peer.serve())
    assert isinstance(answer, Polled)
    assert answer.denied == ([] if allowed else ["n"])


@pytest.mark.parametrize("message", [Poll(1, topics={"n": 0}), subscribe(1, "n"), subscribe(1, "n", *"bcdefg")])
def test_a_request_is_asked_about_so_often_and_no_more(
    rig: SessionRig, gate: RulesGate, message: ClientMessage
) -> None:
    """Answers may be forgotten, or end, while others are asked for; names of many portions are judged in turns."""
    peer = opened(rig)
    peer.machine.names_per_turn = 2
    for _ in range(2):
        peer.receive(message)
        for _ in range(QUESTIONS_MAX):
            assert peer.serve() == []
            peer.inquire()
        (error,) = peer.serve()
        assert isinstance(error, Error)
        assert (error.code, error.retry_ms) == ("overloaded", 1_000)
        assert not peer.machine.busy


def test_a_publish_waits_and_those_behind_it(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig)
    for number, topic in enumerate(("n", "a")):
        peer.receive(Publish(number, topic, 1))
    assert unasked(peer) == ["n"]
    assert peer.submitted == []
    answered(peer, gate, allowed=True)
    assert [message.topic for message in peer.submitted] == ["n", "a"]  # type: ignore[attr-defined]


def test_a_publish_that_is_not_allowed_is_denied_and_one_of_which_nobody_can_tell_is_refused_with_all_behind(
    rig: SessionRig, gate: RulesGate
) -> None:
    peer = opened(rig)
    peer.receive(Publish(1, "n", 1))
    inquiry = peer.inquiry
    assert inquiry is not None
    effects = peer.machine.inquired(inquiry.ticket, DOWN, rig.now)
    assert effects == [Submit(Publish(1, "n", 1), refused=DOWN)]
    peer.inquiry = None
    peer.receive(Publish(2, "n", 1))
    answered(peer, gate, allowed=False)
    assert kinds(peer.serve()) == ["denied"]


def test_a_name_that_a_rule_allowed_and_that_has_to_be_asked_about_now_ends_the_lease_and_is_not_denied(
    rig: SessionRig, gate: RulesGate
) -> None:
    """Its client asks for all of its names again at once, without a repair."""
    to_ask, gate.to_ask = gate.to_ask, set()
    gate.may("u1", read=["a", "n"])
    by_renewal, by_judging, by_subscribe = (opened(rig, "a", "n") for _ in range(3))
    gate.to_ask = to_ask
    gate.may("u1", read=["a"])
    by_judging.carry_out(by_judging.machine.rules_changed(rig.now))
    for said in (by_renewal.ask(renew(1, "a", "n")), by_judging.take()):
        revoked = only(said)
        assert isinstance(revoked, Revoked)
        assert revoked.reason == "expired"
    assert by_renewal.machine.state is State.LAPSED
    assert kinds(by_subscribe.ask(subscribe(2, "a", replace=True))) == ["Revoked", "Subscribed"]
    assert not rig.repairs
    by_renewal.receive(subscribe(2, "a", "n", replace=True))
    answered(by_renewal, gate, allowed=True)
    assert kinds(by_renewal.serve()) == ["Subscribed"]


def test_a_name_that_was_allowed_and_is_not_any_more_is_taken_away_as_others(rig: SessionRig, gate: RulesGate) -> None:
    gate.to_ask.clear()
    gate.may("u1", read=["a", "n"])
    peer = opened(rig, "a", "n")
    gate.may("u1", read=["a"])
    peer.carry_out(peer.machine.rules_changed(rig.now))
    assert only(peer.take()) == DeniedNames(["n"])


def test_a_lease_may_end_while_a_subscribe_is_asked_about(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a")
    peer.receive(subscribe(1, "n"))
    inquiry = peer.inquiry
    assert inquiry is not None
    peer.revoked("overloaded")
    assert kinds(peer.serve()) == ["Revoked"]
    assert peer.machine.inquired(inquiry.ticket, None, rig.now) == []
    assert not peer.machine.busy


def test_a_subscribe_behind_hello_is_asked_about_behind_the_welcome(rig: SessionRig, gate: RulesGate) -> None:
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    peer.receive(subscribe(1, "n", replace=True))
    assert kinds(peer.serve()) == ["Welcome"]
    answered(peer, gate, allowed=True)
    assert kinds(peer.serve()) == ["Subscribed"]


def test_a_session_with_a_name_that_has_to_be_asked_about_is_not_resumed(rig: SessionRig, gate: RulesGate) -> None:
    to_ask, gate.to_ask = gate.to_ask, set()
    gate.may("u1", read=["a", "n"])
    peer = opened(rig, "a", "n")
    lease = peer.machine.held_lease()
    assert lease is not None
    peer.machine.disconnected()
    gate.to_ask = to_ask
    gate.may("u1", read=["a"])
    again = rig.connect()
    welcome = only(again.ask(Hello(rig.position(), session=lease.token, since=1, token="token")))
    assert isinstance(welcome, Welcome)
    assert welcome.resumed is False
