"""Leases outlive connections: resuming, being replaced, and everything for which a session is new instead."""

import pytest

from softstate.errors import Unavailable
from softstate.position import Position
from softstate.session import State
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import ClientBye, Error, Hello, Message, Notify, PositionMoved, Renewed, ServerBye, Welcome
from tests.kit.session_rig import Peer, World, pushed, renew, subscribe


def resuming(world: World, since: int, seen: Position | None = None) -> Hello:
    return Hello(seen or world.position(since), "t1", since)


def welcome(messages: list[Message]) -> Welcome:
    assert isinstance(messages[0], Welcome)
    return messages[0]


def lost(world: World, *names: str) -> Peer:
    """Lose a connection whose session lives on, certified up to the head."""
    peer = world.opened(*names)
    peer.lose()
    return peer


def test_a_lost_connection_leaves_a_lease_with_its_names_and_nothing_else() -> None:
    world = World()
    peer = lost(world, "a", "p/")
    lease = world.table.get("t1")
    assert lease is not None
    assert (list(lease.names), lease.sink, peer.machine.gap_buffer) == (["a", "p/"], None, None)
    world.push("a")
    world.now += 11.25
    world.sweep()
    assert world.table.statistics().sessions == 0


def test_resuming_replays_what_was_missed_in_one_turn() -> None:
    world = World()
    world.push("a", "b")
    lost(world, "a", "p/")
    since = world.hub
    world.push("a", "b", "p/x", "a")
    world.push("p/x", cbor=None)
    peer = world.connect()
    greeted, *replay = peer.ask(resuming(world, since))
    assert isinstance(greeted, Welcome)
    assert (greeted.session, greeted.resumed, greeted.position) == ("t1", True, world.position())
    assert replay == [Notify("a", 7), Notify("p/x", 8, deleted=True)]
    (renewed,) = peer.ask(renew(1, "a", "p/"))
    assert isinstance(renewed, Renewed)
    assert (renewed.match, renewed.sent) == (True, 2)
    assert world.repairs == {"resumed": 1}


def test_pushes_during_a_resumption_are_held_and_released_once() -> None:
    world = World()
    lost(world, "/")
    since = world.hub
    peer = world.connect()
    peer.hear(resuming(world, since))
    world.push("a")
    world.commit("b")
    peer.begin()
    row = world.row()
    world.commit("c")
    world.feed(4)
    assert peer.take() == []
    peer.deliver()
    world.feed()
    greeted, *rest = peer.take()
    assert isinstance(greeted, Welcome)
    assert greeted.position == world.position(3)
    assert rest == [PositionMoved(row), *pushed(("a", 2), ("b", 3), ("c", 5))]


def test_resuming_extends_the_lease_before_any_read() -> None:
    world = World()
    lost(world, "a")
    world.now += 10.9
    peer = world.connect()
    peer.hear(Hello(world.position(), "t1", 1, ttl_ms=5_000))
    lease = world.table.get("t1")
    assert lease is not None
    assert (lease.ttl_s, lease.deadline) == (5.0, world.now + 5.5)
    assert welcome(peer.serve()).ttl_ms == 5_000


def test_nothing_missed_is_nothing_replayed() -> None:
    world = World()
    lost(world, "a")
    assert len(world.connect().ask(resuming(world, world.hub))) == 1


@pytest.mark.parametrize(
    "hello",
    [
        Hello(Position("e", "l1", 2), "t1"),
        Hello(Position("e", "l1", 2), "t1", 0),
        Hello(None, "t1", 2),
        Hello(Position("e", "l1", 2), "t2", 2),
        Hello(Position("e", "l1", 2), None, 2),
        Hello(Position("e", "l1", 1), "t1", 2),
    ],
)
def test_without_all_it_takes_the_session_is_new_and_empty(hello: Hello) -> None:
    world = World()
    world.push("a")
    lost(world, "a")
    peer = world.connect()
    greeted = welcome(peer.ask(hello))
    assert (greeted.session, greeted.resumed) == ("t2", False)
    lease = peer.machine.lease
    assert lease is not None
    assert (lease.count, lease.sink) == (0, peer)


@pytest.mark.parametrize("names", [("a",), ("/",)])
def test_below_the_floor_the_session_is_new(names: tuple[str, ...]) -> None:
    world = World()
    world.push("a")
    lost(world, *names)
    since = world.hub
    world.push("x")
    world.push("x", cbor=None)
    world.image.compact(tombstones=world.hub, keys=0)
    (greeted,) = world.connect().ask(resuming(world, since))
    assert isinstance(greeted, Welcome)
    assert not greeted.resumed
    assert world.table.get("t1") is None
    assert world.repairs == {"not_resumed": 1}


def test_at_the_floor_the_session_is_resumed() -> None:
    world = World()
    world.push("x")
    since = world.push("x", cbor=None)
    lost(world, "/")
    world.image.compact(tombstones=since, keys=0)
    assert world.image.floor == since
    assert welcome(world.connect().ask(resuming(world, since))).resumed


@pytest.mark.parametrize(("changes", "resumed"), [(4, True), (5, False)])
def test_only_so_many_changes_are_replayed(changes: int, resumed: bool) -> None:
    world = World(held_max=4)
    lost(world, "/")
    since = world.hub
    world.push(*(f"t{n}" for n in range(changes)))
    greeted, *replay = world.connect().ask(resuming(world, since))
    assert isinstance(greeted, Welcome)
    assert (greeted.resumed, len(replay)) == (resumed, changes if resumed else 0)


def test_a_hold_that_overflows_makes_the_session_new() -> None:
    world = World(held_max=2)
    lost(world, "/")
    peer = world.connect()
    peer.hear(resuming(world, world.hub))
    peer.begin()
    world.push("a", "b", "c")
    peer.deliver()
    (greeted,) = peer.take()
    assert isinstance(greeted, Welcome)
    assert not greeted.resumed
    assert peer.machine.gap_buffer is None
    world.push("a")
    assert peer.take() == []


def test_a_lease_that_is_over_but_not_found_is_not_resumed() -> None:
    world = World()
    lost(world, "a")
    since = world.hub
    world.now += 11.01
    peer = world.connect()
    assert not welcome(peer.ask(resuming(world, since))).resumed
    world.sweep()
    assert peer.take() == []
    assert world.table.statistics().sessions == 1


@pytest.mark.parametrize("how", ["over", "expired", "amnesia", "overloaded"])
def test_a_lease_that_ends_during_its_resumption_is_not_resumed(how: str) -> None:
    world = World()
    lost(world, "a")
    peer = world.connect()
    peer.hear(resuming(world, world.hub))
    peer.begin()
    if how == "amnesia":
        world.amnesia(peer)
    elif how == "overloaded":
        peer.carry_out(peer.machine.revoked("overloaded", 0))
    else:
        world.now += 11.5
        if how == "expired":
            world.sweep()
    world.push("a")
    peer.deliver()
    (greeted,) = peer.take()
    assert isinstance(greeted, Welcome)
    assert (greeted.session, greeted.resumed) == ("t2", False)
    assert world.table.get("t1") is None
    assert (peer.machine.state, peer.machine.gap_buffer) == (State.OPEN, None)


def test_a_position_off_the_history_resets_and_ends_the_session() -> None:
    world = World()
    lost(world, "a")
    greeted = welcome(world.connect().ask(Hello(Position("e", "other", 1), "t1", 1)))
    assert (greeted.reset, greeted.resumed) == (True, False)
    assert world.table.get("t1") is None
    assert world.repairs == {"not_resumed": 1, "reset": 1}


@pytest.mark.parametrize("full", [False, True])
def test_a_resumption_that_fails_leaves_the_lease_for_the_next(full: bool) -> None:
    world = World(sessions_max=1 if full else 9)
    lost(world, "a")
    since = world.hub
    peer = world.connect()
    peer.hear(resuming(world, since))
    peer.fail(Unavailable("down"))
    (error,) = peer.take()
    assert isinstance(error, Error)
    assert peer.parted is not None
    assert peer.parted.code == CloseCode.UNAVAILABLE
    lease = world.table.get("t1")
    assert lease is not None
    assert lease.sink is None
    world.push("a")
    assert len(world.connect().ask(resuming(world, since))) == 2


# Two connections, one session ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [None, "subscribe", "renew", "hello"])
def test_resuming_ends_the_older_connection(busy: str | None) -> None:
    world = World()
    old = world.opened("a")
    since = world.hub
    if busy == "hello":
        old.lose()
        old = world.connect()
        old.hear(resuming(world, since))
    elif busy:
        old.hear(subscribe(1, "b") if busy == "subscribe" else renew(1, "a"))
    late = old.asking
    new = world.connect()
    new.hear(resuming(world, since))
    assert old.take() == [ServerBye("replaced", 0, 700)]
    assert old.parted is not None
    assert old.parted.code == CloseCode.DROP_SESSION
    assert welcome(new.serve()).resumed
    # What the older one still does touches the session no more.
    if late is not None:
        old.fail(Unavailable("late"))
    machine = old.machine
    assert machine.received(ClientBye(), world.now) == []
    assert machine.leave("rewound") == machine.leave("idle") == machine.revoked("expired") == []
    machine.disconnected()
    world.push("a")
    assert (old.take(), new.take()) == ([], pushed(("a", 2)))
    lease = world.table.get("t1")
    assert lease is not None
    assert lease.sink is new


def test_a_connection_that_was_lost_cannot_end_a_session_that_was_resumed() -> None:
    world = World()
    old = lost(world, "a")
    new = world.connect()
    new.ask(resuming(world, world.hub))
    assert old.machine.leave("rewound") == []
    old.machine.disconnected()
    world.push("a")
    assert new.take() == pushed(("a", 2))


def test_three_in_a_row() -> None:
    world = World()
    first = world.opened("a")
    second, third = world.connect(), world.connect()
    second.hear(resuming(world, world.hub))
    third.hear(resuming(world, world.hub))
    assert first.take() == second.take() == [ServerBye("replaced", 0, 700)]
    assert welcome(third.serve()).resumed
    assert world.table.statistics().attached == 1
