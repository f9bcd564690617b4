"""Rights to read and to publish, until credentials end: judged on receipt, and again when rules change (P-AUTH)."""

import math
from collections.abc import Callable, Sequence

import pytest

from softstate.auth.identity import WILD_PER_NAME
from softstate.auth.lasting import CREDENTIALS_S_MIN
from softstate.auth.narrowing import NARROWED_MAX
from softstate.errors import Unauthenticated
from softstate.session import Submit
from softstate.session.permission import DENIED_PER_MESSAGE
from softstate.session.request import in_portions
from softstate.session.state import State
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import (
    Auth,
    Authenticated,
    DeniedNames,
    Error,
    Hello,
    Message,
    Notify,
    Poll,
    Polled,
    Publish,
    Renew,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Welcome,
)
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import TTL_S, Peer, SessionRig, kinds, renew, subscribe


@pytest.fixture
def gate() -> RulesGate:
    gate = RulesGate()
    gate.may("u1", read=["a", "b/", "c/d"], write=["a", "w"])
    gate.issue("token", "u1")
    return gate


@pytest.fixture
def rig(gate: RulesGate) -> SessionRig:
    rig = SessionRig(names_max=100)
    rig.gate = gate
    return rig


def opened(rig: SessionRig, *names: str, token: str = "token") -> Peer:
    peer = rig.connect()
    peer.ask(Hello(token=token))
    if names:
        peer.ask(subscribe(0, *names))
    return peer


def only(messages: Sequence[Message]) -> Message:
    (message,) = messages
    return message


# Credentials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "why"), [(None, "missing"), ("bad", "signature"), ("old", "expired")])
def test_a_hello_without_good_credentials_ends_the_connection(
    rig: SessionRig, gate: RulesGate, token: str | None, why: str
) -> None:
    gate.issue("old", "u1", rig.now - 1)
    peer = rig.connect()
    error = only(peer.ask(Hello(token=token)))
    assert isinstance(error, Error)
    assert (error.code, error.why) == ("unauthenticated", why)
    assert peer.closed is not None
    assert peer.closed.code is CloseCode.UNAUTHENTICATED
    assert not len(rig.table)


def test_credentials_that_are_not_good_never_make_anybody_anonymous(rig: SessionRig, gate: RulesGate) -> None:
    """S15: what was presented decides, though who presents nothing may read."""
    gate.may("", read=["/"])
    assert kinds(rig.connect().ask(Hello())) == ["Welcome"]
    assert kinds(rig.connect().ask(Hello(token="bad"))) == ["unauthenticated"]


def test_a_handshake_may_present_the_token_but_not_another_than_hello(rig: SessionRig) -> None:
    for in_hello, expected in ((None, "Welcome"), ("token", "Welcome"), ("other", "unauthenticated")):
        peer = rig.connect()
        peer.machine.presented = "token"
        assert kinds(peer.ask(Hello(token=in_hello))) == [expected]


def test_credentials_within_their_last_second_count_as_over(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("brief", "u1", rig.now + CREDENTIALS_S_MIN - 0.001)
    gate.issue("just", "u1", rig.now + CREDENTIALS_S_MIN)
    assert kinds(rig.connect().ask(Hello(token="brief"))) == ["unauthenticated"]
    assert kinds(rig.connect().ask(Hello(token="just"))) == ["Welcome"]


def test_the_welcome_tells_how_long_credentials_are_good_from_the_arrival_of_hello(
    rig: SessionRig, gate: RulesGate
) -> None:
    gate.issue("token", "u1", rig.now + 1_000.0005)
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    rig.now += 3
    (welcome,) = peer.serve()
    assert isinstance(welcome, Welcome)
    assert (welcome.credentials_ms, welcome.subject) == (1_000_000, "u1")


def test_credentials_without_an_end_have_no_time(rig: SessionRig) -> None:
    (welcome,) = rig.connect().ask(Hello(token="token"))
    assert isinstance(welcome, Welcome)
    assert (welcome.credentials_ms, welcome.subject) == (None, "u1")


def test_a_node_that_checks_none_tells_nothing() -> None:
    (welcome,) = SessionRig().connect().ask(Hello(token="whatever"))
    assert isinstance(welcome, Welcome)
    assert (welcome.credentials_ms, welcome.subject) == (None, None)


@pytest.mark.parametrize("ask", [lambda: renew(1, "a"), lambda: subscribe(1, "a")], ids=["renew", "subscribe"])
def test_no_lease_is_extended_beyond_an_end_that_the_rules_have_brought_nearer(
    rig: SessionRig, gate: RulesGate, ask: Callable[[], Renew | Subscribe]
) -> None:
    peer = opened(rig, "a")
    lease = peer.machine.lease
    assert lease is not None
    before = lease.deadline
    rig.now += 2
    gate.issue("token", "u1", rig.now + 3)
    gate.generation += 1
    peer.ask(ask())
    assert lease.deadline == max(before, rig.now + 3)


def test_a_resumed_lease_is_not_extended_beyond_the_credentials_that_resume_it(
    rig: SessionRig, gate: RulesGate
) -> None:
    gate.issue("brief", "u1", rig.now + 7)
    rig.push("a")
    first = opened(rig, "a")
    lease = first.machine.lease
    assert lease is not None
    before = lease.deadline
    rig.now += 2
    (welcome, *_) = rig.connect().ask(Hello(rig.position(), lease.token, rig.hub, token="brief"))
    assert isinstance(welcome, Welcome)
    assert welcome.resumed
    assert lease.deadline == max(before, rig.now + 5)


@pytest.mark.parametrize("message", [subscribe(1, "a"), Poll(1, topics={"a": 0})], ids=["subscribe", "poll"])
def test_behind_the_end_of_credentials_nothing_is_answered(
    rig: SessionRig, gate: RulesGate, message: Subscribe | Poll
) -> None:
    """The read may take long, and the sweep finds the lease up to a second late."""
    gate.issue("token", "u1", rig.now + 2)
    peer = opened(rig)
    peer.receive(message)
    rig.now += 2
    error = only(peer.serve())
    assert isinstance(error, Error)
    assert (error.code, error.id) == ("unauthenticated", 1)
    assert peer.machine.state is State.LAPSED


def test_no_lease_goes_beyond_the_credentials(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("token", "u1", rig.now + 4)
    peer = rig.connect()
    (welcome,) = peer.ask(Hello(token="token"))
    assert isinstance(welcome, Welcome)
    lease = peer.machine.lease
    assert lease is not None
    assert (welcome.ttl_ms, lease.deadline) == (4_000, rig.now + 4)
    rig.now += 2
    renewed = only(peer.ask(renew(1)))
    assert isinstance(renewed, Renewed)
    assert (renewed.ttl_ms, renewed.credentials_ms, lease.deadline) == (2_000, 2_000, rig.now + 2)
    peer.ask(subscribe(2, "a"))
    assert lease.deadline == rig.now + 2
    rig.now += 2.001
    rig.push("a")
    assert peer.take() == []


@pytest.mark.parametrize(
    "request_",
    [renew(1, "a"), subscribe(1, "a"), Poll(1, topics={"a": 0}), Publish(1, "a", 1)],
    ids=lambda message: type(message).__name__,
)
def test_any_request_finds_credentials_that_are_over_and_ends_the_lease(
    rig: SessionRig, gate: RulesGate, request_: object
) -> None:
    peer = opened(rig, "a")
    gate.revoke("token")
    error = only(peer.ask(request_))  # type: ignore[arg-type]
    assert isinstance(error, Error)
    assert (error.id, error.code) == (1, "unauthenticated")
    assert peer.machine.state is State.LAPSED
    rig.push("a")
    assert peer.take() == []
    assert not peer.submitted


def test_what_is_pending_goes_with_the_lease(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a")
    peer.stalled = True
    rig.push("a")
    gate.revoke("token")
    peer.ask(renew(1, "a"))
    peer.stalled = False
    peer.flush()
    assert kinds(peer.take()) == ["unauthenticated"]


# Names ---------------------------------------------------------------------------------------------------------------


def test_a_name_is_refused_unless_one_pattern_covers_all_of_it(rig: SessionRig) -> None:
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


def test_a_publish_needs_its_own_right_and_learns_of_others_only_what_it_may_read(rig: SessionRig) -> None:
    peer = opened(rig)
    answers = peer.ask(Publish(1, "a", 1), Publish(2, "w", 1), Publish(3, "b/x", 1), Publish(4, "a//", 1))
    assert [(answer.id, answer.code) for answer in answers if isinstance(answer, Error)] == [
        (3, "denied"),
        (4, "invalid"),
    ]
    assert [message.id for message in peer.submitted if isinstance(message, Publish)] == [1, 2]
    effects = peer.machine.received(Publish(5, "w", 1), rig.now)
    assert effects == [Submit(Publish(5, "w", 1), reads=False)]


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


# New credentials in place --------------------------------------------------------------------------------------------


def test_new_credentials_of_the_same_subject_take_the_place_of_the_old(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("token", "u1", rig.now + 5)
    peer = opened(rig, "a")
    gate.issue("token2", "u1", rig.now + 100)
    assert peer.ask(Auth(1, "token2")) == [Authenticated(1, 100_000, "u1")]
    rig.now += 4.5
    renewed = only(peer.ask(renew(2, "a")))
    assert isinstance(renewed, Renewed)
    assert (renewed.match, renewed.ttl_ms, renewed.credentials_ms) == (True, round(TTL_S * 1000), 95_500)
    rig.now += 6
    rig.push("a")
    assert kinds(peer.take()) == ["Notify"]
    assert not rig.repairs


def test_new_credentials_that_end_sooner_do_not_end_the_lease_before_its_client_expects_it(
    rig: SessionRig, gate: RulesGate
) -> None:
    """S6: the client learns of it with the answer, which may be lost; the old ones are good until then."""
    peer = opened(rig, "a")
    lease = peer.machine.lease
    assert lease is not None
    before = lease.deadline
    gate.issue("token2", "u1", rig.now + 2)
    peer.ask(Auth(1, "token2"))
    assert lease.deadline == before
    renewed = only(peer.ask(renew(2, "a")))
    assert isinstance(renewed, Renewed)
    assert renewed.ttl_ms == 2_000


@pytest.mark.parametrize(("token", "why"), [("bad", "signature"), ("u2", "subject_changed"), ("brief", "expired")])
def test_new_credentials_that_are_not_good_do_no_harm_to_the_old(
    rig: SessionRig, gate: RulesGate, token: str, why: str
) -> None:
    """S16: nor does a session change hands."""
    gate.may("u2", read=["/"])
    gate.issue("u2", "u2")
    gate.issue("brief", "u1", rig.now + 0.5)
    peer = opened(rig, "a")
    error = only(peer.ask(Auth(1, token)))
    assert isinstance(error, Error)
    assert (error.id, error.code, error.why) == (1, "unauthenticated", why)
    rig.push("a")
    assert kinds(peer.take()) == ["Notify"]
    assert kinds(peer.ask(renew(2, "a"))) == ["Renewed"]
    assert not rig.repairs


def test_new_credentials_after_the_lease_has_ended_allow_another(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig, "a")
    peer.carry_out(peer.machine.revoked("denied"))
    assert peer.take() == [Revoked("denied", None, 700)]
    assert kinds(peer.ask(subscribe(1, "a", replace=True))) == ["denied"]
    gate.issue("token2", "u1")
    assert kinds(peer.ask(Auth(2, "token2"), subscribe(3, "a", replace=True))) == ["Authenticated", "Subscribed"]
    rig.push("a")
    assert kinds(peer.take()) == ["Notify"]


def test_new_credentials_ahead_of_the_welcome_are_invalid(rig: SessionRig) -> None:
    peer = rig.connect()
    error = only(peer.receive(Hello(token="token"), Auth(1, "token")))
    welcome = only(peer.serve())
    assert isinstance(error, Error)
    assert (error.id, error.code) == (1, "invalid")
    assert isinstance(welcome, Welcome)
    first = rig.connect()
    assert kinds(first.ask(Auth(1, "token"))) == ["invalid"]
    assert first.closed is not None


# Resuming ------------------------------------------------------------------------------------------------------------


def test_only_the_principal_that_opened_a_session_resumes_it(rig: SessionRig, gate: RulesGate) -> None:
    """S16: the session's token alone is worth nothing."""
    gate.may("u2", read=["/"])
    gate.issue("u2", "u2")
    gate.issue("token2", "u1")
    rig.push("a")
    opened(rig, "a").lose()
    since, position = rig.hub, rig.position()
    rig.push("a")
    (stolen,) = rig.connect().ask(Hello(position, "t1", since, token="u2"))
    assert isinstance(stolen, Welcome)
    assert not stolen.resumed
    resumed = rig.connect().ask(Hello(position, "t1", since, token="token2"))
    assert kinds(resumed) == ["Welcome", "Notify"]
    assert isinstance(resumed[0], Welcome)
    assert resumed[0].resumed


def test_a_resumed_lease_ends_with_the_new_credentials(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("token", "u1", rig.now + 3)
    rig.push("a")
    opened(rig, "a").lose()
    gate.issue("token2", "u1", rig.now + 100)
    peer = rig.connect()
    peer.ask(Hello(rig.position(), "t1", rig.hub, token="token2"))
    lease = peer.machine.lease
    assert lease is not None
    assert (lease.until, lease.deadline) == (rig.now + 100, rig.now + TTL_S * 1.1)


def test_a_session_some_of_whose_names_may_not_be_read_any_more_is_not_resumed(
    rig: SessionRig, gate: RulesGate
) -> None:
    rig.push("a", "b/x")
    opened(rig, "a", "b/").lose()
    gate.may("u1", read=["a"])
    peer = rig.connect()
    (welcome,) = peer.ask(Hello(rig.position(), "t1", rig.hub, token="token"))
    assert isinstance(welcome, Welcome)
    assert not welcome.resumed
    assert rig.table.get("t1") is None
    assert not rig.repairs


def test_a_session_is_not_resumed_if_rules_change_while_it_is_read(rig: SessionRig, gate: RulesGate) -> None:
    rig.push("a", "b/x")
    opened(rig, "a", "b/").lose()
    position, since = rig.position(), rig.hub
    rig.push("b/y")
    peer = rig.connect()
    peer.receive(Hello(position, "t1", since, token="token"))
    peer.begin()
    gate.may("u1", read=["a"])
    peer.deliver()
    (welcome,) = peer.serve()
    assert isinstance(welcome, Welcome)
    assert not welcome.resumed


def test_credentials_have_a_longest_time_that_is_told(rig: SessionRig, gate: RulesGate) -> None:
    gate.issue("token", "u1", rig.now + 1e9)
    (welcome,) = rig.connect().ask(Hello(token="token"))
    assert isinstance(welcome, Welcome)
    assert welcome.credentials_ms == 7 * 24 * 3_600_000


def test_the_gate_refuses_what_the_session_asks_of_nobody(rig: SessionRig) -> None:
    peer = rig.connect()
    with pytest.raises(Unauthenticated):
        peer.machine.credentials(rig.now)
    assert math.isinf(peer.machine.identity.until)
