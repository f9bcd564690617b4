"""Leases that end while the connection goes on: revoked during each request, denied, or simply forgotten (S11)."""

import pytest

from softstate.errors import Overloaded, Unavailable
from softstate.session import DropPending, State
from softstate.wire.messages import Hello, Notify, Poll, Polled, Publish, Reason, Renewed, Revoked, Subscribed
from tests.kit.session_rig import Peer, SessionRig, kinds, pushed, renew, subscribe


def revoke(peer: Peer, reason: Reason = "slow_consumer") -> None:
    peer.carry_out(peer.machine.revoked(reason, 5))


@pytest.mark.parametrize("reason", ["expired", "slow_consumer", "overloaded", "denied"])
def test_revoking_ends_the_lease_and_drops_what_rests_on_it(reason: Reason) -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.stalled = True
    rig.push("a")
    peer.ask(subscribe(1, "b"), renew(2, "a", "b"), Poll(3, topics={"a": 0}))
    revoke(peer, reason)
    peer.stalled = False
    peer.flush()
    polled, revoked = peer.take()
    assert isinstance(polled, Polled)
    assert revoked == Revoked(reason, 5, 700)
    assert peer.sent == 0
    assert rig.table.statistics().sessions == 0
    assert peer.machine.state is State.LAPSED
    assert peer.machine.gap_buffer is None
    assert rig.repairs == ({} if reason in ("expired", "denied") else {reason: 1})
    rig.push("a")
    assert peer.take() == []


@pytest.mark.parametrize("request_", ["subscribe", "renew"])
def test_a_request_that_rests_on_the_lease_goes_with_it(request_: str) -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.receive(subscribe(1, "b") if request_ == "subscribe" else renew(1, "a"))
    peer.begin()
    revoke(peer)
    assert not peer.machine.busy
    peer.deliver()
    assert kinds(peer.take()) == ["Revoked"]
    assert kinds(peer.ask(subscribe(2, "a", replace=True))) == ["Subscribed"]


def test_a_poll_goes_on_without_a_lease() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b")
    peer = rig.open_session("a")
    peer.receive(Poll(1, prefixes={"p/": 0}))
    revoke(peer)
    assert kinds(peer.serve()) == ["Revoked", "Polled", "Polled"]


@pytest.mark.parametrize("state", ["new", "greeting", "lapsed"])
def test_an_outbox_that_overflowed_without_a_lease_is_reset(state: str) -> None:
    """Until then it drops every push, also those of a later lease, which a `renewed` would certify."""
    rig = SessionRig()
    peer = rig.connect() if state != "lapsed" else rig.open_session()
    if state == "greeting":
        peer.receive(Hello())
    elif state == "lapsed":
        revoke(peer)
    assert peer.machine.revoked("slow_consumer", 5) == [DropPending()]


def test_revoking_twice_tells_once() -> None:
    peer = SessionRig().open_session("a")
    revoke(peer)
    revoke(peer, "expired")
    assert kinds(peer.take()) == ["Revoked"]


def test_after_denied_nothing_is_read_without_new_credentials() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    revoke(peer, "denied")
    peer.take()
    assert kinds(peer.ask(subscribe(1, "a"), Poll(2, topics={"a": 0}), renew(3, "a"))) == [
        "denied",
        "denied",
        "no_lease",
    ]
    assert peer.machine.state is State.LAPSED
    assert rig.table.statistics().sessions == 0


@pytest.mark.parametrize("greeting", [False, True])
def test_denied_counts_in_every_state(greeting: bool) -> None:
    rig = SessionRig()
    peer = rig.connect() if greeting else rig.open_session("a")
    if greeting:
        peer.receive(Hello())
    else:
        revoke(peer, "expired")
    revoke(peer, "denied")
    peer.serve()
    assert kinds(peer.ask(subscribe(1, "a"))) == ["denied"]


# Amnesia -------------------------------------------------------------------------------------------------------------


def test_a_forgotten_lease_is_not_renewed() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.forget_lease(peer)
    rig.push("a")
    assert kinds(peer.ask(renew(1, "a"))) == ["no_lease"]
    assert peer.machine.state is State.LAPSED


@pytest.mark.parametrize("error", [None, Unavailable("down"), Overloaded("crowd")])
def test_a_lease_forgotten_while_its_renewal_waits_is_not_renewed(error: Unavailable | Overloaded | None) -> None:
    """An empty set would match it: a client without names would be told that its lease lives."""
    rig = SessionRig()
    peer = rig.open_session()
    peer.receive(renew(1))
    peer.begin()
    rig.forget_lease(peer)
    if error is None:
        peer.deliver()
    else:
        peer.fail_read(error)
    assert kinds(peer.take()) == ["no_lease"]


def test_a_lease_forgotten_while_a_subscribe_waits_is_told() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.receive(subscribe(1, "b"))
    peer.begin()
    rig.forget_lease(peer)
    peer.deliver()
    assert kinds(peer.take()) == ["no_lease"]
    assert peer.machine.gap_buffer is None
    peer.receive(subscribe(2, "b", replace=True))
    rig.forget_lease(peer)
    peer.fail_read(Unavailable("down"))
    assert kinds(peer.take()) == ["unavailable"]


def test_a_subscribe_replaces_a_forgotten_lease() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.forget_lease(peer)
    rig.push("a")
    subscribed, push = peer.ask(subscribe(1, "a", replace=True))[0], rig.push("a")
    assert isinstance(subscribed, Subscribed)
    assert [change.version for change in subscribed.changes] == [2]
    assert peer.take() == pushed(("a", push))
    (renewed,) = peer.ask(renew(2, "a"))
    assert isinstance(renewed, Renewed)
    assert renewed.match


def test_a_forgotten_lease_does_not_begin_again_with_fewer_names() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.forget_lease(peer)
    assert kinds(peer.ask(subscribe(1, "b"), renew(2, "a", "b"))) == ["no_lease", "no_lease"]
    assert rig.table.statistics().sessions == 0


def test_a_forgotten_lease_disturbs_nothing_else() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.forget_lease(peer)
    message = Publish(1, "a", value=1)
    assert kinds(peer.ask(Poll(2, topics={"a": 0}), message)) == ["Polled"]
    assert peer.submitted == [message]
    revoke(peer, "slow_consumer")
    assert kinds(peer.take()) == ["Revoked"]
    peer.machine.disconnected()
    assert rig.table.statistics().sessions == 0


def test_a_push_that_waits_is_replaced_by_a_newer_one_in_its_place() -> None:
    rig = SessionRig()
    peer = rig.open_session("a", "b")
    peer.stalled = True
    rig.push("a", "b", "a")
    peer.stalled = False
    peer.flush()
    assert peer.take() == [Notify("a", 4), Notify("b", 3)]
