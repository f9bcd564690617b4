"""Leases that end while the connection goes on: revoked during each request, denied, or simply forgotten (S11)."""

import pytest

from softstate.errors import Overloaded, Unavailable
from softstate.session import DropPending, State
from softstate.wire.messages import Hello, Notify, Poll, Polled, Publish, Reason, Renewed, Revoked, Subscribed
from tests.kit.session_rig import Peer, World, kinds, pushed, renew, subscribe


def revoke(peer: Peer, reason: Reason = "slow_consumer") -> None:
    peer.carry_out(peer.machine.revoked(reason, 5))


@pytest.mark.parametrize("reason", ["expired", "slow_consumer", "overloaded", "denied"])
def test_revoking_ends_the_lease_and_drops_what_rests_on_it(reason: Reason) -> None:
    world = World()
    peer = world.opened("a")
    peer.stalled = True
    world.push("a")
    peer.ask(subscribe(1, "b"), renew(2, "a", "b"), Poll(3, topics={"a": 0}))
    revoke(peer, reason)
    peer.stalled = False
    peer.flush()
    polled, revoked = peer.take()
    assert isinstance(polled, Polled)
    assert revoked == Revoked(reason, 5, 700)
    assert peer.sent == 0
    assert world.table.statistics().sessions == 0
    assert (peer.machine.state, peer.machine.gap_buffer) == (State.LAPSED, None)
    assert world.repairs == ({} if reason == "expired" else {reason: 1})
    world.push("a")
    assert peer.take() == []


@pytest.mark.parametrize("request_", ["subscribe", "renew"])
def test_a_request_that_rests_on_the_lease_goes_with_it(request_: str) -> None:
    world = World()
    peer = world.opened("a")
    peer.hear(subscribe(1, "b") if request_ == "subscribe" else renew(1, "a"))
    peer.begin()
    revoke(peer)
    assert not peer.machine.busy
    peer.deliver()
    assert kinds(peer.take()) == ["Revoked"]
    assert kinds(peer.ask(subscribe(2, "a"))) == ["Subscribed"]


def test_a_poll_goes_on_without_a_lease() -> None:
    world = World(page_limit=1)
    world.push("p/a", "p/b")
    peer = world.opened("a")
    peer.hear(Poll(1, prefixes={"p/": 0}))
    revoke(peer)
    assert kinds(peer.serve()) == ["Revoked", "Polled", "Polled"]


@pytest.mark.parametrize("state", ["new", "greeting", "lapsed"])
def test_an_outbox_that_gave_up_without_a_lease_begins_anew(state: str) -> None:
    """It drops every push until then: those of a later lease too, whose `renewed` would then lie."""
    world = World()
    peer = world.connect() if state != "lapsed" else world.opened()
    if state == "greeting":
        peer.hear(Hello())
    elif state == "lapsed":
        revoke(peer)
    assert peer.machine.revoked("slow_consumer", 5) == [DropPending()]


def test_revoking_twice_tells_once() -> None:
    peer = World().opened("a")
    revoke(peer)
    revoke(peer, "expired")
    assert kinds(peer.take()) == ["Revoked"]


def test_after_denied_nothing_is_read_without_new_credentials() -> None:
    world = World()
    peer = world.opened("a")
    revoke(peer, "denied")
    peer.take()
    assert kinds(peer.ask(subscribe(1, "a"), Poll(2, topics={"a": 0}), renew(3, "a"))) == [
        "denied",
        "denied",
        "no_lease",
    ]
    assert peer.machine.state is State.LAPSED
    assert world.table.statistics().sessions == 0


@pytest.mark.parametrize("greeting", [False, True])
def test_denied_counts_in_every_state(greeting: bool) -> None:
    world = World()
    peer = world.connect() if greeting else world.opened("a")
    if greeting:
        peer.hear(Hello())
    else:
        revoke(peer, "expired")
    revoke(peer, "denied")
    peer.serve()
    assert kinds(peer.ask(subscribe(1, "a"))) == ["denied"]


# Amnesia -------------------------------------------------------------------------------------------------------------


def test_a_forgotten_lease_is_not_renewed() -> None:
    world = World()
    peer = world.opened("a")
    world.amnesia(peer)
    world.push("a")
    assert kinds(peer.ask(renew(1, "a"))) == ["no_lease"]
    assert peer.machine.state is State.LAPSED


@pytest.mark.parametrize("error", [None, Unavailable("down"), Overloaded("crowd")])
def test_a_lease_forgotten_while_its_renewal_waits_is_not_renewed(error: Unavailable | Overloaded | None) -> None:
    """An empty set would match it: whoever holds nothing would be told that a lease lives."""
    world = World()
    peer = world.opened()
    peer.hear(renew(1))
    peer.begin()
    world.amnesia(peer)
    if error is None:
        peer.deliver()
    else:
        peer.fail(error)
    assert kinds(peer.take()) == ["no_lease"]


def test_a_lease_forgotten_while_a_subscribe_waits_is_told() -> None:
    world = World()
    peer = world.opened("a")
    peer.hear(subscribe(1, "b"))
    peer.begin()
    world.amnesia(peer)
    peer.deliver()
    assert kinds(peer.take()) == ["no_lease"]
    assert peer.machine.gap_buffer is None
    peer.hear(subscribe(2, "b"))
    world.amnesia(peer)
    peer.fail(Unavailable("down"))
    assert kinds(peer.take()) == ["unavailable"]


def test_a_forgotten_lease_begins_anew_with_a_subscribe() -> None:
    world = World()
    peer = world.opened("a")
    world.amnesia(peer)
    world.push("a")
    subscribed, push = peer.ask(subscribe(1, "a", replace=True))[0], world.push("a")
    assert isinstance(subscribed, Subscribed)
    assert [change.version for change in subscribed.changes] == [2]
    assert peer.take() == pushed(("a", push))
    (renewed,) = peer.ask(renew(2, "a"))
    assert isinstance(renewed, Renewed)
    assert renewed.match


def test_a_forgotten_lease_loses_its_other_names() -> None:
    world = World()
    peer = world.opened("a")
    world.amnesia(peer)
    _, renewed = peer.ask(subscribe(1, "b"), renew(2, "a", "b"))
    assert isinstance(renewed, Renewed)
    assert not renewed.match


def test_a_forgotten_lease_disturbs_nothing_else() -> None:
    world = World()
    peer = world.opened("a")
    world.amnesia(peer)
    message = Publish(1, "a", value=1)
    assert kinds(peer.ask(Poll(2, topics={"a": 0}), message)) == ["Polled"]
    assert peer.submitted == [message]
    revoke(peer, "slow_consumer")
    assert kinds(peer.take()) == ["Revoked"]
    peer.machine.disconnected()
    assert world.table.statistics().sessions == 0


def test_a_push_that_waits_is_replaced_by_a_newer_one_in_its_place() -> None:
    world = World()
    peer = world.opened("a", "b")
    peer.stalled = True
    world.push("a", "b", "a")
    peer.stalled = False
    peer.flush()
    assert peer.take() == [Notify("a", 4), Notify("b", 3)]
