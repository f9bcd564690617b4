"""Which beats a session is granted, and when one is true of it (P-BEAT-1, P-BEAT-2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from softstate.errors import Unavailable
from softstate.model import Page
from softstate.position import Position
from softstate.session import Effect, SessionMachine, SetBeat
from softstate.session.beats import granted_beat_ms
from softstate.session.renewal import answer_renew
from softstate.session.request import PendingSubscribe
from softstate.session.subscription import subscribe_page
from softstate.wire.messages import Hello, Poll, Renew, Renewed, Subscribed, Unsubscribe, Welcome
from tests.exhaustive.mutants import change_rules
from tests.kit.session_rig import Peer, SessionRig, renew, subscribe


def vouches(peer: Peer) -> bool:
    return peer.machine.vouches(peer.rig.hub_position, peer.rig.now)


def agreed(*names: str) -> tuple[SessionRig, Peer]:
    """Open a session that holds `names`, and on which both sides agree."""
    rig = SessionRig()
    peer = rig.connect()
    peer.ask(Hello(), subscribe(0, *names, replace=True))
    assert vouches(peer)
    return rig, peer


# The grant -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_ms", "ttl_ms", "granted_ms"),
    [
        (0, 60_000, 0),
        (1, 60_000, 1_000),
        (1_000, 60_000, 1_000),
        (1_999, 60_000, 1_000),
        (2_000, 60_000, 2_000),
        (5_000, 60_000, 4_000),
        (604_800_000, 60_000, 8_000),
        (1_000, 5_999, 0),
        (1_000, 6_000, 1_000),
    ],
)
def test_a_beat_is_a_second_doubled_and_two_fit_between_renewals(asked_ms: int, ttl_ms: int, granted_ms: int) -> None:
    assert granted_beat_ms(asked_ms, ttl_ms) == granted_ms


def test_a_client_that_asks_for_no_beats_gets_none() -> None:
    (welcome,) = SessionRig().connect().ask(Hello())
    assert isinstance(welcome, Welcome)
    assert welcome.beat_ms == 0


def test_hello_and_renew_ask_and_the_answers_grant() -> None:
    peer = SessionRig().connect()
    (welcome,) = peer.ask(Hello(beat_ms=1_500))
    assert isinstance(welcome, Welcome)
    assert (welcome.beat_ms, peer.beats) == (1_000, [SetBeat(1_000)])
    for asked_ms, granted_ms in ((None, 1_000), (0, 0), (None, 0), (1_000, 1_000)):
        peer.beats.clear()
        before = peer.machine.beat_ms
        (renewed,) = peer.ask(structs.replace(renew(1), beat_ms=asked_ms))
        assert isinstance(renewed, Renewed)
        assert renewed.beat_ms == granted_ms
        assert peer.beats == ([SetBeat(granted_ms)] if granted_ms != before else [])


def test_another_ttl_may_leave_no_room_for_beats() -> None:
    peer = SessionRig().connect()
    peer.ask(Hello(beat_ms=1_000))
    (renewed,) = peer.ask(renew(1, ttl_ms=4_000))
    assert isinstance(renewed, Renewed)
    assert renewed.beat_ms == 0
    (renewed,) = peer.ask(renew(2, ttl_ms=10_000))
    assert isinstance(renewed, Renewed)
    assert renewed.beat_ms == 1_000


def test_answers_tell_the_node_s_clock_rounded_up() -> None:
    rig = SessionRig()
    rig.now = 12.3451
    peer = rig.connect()
    answers = peer.ask(Hello(), subscribe(0, "a", replace=True), renew(1, "a"))
    assert [answer.clock_ms for answer in answers if isinstance(answer, Welcome | Subscribed | Renewed)] == [12_346] * 3


def test_only_the_last_page_tells_the_clock() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b")
    peer = rig.connect()
    _, first, last = peer.ask(Hello(), subscribe(0, "p/", replace=True))
    assert isinstance(first, Subscribed)
    assert isinstance(last, Subscribed)
    assert (first.clock_ms, last.clock_ms) == (None, 100_000)


# Agreement --------------------------------------------------------------------------------------------


def test_a_new_session_agrees_on_nothing_and_on_what_is_added_to_that() -> None:
    peer = SessionRig().connect()
    assert not vouches(peer)
    peer.ask(Hello())
    assert vouches(peer)
    peer.ask(subscribe(0, "a"))
    assert vouches(peer)


def test_a_subscribe_that_joins_its_hello_is_added_to_nothing_as_well() -> None:
    peer = SessionRig().connect()
    peer.ask(Hello(), subscribe(0, "a"))
    assert vouches(peer)


def test_a_page_is_not_the_whole_answer() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b")
    peer = rig.open_session("a")
    peer.receive(subscribe(0, "p/", replace=True))
    peer.begin()
    peer.deliver()
    assert not vouches(peer)
    peer.serve()
    assert vouches(peer)


def test_nor_is_one_behind_the_welcome() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b")
    peer = rig.connect()
    peer.receive(Hello(), subscribe(0, "p/", replace=True))
    peer.begin()
    peer.deliver()
    assert not vouches(peer)
    peer.serve()
    assert vouches(peer)


def test_a_lease_that_begins_with_a_set_is_agreed_on_by_the_answer() -> None:
    rig, peer = agreed("a")
    rig.now += 11.01
    peer.receive(subscribe(1, "a", "b", replace=True))
    assert peer.machine.lease is not None
    assert not vouches(peer)
    peer.serve()
    assert vouches(peer)


def test_what_the_client_adds_and_removes_both_sides_know() -> None:
    _, peer = agreed("a", "b")
    peer.ask(subscribe(1, "c"))
    assert vouches(peer)
    peer.ask(Unsubscribe(["a", "x"]))
    assert vouches(peer)
    peer.ask(subscribe(2, "b", "c"))
    assert vouches(peer)


def test_a_set_that_is_replaced_is_agreed_on_again_by_the_answer() -> None:
    _, peer = agreed("a", "b")
    peer.receive(subscribe(1, "b", "c", replace=True))
    assert not vouches(peer)
    peer.serve()
    assert vouches(peer)


def test_a_subscribe_that_fails_takes_its_names_with_it() -> None:
    _, peer = agreed("a")
    peer.receive(subscribe(1, "b"))
    peer.fail_read(Unavailable("down"))
    assert vouches(peer), "of the others all is as it was"
    peer.receive(subscribe(2, "a", replace=True))
    peer.fail_read(Unavailable("down"))
    assert not vouches(peer)


@pytest.mark.parametrize("names", [["a"], ["b"], ["a", "b"]])
def test_a_name_that_the_lease_lost_ends_the_beats(names: list[str]) -> None:
    rig, peer = agreed("a", "b")
    assert peer.machine.lease is not None
    rig.table.remove(peer.machine.lease, names)
    assert not vouches(peer)
    peer.ask(subscribe(1, "c"))
    assert not vouches(peer), "the client's own changes hide nothing"
    peer.ask(renew(2, "a", "b", "c"))
    assert not vouches(peer)
    peer.ask(subscribe(3, "a", "b", "c", replace=True))
    assert vouches(peer)


def test_a_name_that_was_lost_before_the_answer_is_missed() -> None:
    rig = SessionRig()
    peer = rig.open_session()
    peer.receive(subscribe(0, "a", "b", replace=True))
    assert peer.machine.lease is not None
    rig.table.remove(peer.machine.lease, ["a"])
    peer.serve()
    assert not vouches(peer)


def test_a_renewal_that_does_not_match_ends_the_beats() -> None:
    _, peer = agreed("a")
    peer.ask(renew(1, "a", "b"))
    assert not vouches(peer)


def test_a_resumed_session_is_agreed_on_by_its_renewal() -> None:
    rig, peer = agreed("a")
    rig.push("a")
    token = peer.machine.token
    peer.lose()
    other = rig.connect()
    welcome, *_ = other.ask(Hello(rig.position(1), token, 1))
    assert isinstance(welcome, Welcome)
    assert welcome.resumed
    assert not vouches(other)
    other.ask(renew(1, "a"))
    assert vouches(other)


# The lease, and the history ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swept", [False, True])
def test_a_lease_past_its_deadline_gets_no_beat(swept: bool) -> None:
    rig, peer = agreed("a")
    rig.now += 11.0
    assert vouches(peer)
    rig.now += 0.01
    if swept:
        rig.sweep()
    assert not vouches(peer)


def test_nor_does_one_that_was_revoked_or_forgotten() -> None:
    rig, peer = agreed("a")
    peer.revoked("slow_consumer")
    assert not vouches(peer)
    rig, peer = agreed("a")
    rig.forget_lease(peer)
    assert not vouches(peer)


def test_a_lease_that_began_again_is_agreed_on_by_itself() -> None:
    rig, peer = agreed("a")
    rig.forget_lease(peer)
    peer.ask(renew(1, "a"), subscribe(2, "a"))
    assert not vouches(peer)
    peer.ask(subscribe(3, "a", replace=True))
    assert vouches(peer)


def test_a_beat_of_another_history_than_was_named_last_is_not_sent() -> None:
    rig, peer = agreed("a")
    before = rig.hub_position
    row = rig.commit_lineage_row()
    peer.ask(Poll(1, topics={"a": 0}))
    assert peer.machine.named == row, "the poll read beyond the hub"
    assert not peer.machine.vouches(before, rig.now)
    assert not peer.machine.names_history_of(before)
    rig.feed()
    assert vouches(peer)


def test_a_beat_that_certifies_nothing_needs_no_history() -> None:
    _, peer = agreed("a")
    peer.machine.named = None
    assert peer.machine.vouches(None, peer.rig.now)
    assert not vouches(peer)


# Mutants -------------------------------------------------------------------------------------------------------------


def agreement_is_a_flag(patch: pytest.MonkeyPatch) -> None:
    """An agreement stays, though the lease holds another set by now."""

    def blind(self: SessionMachine, _position: Position, now: float) -> bool:
        return self.living_lease(now) is not None and self.agreed is not None

    patch.setattr(SessionMachine, "vouches", blind)


def the_client_s_own_changes_end_it(patch: pytest.MonkeyPatch) -> None:
    """The client's own additions and removals are not taken for agreed on."""
    patch.setattr(SessionMachine, "agree_to", lambda _self, _lease, _before: None)


def an_answer_agrees_to_what_the_lease_holds(patch: pytest.MonkeyPatch) -> None:
    """The answer to a subscribe of the whole set makes an agreement of all that the lease holds by then."""

    def trusting(session: SessionMachine, pending: PendingSubscribe, page: Page, now: float) -> list[Effect]:
        effects = subscribe_page(session, pending, page, now)
        if session.agreed is not None and session.lease is not None:
            session.agreed = session.lease.digest
        return effects

    change_rules(patch, subscribe_page, trusting)


def renewals_agree_though_they_do_not_match(patch: pytest.MonkeyPatch) -> None:
    """Any renewal makes an agreement of what the lease holds."""

    def trusting(session: SessionMachine, *arguments: Any) -> list[Effect]:
        effects = answer_renew(session, *arguments)
        session.agreed = session.lease.digest if session.lease is not None else None
        return effects

    change_rules(patch, answer_renew, trusting)


def the_history_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    """A beat of any history is taken to be of the one that the client is in."""
    patch.setattr("softstate.session.beats.names_history_of", lambda _session, _position: True)


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        (agreement_is_a_flag, lambda: test_a_name_that_the_lease_lost_ends_the_beats(["a"])),
        (the_client_s_own_changes_end_it, test_what_the_client_adds_and_removes_both_sides_know),
        (an_answer_agrees_to_what_the_lease_holds, test_a_name_that_was_lost_before_the_answer_is_missed),
        (renewals_agree_though_they_do_not_match, test_a_renewal_that_does_not_match_ends_the_beats),
        (the_history_does_not_matter, test_a_beat_of_another_history_than_was_named_last_is_not_sent),
    ],
)
def test_a_mutant_is_caught(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        test()


def test_a_renew_without_a_beat_leaves_it() -> None:
    peer = SessionRig().connect()
    peer.ask(Hello(beat_ms=1_000))
    peer.beats.clear()
    peer.ask(Renew(1, "0" * 16, 0))
    assert peer.beats == []
