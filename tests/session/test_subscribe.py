"""Subscribing without a gap: pushes meanwhile, long answers, compaction in between, failures, and ended leases."""

import pytest

from softstate.errors import ERRORS_BY_CODE, Compacted, Unavailable
from softstate.lease.principals import FULL_RETRY_MS
from softstate.model import Change
from softstate.session import Read, State
from softstate.session.request import OVERFLOW_ROUNDS_MAX
from softstate.wire.messages import Error, Hello, Message, Notify, Poll, Renewed, Revoked, Subscribed
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.session_rig import Peer, SessionRig, kinds, pushed, renew, subscribe


def code(messages: list[Message]) -> str:
    (error,) = messages
    assert isinstance(error, Error)
    return error.code


def names(peer: Peer) -> list[str]:
    assert peer.machine.lease is not None
    return list(peer.machine.lease.names)


def test_the_last_page_says_what_the_lease_holds() -> None:
    rig = SessionRig()
    rig.push("a", "p/x")
    peer = rig.open_session("b")
    digest = digest_text(digest_of(["a", "b", "p/"]))
    assert peer.ask(subscribe(7, "p/", known={"a": 2})) == [
        Subscribed(7, rig.position(), [Change("p/x", 3)], digest=digest, count=3, clock_ms=100_000)
    ]


@pytest.mark.parametrize("lag", [True, False])
def test_pushes_wait_for_the_answer_and_lose_what_it_covers(lag: bool) -> None:
    rig = SessionRig()
    peer = rig.open_session()
    peer.receive(subscribe(1, "p/"))
    rig.commit("p/a")
    if not lag:
        rig.feed()
    peer.begin()
    rig.commit("p/b")
    if not lag:
        rig.feed()
    assert peer.take() == []
    peer.deliver()
    rig.feed()
    subscribed, *pushes = peer.take()
    assert isinstance(subscribed, Subscribed)
    assert subscribed.changes == [Change("p/a", 2)]
    assert subscribed.position == rig.position(2)
    assert pushes == pushed(("p/b", 3))
    rig.push("p/a")
    assert peer.take() == pushed(("p/a", 4))
    assert peer.machine.gap_buffer is None


@pytest.mark.parametrize("fails", [False, True])
def test_what_an_answer_has_told_is_not_pushed_behind_it_because_of_another_subscribe(fails: bool) -> None:
    """The hub has not reached the first answer when the second subscribe comes."""
    rig = SessionRig()
    peer = rig.open_session()
    rig.commit("p/a", "p/a")
    (first,) = peer.ask(subscribe(1, "p/a"))
    assert isinstance(first, Subscribed)
    assert first.changes == [Change("p/a", 3)]
    peer.receive(subscribe(2, "p/"))
    if fails:
        peer.fail_read(Unavailable("down"))
        assert code(peer.take()) == "unavailable"
    rig.feed(2)
    assert peer.take() == []
    if not fails:
        assert isinstance(peer.serve()[-1], Subscribed)
    rig.feed()
    assert peer.take() == []
    rig.push("p/a")
    assert peer.take() == pushed(("p/a", 4))
    assert peer.machine.gap_buffer is None


def test_a_topic_that_an_older_prefix_covers_is_pushed_meanwhile() -> None:
    rig = SessionRig()
    peer = rig.open_session("p/")
    peer.receive(subscribe(1, "p/a", "b"))
    rig.push("p/a", "b")
    assert peer.take() == pushed(("p/a", 2))
    peer.fail_read(Unavailable("down"))
    assert code(peer.take()) == "unavailable"
    rig.push("p/a", "b")
    assert peer.take() == pushed(("p/a", 4))


def test_replace_keeps_pushing_what_stays() -> None:
    rig = SessionRig()
    peer = rig.open_session("a", "b")
    peer.receive(subscribe(1, "b", "c", replace=True))
    rig.push("a", "b", "c")
    assert peer.take() == pushed(("b", 3))
    subscribed, *pushes = peer.serve()
    assert isinstance(subscribed, Subscribed)
    assert subscribed.changes == [Change("b", 3), Change("c", 4)]
    assert subscribed.count == 2
    assert subscribed.digest == digest_text(digest_of("bc"))
    assert pushes == []


def test_replace_by_nothing_empties_the_set() -> None:
    peer = SessionRig().open_session("a")
    (subscribed,) = peer.ask(subscribe(1, replace=True))
    assert isinstance(subscribed, Subscribed)
    assert subscribed.count == 0
    assert names(peer) == []


def test_subscribe_extends_the_lease_before_any_read() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    rig.now += 5
    peer.receive(subscribe(1, "b"))
    assert peer.machine.lease is not None
    assert peer.machine.lease.deadline == rig.now + 11


# Long answers --------------------------------------------------------------------------------------------------------


def test_a_long_answer_comes_in_pages_with_a_read_for_each() -> None:
    rig = SessionRig(page_limit=2)
    rig.push("p/a", "p/b", "p/c", "p/d")
    peer = rig.open_session()
    peer.receive(subscribe(1, "p/"))
    peer.begin()
    peer.deliver()
    rig.push("p/a")
    rig.push("p/d", cbor=None)
    first, second, last = peer.serve()
    assert first == Subscribed(1, rig.position(5), [Change("p/a", 2), Change("p/b", 3)], more=True)
    assert second == Subscribed(1, rig.position(), [Change("p/c", 4), Change("p/a", 6)], more=True)
    assert isinstance(last, Subscribed)
    assert last.changes == [Change("p/d", 7, deleted=True)]
    assert not last.more


def test_a_gap_buffer_that_overflows_costs_one_more_page() -> None:
    rig = SessionRig(gap_topics_max=2)
    peer = rig.open_session()
    peer.receive(subscribe(1, "p/"))
    peer.begin()
    rig.push("p/a", "p/b", "p/c")
    peer.deliver()
    assert isinstance(peer.reading, Read)
    peer.begin()
    rig.push("p/d")
    peer.deliver()
    first, last, push = peer.take()
    assert first == Subscribed(1, rig.position(1), more=True)
    assert isinstance(last, Subscribed)
    assert [change.topic for change in last.changes] == ["p/a", "p/b", "p/c"]
    assert last.count == 1
    assert push == Notify("p/d", 5)
    assert rig.repairs == {"hold_overflow": 1}


def crowd(rig: SessionRig, peer: Peer, rounds: int) -> None:
    for _ in range(rounds):
        peer.begin()
        rig.push("p/a", "p/b", "p/c")
        peer.deliver()


def test_the_last_round_is_served_and_the_next_is_overloaded() -> None:
    rig = SessionRig(gap_topics_max=2)
    peer = rig.open_session("a")
    peer.receive(subscribe(1, "p/"))
    crowd(rig, peer, OVERFLOW_ROUNDS_MAX)
    assert isinstance(peer.serve()[-1], Subscribed)
    peer.receive(subscribe(4, "/", replace=True))
    crowd(rig, peer, OVERFLOW_ROUNDS_MAX + 1)
    assert code(peer.take()[-1:]) == "overloaded"
    assert names(peer) == []
    assert peer.machine.gap_buffer is None


def test_pages_that_advance_do_not_count_as_overflows() -> None:
    rig = SessionRig(gap_topics_max=1, page_limit=1)
    rig.push(*(f"p/{n}" for n in range(OVERFLOW_ROUNDS_MAX + 4)))
    peer = rig.open_session()
    peer.receive(subscribe(1, "p/"))
    for _ in range(OVERFLOW_ROUNDS_MAX + 3):
        peer.begin()
        rig.push("p/x", "p/y")
        peer.deliver()
    last = peer.serve()[-1]
    assert isinstance(last, Subscribed)
    assert not last.more


# Compaction between two pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll", [False, True])
def test_an_answer_whose_next_page_is_forgotten_is_refused(poll: bool) -> None:
    """A new answer under the same id would let the client count `p/a` as listed, though it was deleted."""
    rig = SessionRig(page_limit=2)
    rig.push("p/a", "p/b", "p/c")
    peer = rig.open_session()
    peer.receive(Poll(1, prefixes={"p/": 0}) if poll else subscribe(1, "p/"))
    peer.begin()
    peer.deliver()
    rig.push("p/a", cbor=None)
    rig.image.compact(tombstones=rig.hub, keys=0)
    first, error = peer.serve()
    assert first.more  # type: ignore[attr-defined]
    assert isinstance(error, Error)
    assert error.code == Compacted.code
    assert error.id == 1
    assert error.position == rig.position()
    assert names(peer) == []


def test_a_prefix_compacted_between_two_pages_is_not_swept() -> None:
    """The first page told differences, so `p/z`, unchanged and alive, was not listed: no `compacted` may name `p/`."""
    rig = SessionRig(page_limit=1)
    since = rig.push("p/z", "x")
    tombstone = rig.push("x", cbor=None)
    rig.push("p/a", "p/b")
    peer = rig.open_session()
    peer.receive(subscribe(1, "new", known={"p/": since}))
    peer.begin()
    peer.deliver()
    rig.image.compact(tombstones=tombstone, keys=0)
    *_, error = peer.serve()
    assert isinstance(error, Error)
    assert error.code == "compacted"


def test_an_answer_from_differences_alone_goes_on_while_its_cursor_is_above_the_floor() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("x")
    since = rig.hub
    rig.push("x", cbor=None)
    rig.push("p/a", "p/b")
    peer = rig.open_session()
    peer.receive(Poll(1, prefixes={"p/": since}))
    peer.begin()
    peer.deliver()
    rig.image.compact(tombstones=rig.hub, keys=0)
    _, last = peer.serve()
    assert not isinstance(last, Error)
    assert last.compacted == []  # type: ignore[attr-defined]


def test_a_prefix_below_the_floor_is_named_on_the_last_page() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b", "x")
    rig.push("x", cbor=None)
    rig.image.compact(tombstones=rig.hub, keys=0)
    first, last = rig.open_session().ask(subscribe(1, known={"p/": 2}))
    assert isinstance(first, Subscribed)
    assert isinstance(last, Subscribed)
    assert first.compacted == []
    assert last.compacted == ["p/"]
    assert [*first.changes, *last.changes] == [Change("p/a", 2), Change("p/b", 3)]


# Failed subscribes leave the lease -----------------------------------------------------------------------------------


def test_a_subscribe_off_the_history_is_rewound() -> None:
    rig = SessionRig()
    peer = rig.open_session("b")
    (error,) = peer.ask(subscribe(1, known={"a": 9}))
    assert isinstance(error, Error)
    assert error.code == "rewound"
    assert error.position == rig.position()
    assert names(peer) == ["b"]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (subscribe(1, "b", "x//"), ["a"]),
        (subscribe(1, "x//", replace=True), []),
        (subscribe(1, "b", *(f"t{n}" for n in range(7))), ["a"]),
        (subscribe(1, "b", *(f"t{n}" for n in range(8))), ["a"]),
        (subscribe(1, *(f"t{n}" for n in range(9)), replace=True), []),
    ],
)
def test_names_refused_leave_the_lease(asked: Message, left: list[str]) -> None:
    peer = SessionRig().open_session("a", "b")
    assert code(peer.ask(asked)) in {"invalid", "too_large"}  # type: ignore[arg-type]
    assert names(peer) == left


@pytest.mark.parametrize("replace", [False, True])
def test_a_subscribe_that_fails_leaves_the_lease(replace: bool) -> None:
    rig = SessionRig()
    peer = rig.open_session("a", "b")
    peer.receive(subscribe(1, "b", "c", replace=replace))
    peer.fail_read(Unavailable("down", retry_ms=3))
    assert peer.take() == [Error("unavailable", "down", 1, retry_ms=3)]
    assert names(peer) == ([] if replace else ["a"])
    rig.push("a", "b", "c")
    assert peer.take() == ([] if replace else pushed(("a", 2)))
    assert peer.machine.gap_buffer is None


def test_a_poll_that_fails_leaves_the_lease_alone() -> None:
    peer = SessionRig().open_session("a")
    peer.receive(Poll(1, topics={"a": 0}))
    peer.fail_read(Unavailable("down"))
    assert code(peer.take()) == "unavailable"
    assert names(peer) == ["a"]


# After the lease is over ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [False, True])
def test_a_subscribe_after_the_deadline_begins_no_lease_unless_it_names_the_whole_set(found: bool) -> None:
    """Else `a`, of which nothing was pushed since the deadline, would seem to have been held without a break."""
    rig = SessionRig()
    peer = rig.open_session("a")
    old = peer.machine.lease
    rig.now += 11.01
    if found:
        rig.sweep()
        assert peer.take() == [Revoked("expired", 0, 700)]
        assert peer.machine.state is State.LAPSED
    rig.push("a")
    assert kinds(peer.ask(subscribe(1, "b"))) == ["no_lease"]
    assert rig.repairs == {"no_lease": 1}
    assert peer.machine.state is State.LAPSED
    assert rig.table.statistics().sessions == 0
    rig.push("a")
    assert peer.take() == []
    subscribed, renewed = peer.ask(subscribe(2, "b", replace=True), renew(3, "a", "b"))
    assert isinstance(subscribed, Subscribed)
    assert isinstance(renewed, Renewed)
    assert names(peer) == ["b"]
    assert not renewed.match
    assert peer.machine.lease is not old
    rig.sweep()
    assert peer.take() == []
    assert rig.table.statistics().sessions == 1


def test_a_new_lease_keeps_the_token_and_the_ttl() -> None:
    rig = SessionRig()
    peer = rig.connect()
    peer.ask(Hello(ttl_ms=4_000), subscribe(1, "a"))
    peer.carry_out(peer.machine.revoked("overloaded", 0))
    peer.ask(subscribe(1, "a", replace=True))
    lease = rig.table.get("t1")
    assert lease is not None
    assert lease.ttl_s == 4.0
    assert lease.sink is peer


def test_a_full_table_refuses_a_new_lease() -> None:
    rig = SessionRig(sessions_max=1)
    peer = rig.open_session("a")
    peer.carry_out(peer.machine.revoked("expired", 0))
    rig.open_session()
    peer.take()
    (error,) = peer.ask(subscribe(1, "a", replace=True))
    assert isinstance(error, Error)
    assert error.code == "overloaded"
    assert error.id == 1
    assert error.retry_ms == FULL_RETRY_MS
    assert peer.machine.state is State.LAPSED
    assert peer.closed is None


def test_every_failure_is_answered() -> None:
    peer = SessionRig().open_session()
    for number, kind in enumerate(ERRORS_BY_CODE.values()):
        peer.receive(subscribe(number, "a"))
        peer.fail_read(kind("so it is"))
        assert peer.take() == [Error(kind.code, "so it is", number)]
