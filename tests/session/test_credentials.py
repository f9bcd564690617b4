"""Credentials of a session: until they end, and new ones in their place; whose session it is (P-AUTH-1, 3, 6, 7)."""

import math
from collections.abc import Callable

import pytest

from softstate.auth.answers import Unasked
from softstate.auth.identity import Identity
from softstate.auth.lasting import CREDENTIALS_S_MIN
from softstate.auth.presented import Presented
from softstate.errors import Overloaded, RequestError, Unauthenticated, Unavailable
from softstate.session.state import State
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import (
    Auth,
    Authenticated,
    Error,
    Hello,
    Poll,
    Publish,
    Reason,
    Renew,
    Renewed,
    Revoked,
    Subscribe,
    Welcome,
)
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import TTL_S, SessionRig, kinds, only, opened, renew, subscribe

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
    """S15: a bad token is refused, although a peer without a token may read."""
    gate.may("", read=["/"])
    assert kinds(rig.connect().ask(Hello())) == ["Welcome"]
    assert kinds(rig.connect().ask(Hello(token="bad"))) == ["unauthenticated"]


def test_a_handshake_may_present_the_token_but_not_another_than_hello(rig: SessionRig) -> None:
    for in_hello, expected in ((None, "Welcome"), ("token", "Welcome"), ("other", "unauthenticated")):
        peer = rig.connect()
        peer.machine.presented = Presented("token")
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


@pytest.mark.parametrize("resuming", [False, True])
def test_credentials_that_came_before_the_end_of_the_lease_was_told_are_not_denied(
    rig: SessionRig, gate: RulesGate, resuming: bool
) -> None:
    gate.issue("token2", "u1")
    peer = opened(rig, "a")
    if resuming:
        lease, peer = peer.machine.lease, rig.connect()
        assert lease is not None
        hello = Hello(token="token2", session=lease.token, since=rig.position().revision, position=rig.position())
        peer.receive(hello)
        lease.identity = gate.identify("token", rig.now)  # its names are still being judged
        rig.forget_lease(peer)
        peer.carry_out(peer.machine.revoked("denied", 0))
        assert kinds(peer.serve()) == ["Welcome"]
    else:
        rig.forget_lease(peer)
        assert kinds(peer.ask(Auth(1, "token2"))) == ["Authenticated"]
        peer.carry_out(peer.machine.revoked("denied", 0))
        (revoked,) = peer.take()
        assert isinstance(revoked, Revoked)
        assert revoked.reason == "expired"
    assert kinds(peer.ask(subscribe(2, "a", replace=True))) == ["Subscribed"]
    assert not peer.machine.denied


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


# Credentials about which somebody has to be asked --------------------------------------------------------------------


def test_a_hello_waits_until_its_token_was_asked_about(rig: SessionRig, gate: RulesGate) -> None:
    """P-AUTH-12: and with it all that comes behind it, in order."""
    gate.unasked["token"] = []
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    peer.receive(subscribe(1, "a"))
    assert peer.inquiry is not None
    assert isinstance(peer.inquiry.about, Unasked)
    assert peer.inquiry.about.token == "token"
    assert "token" not in repr(peer.inquiry)
    assert (peer.machine.state, peer.machine.busy, peer.reading) == (State.NEW, True, None)
    rig.now += 2
    del gate.unasked["token"]
    peer.inquire()
    assert kinds(peer.serve()) == ["Welcome", "Subscribed"]
    assert peer.machine.identity.subject == "u1"


def test_a_hello_whose_token_is_not_good_as_it_turns_out_is_refused(rig: SessionRig, gate: RulesGate) -> None:
    gate.unasked["bad"] = []
    peer = rig.connect()
    peer.receive(Hello(token="bad"))
    del gate.unasked["bad"]
    peer.inquire()
    assert kinds(peer.serve()) == ["unauthenticated"]
    assert peer.machine.state is State.ENDED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("the callout is down", retry_ms=1_000), CloseCode.UNAVAILABLE),
        (Overloaded("too many wait", retry_ms=1_000), CloseCode.OVERLOADED),
    ],
)
def test_a_hello_of_which_nobody_can_tell_is_refused_for_now(
    rig: SessionRig, gate: RulesGate, error: RequestError, code: CloseCode
) -> None:
    """Not as `unauthenticated`: its client would throw its token away."""
    gate.unasked["token"] = []
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    peer.inquire(error)
    (said,) = peer.serve()
    assert isinstance(said, Error)
    assert (said.code, said.retry_ms) == (error.code, 1_000)
    assert peer.closed is not None
    assert peer.closed.code is code
    assert not len(rig.table)


def test_new_credentials_wait_until_they_were_asked_about(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig)
    gate.issue("new", "u1")
    gate.unasked["new"] = []
    peer.receive(Auth("c", "new"))
    peer.receive(renew(1, "a"))
    assert peer.machine.state is State.OPEN
    assert peer.reading is None, "the renewal comes behind it"
    del gate.unasked["new"]
    peer.inquire()
    assert kinds(peer.serve()) == ["Authenticated", "Renewed"]


def test_new_credentials_of_which_nobody_can_tell_leave_the_old_ones(rig: SessionRig, gate: RulesGate) -> None:
    peer = opened(rig)
    gate.unasked["new"] = []
    peer.receive(Auth("c", "new"))
    peer.inquire(Unavailable("the callout is down", retry_ms=1_000))
    (said,) = peer.serve()
    assert isinstance(said, Error)
    assert (said.code, said.id) == ("unavailable", "c")
    assert kinds(peer.ask(renew(1, "a"))) == ["Renewed"]


@pytest.mark.parametrize("reason", ["expired", "overloaded", "denied"])
def test_a_lease_may_end_while_new_credentials_are_asked_about(
    rig: SessionRig, gate: RulesGate, reason: Reason
) -> None:
    peer = opened(rig)
    gate.issue("new", "u1")
    gate.unasked["new"] = []
    peer.receive(Auth("c", "new"))
    peer.revoked(reason)
    del gate.unasked["new"]
    peer.inquire()
    assert kinds(peer.serve()) == ["Revoked", "Authenticated"]


def test_an_answer_about_a_token_that_nobody_waits_for_any_more_says_nothing(rig: SessionRig, gate: RulesGate) -> None:
    gate.unasked["token"] = []
    peer = rig.connect()
    peer.receive(Hello(token="token"))
    inquiry = peer.inquiry
    assert inquiry is not None
    peer.machine.disconnected()
    assert peer.machine.inquired(inquiry.ticket, None, rig.now) == []
    assert peer.machine.inquired(inquiry.ticket, Unavailable("down"), rig.now) == []


def test_a_session_of_which_nobody_can_tell_any_more_is_unavailable_and_keeps_what_it_presents(
    rig: SessionRig, gate: RulesGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = opened(rig)

    def again(_identity: object, _now: float, _peer: str = "") -> Identity:
        raise Unavailable("the callout has not answered for too long", retry_ms=1_000)

    monkeypatch.setattr(gate, "again", again)
    gate.generation += 1
    peer.revoked("overloaded")
    peer.take()
    for request in (renew(1, "a"), subscribe(1, "a", replace=True), Poll("p", topics={"a": 0}), Publish("q", "a", 1)):
        assert kinds(peer.ask(request)) == ["unavailable"]
    assert peer.closed is None
    monkeypatch.undo()
    assert kinds(peer.ask(subscribe(1, "a", replace=True))) == ["Subscribed"]


def test_a_read_that_is_under_way_when_nobody_can_tell_any_more_is_unavailable(
    rig: SessionRig, gate: RulesGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(_identity: object, _now: float, _peer: str = "") -> Identity:
        raise Unavailable("the callout has not answered for too long", retry_ms=1_000)

    for request in (subscribe(1, "a"), Poll("p", topics={"a": 0})):
        peer = opened(rig)
        peer.receive(request)
        with monkeypatch.context() as patch:
            patch.setattr(gate, "again", again)
            gate.generation += 1
            assert "unavailable" in kinds(peer.serve())
