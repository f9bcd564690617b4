"""Subscribing without a gap: what is pushed meanwhile, long answers, compaction in between, and what ends in error."""

import pytest

from softstate.errors import ERRORS_BY_CODE, Compacted, Unavailable
from softstate.lease.table import FULL_RETRY_MS
from softstate.model import Change
from softstate.session import Read, State
from softstate.session.request import OVERFLOW_ROUNDS_MAX
from softstate.wire.messages import Error, Hello, Message, Notify, Poll, Renewed, Revoked, Subscribed
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.session_rig import Peer, World, pushed, renew, subscribe


def code(messages: list[Message]) -> str:
    (error,) = messages
    assert isinstance(error, Error)
    return error.code


def names(peer: Peer) -> list[str]:
    assert peer.machine.lease is not None
    return list(peer.machine.lease.names)


def test_the_last_page_says_what_the_lease_holds() -> None:
    world = World()
    world.push("a", "p/x")
    peer = world.opened("b")
    assert peer.ask(subscribe(7, "p/", known={"a": 2})) == [
        Subscribed(7, world.position(), [Change("p/x", 3)], digest=digest_text(digest_of(["a", "b", "p/"])), count=3)
    ]


@pytest.mark.parametrize("lag", [True, False])
def test_pushes_wait_for_the_answer_and_lose_what_it_covers(lag: bool) -> None:
    world = World()
    peer = world.opened()
    peer.hear(subscribe(1, "p/"))
    world.commit("p/a")
    if not lag:
        world.feed()
    peer.begin()
    world.commit("p/b")
    if not lag:
        world.feed()
    assert peer.take() == []
    peer.deliver()
    world.feed()
    subscribed, *pushes = peer.take()
    assert isinstance(subscribed, Subscribed)
    assert (subscribed.changes, subscribed.position) == ([Change("p/a", 2)], world.position(2))
    assert pushes == pushed(("p/b", 3))
    world.push("p/a")
    assert peer.take() == pushed(("p/a", 4))
    assert peer.machine.gap_buffer is None


def test_a_topic_that_an_older_prefix_covers_is_pushed_meanwhile() -> None:
    world = World()
    peer = world.opened("p/")
    peer.hear(subscribe(1, "p/a", "b"))
    world.push("p/a", "b")
    assert peer.take() == pushed(("p/a", 2))
    peer.fail(Unavailable("down"))
    assert code(peer.take()) == "unavailable"
    world.push("p/a", "b")
    assert peer.take() == pushed(("p/a", 4))


def test_replace_keeps_pushing_what_stays() -> None:
    world = World()
    peer = world.opened("a", "b")
    peer.hear(subscribe(1, "b", "c", replace=True))
    world.push("a", "b", "c")
    assert peer.take() == pushed(("b", 3))
    subscribed, *pushes = peer.serve()
    assert isinstance(subscribed, Subscribed)
    assert subscribed.changes == [Change("b", 3), Change("c", 4)]
    assert (subscribed.count, subscribed.digest) == (2, digest_text(digest_of("bc")))
    assert pushes == []


def test_replace_by_nothing_empties_the_set() -> None:
    peer = World().opened("a")
    (subscribed,) = peer.ask(subscribe(1, replace=True))
    assert isinstance(subscribed, Subscribed)
    assert (subscribed.count, names(peer)) == (0, [])


def test_subscribe_extends_the_lease_before_any_read() -> None:
    world = World()
    peer = world.opened("a")
    world.now += 5
    peer.hear(subscribe(1, "b"))
    assert peer.machine.lease is not None
    assert peer.machine.lease.deadline == world.now + 11


# Long answers --------------------------------------------------------------------------------------------------------


def test_a_long_answer_comes_in_pages_each_read_anew() -> None:
    world = World(page_limit=2)
    world.push("p/a", "p/b", "p/c", "p/d")
    peer = world.opened()
    peer.hear(subscribe(1, "p/"))
    peer.begin()
    peer.deliver()
    world.push("p/a")
    world.push("p/d", cbor=None)
    first, second, last = peer.serve()
    assert first == Subscribed(1, world.position(5), [Change("p/a", 2), Change("p/b", 3)], more=True)
    assert second == Subscribed(1, world.position(), [Change("p/c", 4), Change("p/a", 6)], more=True)
    assert isinstance(last, Subscribed)
    assert (last.changes, last.more) == ([Change("p/d", 7, deleted=True)], False)


def test_a_hold_that_overflows_costs_one_more_page() -> None:
    world = World(held_max=2)
    peer = world.opened()
    peer.hear(subscribe(1, "p/"))
    peer.begin()
    world.push("p/a", "p/b", "p/c")
    peer.deliver()
    assert isinstance(peer.asking, Read)
    peer.begin()
    world.push("p/d")
    peer.deliver()
    first, last, push = peer.take()
    assert first == Subscribed(1, world.position(1), more=True)
    assert isinstance(last, Subscribed)
    assert [change.topic for change in last.changes] == ["p/a", "p/b", "p/c"]
    assert (last.count, push) == (1, Notify("p/d", 5))
    assert world.repairs == {"hold_overflow": 1}


def crowd(world: World, peer: Peer, rounds: int) -> None:
    for _ in range(rounds):
        peer.begin()
        world.push("p/a", "p/b", "p/c")
        peer.deliver()


def test_the_last_round_is_served_and_the_next_is_overloaded() -> None:
    world = World(held_max=2)
    peer = world.opened("a")
    peer.hear(subscribe(1, "p/"))
    crowd(world, peer, OVERFLOW_ROUNDS_MAX)
    assert isinstance(peer.serve()[-1], Subscribed)
    peer.hear(subscribe(4, "/", replace=True))
    crowd(world, peer, OVERFLOW_ROUNDS_MAX + 1)
    assert code(peer.take()[-1:]) == "overloaded"
    assert (names(peer), peer.machine.gap_buffer) == ([], None)


def test_pages_that_get_on_are_no_rounds() -> None:
    world = World(held_max=1, page_limit=1)
    world.push(*(f"p/{n}" for n in range(OVERFLOW_ROUNDS_MAX + 4)))
    peer = world.opened()
    peer.hear(subscribe(1, "p/"))
    for _ in range(OVERFLOW_ROUNDS_MAX + 3):
        peer.begin()
        world.push("p/x", "p/y")
        peer.deliver()
    last = peer.serve()[-1]
    assert isinstance(last, Subscribed)
    assert not last.more


# Compaction between two pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll", [False, True])
def test_an_answer_whose_next_page_is_forgotten_is_refused(poll: bool) -> None:
    """Beginning anew under the same id would let the client count `p/a` as listed, which lives no more."""
    world = World(page_limit=2)
    world.push("p/a", "p/b", "p/c")
    peer = world.opened()
    peer.hear(Poll(1, prefixes={"p/": 0}) if poll else subscribe(1, "p/"))
    peer.begin()
    peer.deliver()
    world.push("p/a", cbor=None)
    world.image.compact(tombstones=world.hub, keys=0)
    first, error = peer.serve()
    assert first.more  # type: ignore[attr-defined]
    assert isinstance(error, Error)
    assert (error.code, error.id, error.position) == (Compacted.code, 1, world.position())
    assert names(peer) == []


def test_a_prefix_compacted_between_two_pages_is_not_swept() -> None:
    """The first page told differences, so `p/z`, unchanged and alive, was not listed: no `compacted` may name `p/`."""
    world = World(page_limit=1)
    since = world.push("p/z", "x")
    tombstone = world.push("x", cbor=None)
    world.push("p/a", "p/b")
    peer = world.opened()
    peer.hear(subscribe(1, "new", known={"p/": since}))
    peer.begin()
    peer.deliver()
    world.image.compact(tombstones=tombstone, keys=0)
    *_, error = peer.serve()
    assert isinstance(error, Error)
    assert error.code == "compacted"


def test_an_answer_from_differences_alone_goes_on_while_its_cursor_is_above_the_floor() -> None:
    world = World(page_limit=1)
    world.push("x")
    since = world.hub
    world.push("x", cbor=None)
    world.push("p/a", "p/b")
    peer = world.opened()
    peer.hear(Poll(1, prefixes={"p/": since}))
    peer.begin()
    peer.deliver()
    world.image.compact(tombstones=world.hub, keys=0)
    _, last = peer.serve()
    assert not isinstance(last, Error)
    assert last.compacted == []  # type: ignore[attr-defined]


def test_a_prefix_below_the_floor_is_named_on_the_last_page() -> None:
    world = World(page_limit=1)
    world.push("p/a", "p/b", "x")
    world.push("x", cbor=None)
    world.image.compact(tombstones=world.hub, keys=0)
    first, last = world.opened().ask(subscribe(1, known={"p/": 2}))
    assert isinstance(first, Subscribed)
    assert isinstance(last, Subscribed)
    assert (first.compacted, last.compacted) == ([], ["p/"])
    assert [*first.changes, *last.changes] == [Change("p/a", 2), Change("p/b", 3)]


# What ends in error leaves the lease ---------------------------------------------------------------------------------


def test_a_subscribe_off_the_history_is_rewound() -> None:
    world = World()
    peer = world.opened("b")
    (error,) = peer.ask(subscribe(1, known={"a": 9}))
    assert isinstance(error, Error)
    assert (error.code, error.position) == ("rewound", world.position())
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
    peer = World().opened("a", "b")
    assert code(peer.ask(asked)) in {"invalid", "too_large"}  # type: ignore[arg-type]
    assert names(peer) == left


@pytest.mark.parametrize("replace", [False, True])
def test_a_subscribe_that_fails_leaves_the_lease(replace: bool) -> None:
    world = World()
    peer = world.opened("a", "b")
    peer.hear(subscribe(1, "b", "c", replace=replace))
    peer.fail(Unavailable("down", retry_ms=3))
    assert peer.take() == [Error("unavailable", "down", 1, retry_ms=3)]
    assert names(peer) == ([] if replace else ["a"])
    world.push("a", "b", "c")
    assert peer.take() == ([] if replace else pushed(("a", 2)))
    assert peer.machine.gap_buffer is None


def test_a_poll_that_fails_leaves_the_lease_alone() -> None:
    peer = World().opened("a")
    peer.hear(Poll(1, topics={"a": 0}))
    peer.fail(Unavailable("down"))
    assert code(peer.take()) == "unavailable"
    assert names(peer) == ["a"]


# After the lease is over ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [False, True])
def test_a_subscribe_after_the_deadline_begins_a_new_and_empty_lease(found: bool) -> None:
    """Else `a`, of which nothing was pushed since the deadline, would be held without a break to all appearance."""
    world = World()
    peer = world.opened("a")
    old = peer.machine.lease
    world.now += 11.01
    if found:
        world.sweep()
        assert peer.take() == [Revoked("expired", 0, 700)]
        assert peer.machine.state is State.LAPSED
    world.push("a")
    subscribed, renewed = peer.ask(subscribe(1, "b"), renew(2, "a", "b"))
    assert isinstance(subscribed, Subscribed)
    assert isinstance(renewed, Renewed)
    assert (names(peer), renewed.match) == (["b"], False)
    assert peer.machine.lease is not old
    assert peer.machine.state is State.OPEN
    world.sweep()
    assert peer.take() == []
    assert world.table.statistics().sessions == 1


def test_a_new_lease_keeps_the_token_and_the_ttl() -> None:
    world = World()
    peer = world.connect()
    peer.ask(Hello(ttl_ms=4_000), subscribe(1, "a"))
    peer.carry_out(peer.machine.revoked("overloaded", 0))
    peer.ask(subscribe(1, "a"))
    lease = world.table.get("t1")
    assert lease is not None
    assert (lease.ttl_s, lease.sink) == (4.0, peer)


def test_a_full_table_refuses_a_new_lease() -> None:
    world = World(sessions_max=1)
    peer = world.opened("a")
    peer.carry_out(peer.machine.revoked("expired", 0))
    world.opened()
    peer.take()
    (error,) = peer.ask(subscribe(1, "a"))
    assert isinstance(error, Error)
    assert (error.code, error.id, error.retry_ms) == ("overloaded", 1, FULL_RETRY_MS)
    assert (peer.machine.state, peer.parted) == (State.LAPSED, None)


def test_every_failure_is_answered() -> None:
    peer = World().opened()
    for number, kind in enumerate(ERRORS_BY_CODE.values()):
        peer.hear(subscribe(number, "a"))
        peer.fail(kind("so it is"))
        assert peer.take() == [Error(kind.code, "so it is", number)]
