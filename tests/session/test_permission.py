"""Rights to read and to publish, until credentials end: judged on receipt, and again when rules change (P-AUTH)."""

import pytest

from softstate.auth.identity import WILD_PER_NAME, Identity
from softstate.auth.narrowing import NARROWED_MAX
from softstate.errors import Unavailable
from softstate.session import Submit
from softstate.session.permission import DENIED_PER_MESSAGE
from softstate.session.request import in_portions
from softstate.session.state import State
from softstate.wire.messages import (
    Auth,
    DeniedNames,
    Error,
    Hello,
    Message,
    Notify,
    Poll,
    Polled,
    Publish,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Welcome,
)
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import Peer, SessionRig, kinds, only, opened, renew, subscribe

# Names ---------------------------------------------------------------------------------------------------------------


def test_a_name_is_refused_unless_one_pattern_covers_all_of_it(rig: SessionRig, gate: RulesGate) -> None:
    rig.push("a", "b/x", "c/d", "c/e")
    peer = opened(rig)
    answer = only(peer.ask(subscribe(1, "a", "b/", "c/", "x")))
    assert isinstance(answer, Subscribed)
    assert sorted(answer.denied) == ["c/", "x"]
    assert answer.narrow == {"c/": ["c/d"]}
    assert [change.topic for change in answer.changes] == ["a", "b/x"]
    assert answer.count == 2
    rig.push("c/d", "x", "b/y")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["b/y"]
    assert not rig.repairs
    assert [(action, sorted(names)) for _, action, names in gate.denials] == [("read", ["c/", "x"])]


def test_a_denied_topic_is_the_same_whether_it_exists(rig: SessionRig) -> None:
    first = opened(rig).ask(subscribe(1, "x"))
    rig.push("x")
    (second,) = opened(rig).ask(subscribe(1, "x"))
    assert isinstance(second, Subscribed)
    assert isinstance(first[0], Subscribed)
    assert (second.changes, second.denied) == (first[0].changes, first[0].denied) == ([], ["x"])


def test_both_sides_agree_on_a_replaced_set_without_the_denied_names(rig: SessionRig) -> None:
    peer = opened(rig)
    peer.ask(Subscribe(1, {"a": 0, "x": 0}, {}, replace=True))
    assert peer.machine.vouches(rig.position(), rig.now)
    renewed = only(peer.ask(renew(2, "a")))
    assert isinstance(renewed, Renewed)
    assert renewed.match


def test_a_poll_answers_for_what_may_be_read(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("token", "u1", rig.now + 60)
    rig.push("a", "x")
    polled = only(opened(rig).ask(Poll(1, topics={"a": 0, "x": 0}, prefixes={"/": 0})))
    assert isinstance(polled, Polled)
    assert [change.topic for change in polled.changes] == ["a"]
    assert sorted(polled.denied) == ["/", "x"]
    assert polled.narrow == {"/": ["a", "b/", "c/d"]}
    assert polled.credentials_ms == 60_000


def test_a_publish_needs_its_own_right_and_learns_of_others_only_what_it_may_read(
    rig: SessionRig, gate: RulesGate
) -> None:
    peer = opened(rig)
    answers = peer.ask(Publish(1, "a", 1), Publish(2, "w", 1), Publish(3, "b/x", 1), Publish(4, "a//", 1))
    assert [(answer.id, answer.code) for answer in answers if isinstance(answer, Error)] == [
        (3, "denied"),
        (4, "invalid"),
    ]
    assert [message.id for message in peer.submitted if isinstance(message, Publish)] == [1, 2]
    effects = peer.machine.received(Publish(5, "w", 1), rig.now)
    assert effects == [Submit(Publish(5, "w", 1), reads=False)]
    assert [(action, names) for _, action, names in gate.denials] == [("write", ["b/x"])]


def test_few_denied_prefixes_of_many_are_narrowed(rig: SessionRig, gate: RulesGate) -> None:
    names = [f"p{number}/" for number in range(NARROWED_MAX + 5)]
    gate.may("u1", read=[f"{name}x" for name in names])
    answer = only(opened(rig).ask(subscribe(1, *names)))
    assert isinstance(answer, Subscribed)
    assert len(answer.denied) == len(names)
    assert len(answer.narrow) == NARROWED_MAX


def test_few_prefixes_of_many_that_are_taken_away_are_narrowed(gate: RulesGate) -> None:
    rig = SessionRig(names_max=2 * DENIED_PER_MESSAGE)
    rig.gate = gate
    names = [f"p{number}/" for number in range(2 * DENIED_PER_MESSAGE)]
    gate.may("u1", read=["/"])
    peer = opened(rig, *names)
    gate.may("u1", read=[f"{name}x" for name in names])
    told = [message for message in peer.ask(renew(1, *names)) if isinstance(message, DeniedNames)]
    assert [len(message.names) for message in told] == [DENIED_PER_MESSAGE] * 2
    assert sum(len(message.narrow) for message in told) == NARROWED_MAX


def test_the_widest_prefix_does_not_tell_what_only_its_own_name_covers(rig: SessionRig, gate: RulesGate) -> None:
    """S13: the pattern ``/`` does not cover it, so neither may a lease of the prefix."""
    gate.may("u1", read=["/", "$b/"])
    peer = opened(rig, "/")
    rig.push("$a/x", "$softstate/x", "$b/x", "a")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["a"]
    peer.ask(subscribe(1, "$b/"))
    rig.push("$a/x", "$b/x", "a")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["$b/x", "a"]


def test_names_that_are_dear_to_judge_are_judged_in_smaller_portions(rig: SessionRig, gate: RulesGate) -> None:
    """256 names took 11 ms with 64 patterns that have a wildcard."""
    wild = [f"r/*/k/*/p{number}" for number in range(8 * WILD_PER_NAME)]
    gate.may("u1", read=["/"])
    peer = opened(rig)
    portions = list(in_portions([f"n{number}" for number in range(100)], 64, lambda _names: None, 9))
    assert portions == [63] * 14 + [18]
    gate.may("u1", read=wild)
    answer = only(peer.ask(subscribe(1, *[f"r/{number}/k/x/p1" for number in range(50)], "no")))
    assert isinstance(answer, Subscribed)
    assert answer.denied == ["no"]


# Rules that change ---------------------------------------------------------------------------------------------------


def test_a_renewal_takes_out_what_may_not_be_read_any_more_and_tells_it_first(rig: SessionRig, gate: RulesGate) -> None:
    """S12, S17: within one renewal, and no repair is counted."""
    peer = opened(rig, "a", "b/")
    gate.may("u1", read=["a", "b/c"])
    rig.push("b/x")  # known to the node, but the client has not renewed
    assert kinds(peer.take()) == ["Notify"]
    denied, renewed = peer.ask(renew(1, "a", "b/"))
    assert denied == DeniedNames(["b/"], {"b/": ["b/c"]})
    assert isinstance(renewed, Renewed)
    assert not renewed.match
    rig.push("b/x", "a")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["a"]
    (renewed,) = peer.ask(renew(2, "a"))
    assert isinstance(renewed, Renewed)
    assert renewed.match
    assert not rig.repairs


def test_beats_go_on_over_the_set_without_the_denied_names(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig)
    peer.ask(Subscribe(1, {"a": 0}, {"b/": 0}, replace=True))
    gate.may("u1", read=["a"])
    gate.issue("token2", "u1")
    assert kinds(peer.ask(Auth(2, "token2"))) == ["DeniedNames", "Authenticated"]
    assert peer.machine.vouches(rig.position(), rig.now)


def test_what_is_pending_of_denied_names_is_dropped_and_the_rest_stays(rig: SessionRig, gate: RulesGate) -> None:
    """Rule 14 of beats: ahead of everything unsent, since that would be false without the dropped pushes."""
    peer = opened(rig, "a", "b/")
    peer.stalled = True
    rig.push("b/x", "a")
    gate.may("u1", read=["a"])
    gate.issue("token2", "u1")
    peer.ask(Auth(1, "token2"))
    assert peer.sent == 1
    peer.stalled = False
    peer.flush()
    assert kinds(peer.take()) == ["DeniedNames", "Notify", "Authenticated"]


def changed(rig: SessionRig, peer: Peer) -> list[Message]:
    """Have a session judged by the rules that have changed; return what its client is told."""
    before = peer.machine.outdated
    peer.carry_out(peer.machine.rules_changed(rig.now))
    told = peer.serve()
    assert (before, peer.machine.outdated) == (True, False)
    return told


def test_a_session_is_told_what_it_has_lost_without_a_request(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a", "b/")
    assert not peer.machine.outdated
    gate.may("u1", read=["a", "b/c"])
    assert changed(rig, peer) == [DeniedNames(["b/"], {"b/": ["b/c"]})]
    rig.push("b/x", "a")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["a"]
    (first,) = peer.ask(renew(1, "a", "b/"))  # sent before it was told
    (second,) = peer.ask(renew(2, "a"))
    assert isinstance(first, Renewed)
    assert isinstance(second, Renewed)
    assert (first.match, second.match) == (False, True)
    assert not rig.repairs


def test_a_session_that_keeps_all_is_told_nothing_and_its_next_renewal_judges_nothing(
    rig: SessionRig, gate: RulesGate
) -> None:
    peer = opened(rig, "a", "b/")
    gate.may("u1", read=["a", "b/", "x"])
    assert changed(rig, peer) == []
    asked = gate.asked
    assert kinds(peer.ask(renew(1, "a", "b/"))) == ["Renewed"]
    assert gate.asked == asked


def test_many_names_are_judged_in_portions(gate: RulesGate) -> None:
    names = [f"b/{number}" for number in range(50)]
    rig = SessionRig(names_max=100, names_per_turn=16)
    rig.gate = gate
    peer = opened(rig, *names)
    gate.may("u1", read=["a"])
    peer.carry_out(peer.machine.rules_changed(rig.now))
    assert peer.turn is not None
    peer.receive(renew(1, *names))  # waits
    told = peer.serve()
    assert kinds(told) == ["DeniedNames", "Renewed"]
    assert not rig.repairs


def test_a_lease_whose_credentials_are_not_good_by_other_rules_is_revoked(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a")
    gate.issue("token2", "u1")
    gate.revoke("token")
    (revoked,) = changed(rig, peer)
    assert isinstance(revoked, Revoked)
    assert revoked.reason == "denied"
    assert (peer.machine.state, peer.machine.denied) == (State.LAPSED, True)
    assert kinds(peer.ask(Auth(1, "token2"))) == ["Authenticated"]
    assert kinds(peer.ask(Subscribe(2, {"a": 0}, replace=True))) == ["Subscribed"]


def test_a_lease_of_whose_credentials_nobody_can_tell_stays_as_it_is(
    rig: SessionRig, gate: RulesGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = opened(rig, "a")
    gate.may("u1", read=[])

    def unknown(_identity: object, _now: float, _peer: str = "") -> Identity:
        raise Unavailable("nobody can tell")

    monkeypatch.setattr(gate, "again", unknown)
    assert peer.machine.rules_changed(rig.now) == []
    assert peer.machine.outdated


def test_a_session_without_a_lease_is_not_judged(rig: SessionRig, gate: RulesGate) -> None:
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    gate.may("u1", read=[])
    assert not peer.machine.outdated
    peer.serve()
    lapsed = opened(rig, "a")
    lapsed.machine.revoked("slow_consumer")
    gate.may("u1", read=["a"])
    assert not lapsed.machine.outdated
    assert lapsed.machine.rules_changed(rig.now) == []


def test_rules_that_change_nothing_for_a_session_cost_it_nothing(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a")
    gate.may("somebody else", read=["/"])
    (renewed,) = peer.ask(renew(1, "a"))
    assert isinstance(renewed, Renewed)
    assert renewed.match
    asked = gate.asked
    peer.ask(renew(2, "a"))
    assert gate.asked == asked


def test_many_lost_names_are_told_in_several_messages(gate: RulesGate) -> None:
    names = [f"b/{number}" for number in range(DENIED_PER_MESSAGE + 1)]
    rig = SessionRig(names_max=1_000)
    rig.gate = gate
    peer = opened(rig, *names)
    gate.may("u1", read=["a"])
    *told, renewed = peer.ask(renew(1, *names))
    assert isinstance(renewed, Renewed)
    lost = [message.names for message in told if isinstance(message, DeniedNames)]
    assert len(lost) == 2
    assert sorted(name for each in lost for name in each) == sorted(names)


@pytest.mark.parametrize("replace", [True, False])
def test_names_are_judged_again_before_they_are_answered(rig: SessionRig, gate: RulesGate, replace: bool) -> None:
    rig.push("a", "b/x")
    peer = opened(rig, "c/d")
    peer.receive(Subscribe(1, {"a": 0}, {"b/": 0}, replace=replace))
    peer.begin()
    gate.may("u1", read=["a", "c/d"])
    rig.push("b/y")  # held back
    peer.deliver()
    *told, answer = peer.serve()
    assert told == [DeniedNames(["b/"])]
    assert isinstance(answer, Subscribed)
    assert answer.denied == ["b/"]
    assert [change.topic for change in answer.changes] == ["a"]
    assert answer.count == (1 if replace else 2)
    if replace:
        assert peer.machine.vouches(rig.position(), rig.now)
    rig.push("b/z", "a")
    assert [message.topic for message in peer.take() if isinstance(message, Notify)] == ["a"]
    assert not rig.repairs


def test_names_of_a_poll_are_judged_again_before_they_are_answered(rig: SessionRig, gate: RulesGate) -> None:
    rig.push("a", "b/x")
    peer = opened(rig)
    peer.receive(Poll(1, topics={"a": 0}, prefixes={"b/": 0}))
    peer.begin()
    gate.may("u1", read=["a"])
    peer.deliver()
    polled = only(peer.serve())
    assert isinstance(polled, Polled)
    assert polled.denied == ["b/"]
    assert [change.topic for change in polled.changes] == ["a"]


@pytest.mark.parametrize(
    "request_", [subscribe(1, "a"), Poll(1, topics={"a": 0})], ids=lambda message: type(message).__name__
)
def test_credentials_that_are_over_before_the_answer_end_the_lease(
    rig: SessionRig, gate: RulesGate, request_: Subscribe | Poll
) -> None:
    rig.push("a")
    peer = opened(rig, "c/d")
    peer.receive(request_)
    peer.begin()
    gate.revoke("token")
    peer.deliver()
    error = only(peer.serve())
    assert isinstance(error, Error)
    assert (error.id, error.code) == (1, "unauthenticated")
    assert peer.machine.state is State.LAPSED


def test_credentials_that_are_over_before_a_joined_answer_end_the_lease(rig: SessionRig, gate: RulesGate) -> None:
    peer = rig.connect()
    peer.receive(Hello(token="token"), subscribe(1, "a"))
    peer.begin()
    gate.revoke("token")
    peer.deliver()
    assert kinds(peer.serve()) == ["Welcome", "unauthenticated"]
    assert peer.machine.state is State.LAPSED


def test_a_joined_subscribe_is_judged(rig: SessionRig) -> None:
    rig.push("a", "x")
    peer = rig.connect()
    welcome, answer = peer.ask(Hello(token="token"), subscribe(1, "a", "x"))
    assert isinstance(welcome, Welcome)
    assert isinstance(answer, Subscribed)
    assert (answer.denied, [change.topic for change in answer.changes]) == (["x"], ["a"])
