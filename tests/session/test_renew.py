"""Renewing: the fields of `renewed` and its moment, and leases that turn out to be over."""

import pytest

from softstate.errors import Overloaded, Unavailable
from softstate.session import State
from softstate.session.state import TTL_MS_MIN
from softstate.wire.messages import Error, Notify, Poll, Renew, Renewed, Revoked
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.session_rig import TERMS, SessionRig, kinds, renew, subscribe


def test_renewed_says_everything_behind_what_is_pending() -> None:
    rig = SessionRig()
    peer = rig.open_session("a", "b")
    peer.stalled = True
    rig.push("a")
    peer.receive(renew(7, "a", "b"))
    peer.begin()
    rig.commit("b")
    rig.now += 3.0
    peer.deliver()
    rig.feed()
    peer.stalled = False
    peer.flush()
    renewed = Renewed(
        7, True, rig.position(2), 1, 10_000, 3_333, TERMS.poll, TERMS.recover, "ok", clock_ms=103_000
    )  # fmt: skip
    assert peer.take() == [Notify("a", 2), renewed, Notify("b", 3)]


def test_renewed_waits_for_the_answer_to_an_earlier_subscribe() -> None:
    peer = SessionRig().open_session()
    assert kinds(peer.ask(subscribe(1, "a"), renew(2, "a"))) == ["Subscribed", "Renewed"]


def test_renewed_comes_when_the_hub_has_applied_the_head_read_after_it() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.commit("a")
    written = peer.ask(renew(1, "a"))
    assert written[:1] == [Notify("a", 2)]
    assert isinstance(written[1], Renewed)
    assert written[1].position == rig.position(2)
    assert written[1].sent == 1


@pytest.mark.parametrize(
    "message", [Renew(1, digest_text(digest_of(["a"])), 2), Renew(1, digest_text(digest_of(["b"])), 1), Renew(1, "", 0)]
)
def test_another_set_does_not_match(message: Renew) -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    (renewed,) = peer.ask(message)
    assert isinstance(renewed, Renewed)
    assert not renewed.match
    assert rig.repairs == {"mismatch": 1}


def test_renew_extends_the_lease_on_receipt_and_never_shortens_it() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    lease = peer.machine.lease
    assert lease is not None
    before = lease.deadline
    peer.receive(renew(1, "a", ttl_ms=2_000))
    assert lease.ttl_s == 2.0
    assert lease.deadline == before
    (renewed,) = peer.serve()
    assert isinstance(renewed, Renewed)
    assert renewed.ttl_ms == 2_000
    assert renewed.renew_ms == 666
    rig.now += 10.5
    peer.receive(renew(2, "a", ttl_ms=0))
    assert lease.ttl_s == TTL_MS_MIN / 1000
    assert lease.deadline == pytest.approx(rig.now + 1.1)


def test_while_the_store_is_down_the_lease_is_renewed_but_nothing_certified() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.now += 5
    peer.receive(renew(1, "a"))
    peer.fail_read(Unavailable("down"))
    (renewed,) = peer.take()
    assert isinstance(renewed, Renewed)
    assert renewed.store == "down"
    assert renewed.match
    assert renewed.position == rig.hub_position
    assert rig.table.get("t1") is not None


def test_any_other_failure_of_a_renewal_is_an_error() -> None:
    peer = SessionRig().open_session("a")
    peer.receive(renew(1, "a"))
    peer.fail_read(Overloaded("crowd", retry_ms=9))
    assert peer.take() == [Error("overloaded", "crowd", 1, retry_ms=9)]
    assert peer.machine.state is State.OPEN


def test_a_renewal_drops_a_gap_buffer_that_is_over() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    assert peer.machine.gap_buffer is not None
    peer.ask(renew(1, "a"))
    assert peer.machine.gap_buffer is None


@pytest.mark.parametrize("found", [False, True])
def test_a_renewal_after_the_deadline_finds_no_lease(found: bool) -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.now += 11.01
    rig.push("a")
    if found:
        rig.sweep()
        assert peer.take() == [Revoked("expired", 0, 700)]
    (error,) = peer.ask(renew(1, "a"))
    assert isinstance(error, Error)
    assert error.code == "no_lease"
    assert error.id == 1
    assert rig.repairs == {"no_lease": 1}
    rig.sweep()
    assert peer.take() == []
    assert rig.table.statistics().sessions == 0


@pytest.mark.parametrize("error", [None, Unavailable("down")])
def test_a_lease_that_ends_while_its_renewal_waits_is_not_renewed(error: Unavailable | None) -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.ask(renew(1, "a", ttl_ms=1_000))
    rig.now += 10.9
    peer.receive(renew(2, "a"))
    peer.begin()
    rig.now += 1.2
    rig.push("a")  # not pushed: the lease is over
    if error is None:
        peer.deliver()
    else:
        peer.fail_read(error)
    assert kinds(peer.take()) == ["no_lease"]


def test_while_the_store_is_down_no_history_is_named_that_is_over() -> None:
    """A poll may have read of a new history, which the node has not noticed; its hub is on the old one."""
    rig = SessionRig()
    peer = rig.open_session("a")
    row = rig.commit_lineage_row()
    peer.ask(Poll(1, topics={"a": 0}))
    peer.receive(renew(2, "a"))
    peer.fail_read(Unavailable("down"))
    (renewed,) = peer.take()
    assert isinstance(renewed, Renewed)
    assert (renewed.store, renewed.position) == ("down", row)
