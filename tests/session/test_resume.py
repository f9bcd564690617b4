"""Leases outlive connections: resuming, being replaced, and everything for which a session is new instead."""

import pytest

from softstate.errors import Unavailable
from softstate.position import Position
from softstate.session import State
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import ClientBye, Error, Hello, Message, Notify, PositionMoved, Renewed, ServerBye, Welcome
from tests.kit.session_rig import Peer, SessionRig, pushed, renew, subscribe


def resuming(rig: SessionRig, since: int, seen: Position | None = None) -> Hello:
    return Hello(seen or rig.position(since), "t1", since)


def welcome(messages: list[Message]) -> Welcome:
    assert isinstance(messages[0], Welcome)
    return messages[0]


def lost(rig: SessionRig, *names: str) -> Peer:
    """Lose a connection whose session lives on, certified up to the head."""
    peer = rig.open_session(*names)
    peer.lose()
    return peer


def test_a_lost_connection_leaves_a_lease_with_its_names_and_nothing_else() -> None:
    rig = SessionRig()
    peer = lost(rig, "a", "p/")
    lease = rig.table.get("t1")
    assert lease is not None
    assert list(lease.names) == ["a", "p/"]
    assert lease.sink is None
    assert peer.machine.gap_buffer is None
    rig.push("a")
    rig.now += 11.25
    rig.sweep()
    assert rig.table.statistics().sessions == 0


def test_resuming_replays_what_was_missed_in_one_turn() -> None:
    rig = SessionRig()
    rig.push("a", "b")
    lost(rig, "a", "p/")
    since = rig.hub
    rig.push("a", "b", "p/x", "a")
    rig.push("p/x", cbor=None)
    peer = rig.connect()
    greeted, *replay = peer.ask(resuming(rig, since))
    assert isinstance(greeted, Welcome)
    assert greeted.session == "t1"
    assert greeted.resumed
    assert greeted.position == rig.position()
    assert replay == [Notify("a", 7), Notify("p/x", 8, deleted=True)]
    (renewed,) = peer.ask(renew(1, "a", "p/"))
    assert isinstance(renewed, Renewed)
    assert renewed.match
    assert renewed.sent == 2
    assert rig.repairs == {"resumed": 1}


def test_pushes_during_a_resumption_are_held_and_released_once() -> None:
    rig = SessionRig()
    lost(rig, "/")
    since = rig.hub
    peer = rig.connect()
    peer.receive(resuming(rig, since))
    rig.push("a")
    rig.commit("b")
    peer.begin()
    row = rig.commit_lineage_row()
    rig.commit("c")
    rig.feed(4)
    assert peer.take() == []
    peer.deliver()
    rig.feed()
    greeted, *rest = peer.take()
    assert isinstance(greeted, Welcome)
    assert greeted.position == rig.position(3)
    assert rest == [PositionMoved(row), *pushed(("a", 2), ("b", 3), ("c", 5))]


def test_resuming_extends_the_lease_before_any_read() -> None:
    rig = SessionRig()
    lost(rig, "a")
    rig.now += 10.9
    peer = rig.connect()
    peer.receive(Hello(rig.position(), "t1", 1, ttl_ms=5_000))
    lease = rig.table.get("t1")
    assert lease is not None
    assert lease.ttl_s == 5.0
    assert lease.deadline == rig.now + 5.5
    assert welcome(peer.serve()).ttl_ms == 5_000


def test_nothing_missed_is_nothing_replayed() -> None:
    rig = SessionRig()
    lost(rig, "a")
    assert len(rig.connect().ask(resuming(rig, rig.hub))) == 1


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
def test_a_hello_that_lacks_something_begins_a_new_and_empty_session(hello: Hello) -> None:
    rig = SessionRig()
    rig.push("a")
    lost(rig, "a")
    peer = rig.connect()
    greeted = welcome(peer.ask(hello))
    assert greeted.session == "t2"
    assert not greeted.resumed
    lease = peer.machine.lease
    assert lease is not None
    assert lease.count == 0
    assert lease.sink is peer


@pytest.mark.parametrize("names", [("a",), ("/",)])
def test_below_the_floor_the_session_is_new(names: tuple[str, ...]) -> None:
    rig = SessionRig()
    rig.push("a")
    lost(rig, *names)
    since = rig.hub
    rig.push("x")
    rig.push("x", cbor=None)
    rig.image.compact(tombstones=rig.hub, keys=0)
    (greeted,) = rig.connect().ask(resuming(rig, since))
    assert isinstance(greeted, Welcome)
    assert not greeted.resumed
    assert rig.table.get("t1") is None
    assert rig.repairs == {"not_resumed": 1}


def test_at_the_floor_the_session_is_resumed() -> None:
    rig = SessionRig()
    rig.push("x")
    since = rig.push("x", cbor=None)
    lost(rig, "/")
    rig.image.compact(tombstones=since, keys=0)
    assert rig.image.floor == since
    assert welcome(rig.connect().ask(resuming(rig, since))).resumed


@pytest.mark.parametrize(("changes", "resumed"), [(4, True), (5, False)])
def test_only_so_many_changes_are_replayed(changes: int, resumed: bool) -> None:
    rig = SessionRig(gap_topics_max=4)
    lost(rig, "/")
    since = rig.hub
    rig.push(*(f"t{n}" for n in range(changes)))
    greeted, *replay = rig.connect().ask(resuming(rig, since))
    assert isinstance(greeted, Welcome)
    assert greeted.resumed is resumed
    assert len(replay) == (changes if resumed else 0)


def test_a_gap_buffer_that_overflows_makes_the_session_new() -> None:
    rig = SessionRig(gap_topics_max=2)
    lost(rig, "/")
    peer = rig.connect()
    peer.receive(resuming(rig, rig.hub))
    peer.begin()
    rig.push("a", "b", "c")
    peer.deliver()
    (greeted,) = peer.take()
    assert isinstance(greeted, Welcome)
    assert not greeted.resumed
    assert peer.machine.gap_buffer is None
    rig.push("a")
    assert peer.take() == []


def test_a_lease_that_is_over_but_not_found_is_not_resumed() -> None:
    rig = SessionRig()
    lost(rig, "a")
    since = rig.hub
    rig.now += 11.01
    peer = rig.connect()
    assert not welcome(peer.ask(resuming(rig, since))).resumed
    rig.sweep()
    assert peer.take() == []
    assert rig.table.statistics().sessions == 1


@pytest.mark.parametrize("how", ["over", "expired", "amnesia", "overloaded"])
def test_a_lease_that_ends_during_its_resumption_is_not_resumed(how: str) -> None:
    rig = SessionRig()
    lost(rig, "a")
    peer = rig.connect()
    peer.receive(resuming(rig, rig.hub))
    peer.begin()
    if how == "amnesia":
        rig.forget_lease(peer)
    elif how == "overloaded":
        peer.carry_out(peer.machine.revoked("overloaded", 0))
    else:
        rig.now += 11.5
        if how == "expired":
            rig.sweep()
    rig.push("a")
    peer.deliver()
    (greeted,) = peer.take()
    assert isinstance(greeted, Welcome)
    assert greeted.session == "t2"
    assert not greeted.resumed
    assert rig.table.get("t1") is None
    assert peer.machine.state is State.OPEN
    assert peer.machine.gap_buffer is None


def test_a_position_off_the_history_resets_and_ends_the_session() -> None:
    rig = SessionRig()
    lost(rig, "a")
    greeted = welcome(rig.connect().ask(Hello(Position("e", "other", 1), "t1", 1)))
    assert greeted.reset is True
    assert not greeted.resumed
    assert rig.table.get("t1") is None
    assert rig.repairs == {"not_resumed": 1, "reset": 1}


@pytest.mark.parametrize("full", [False, True])
def test_a_resumption_that_fails_leaves_the_lease_for_the_next(full: bool) -> None:
    rig = SessionRig(sessions_max=1 if full else 9)
    lost(rig, "a")
    since = rig.hub
    peer = rig.connect()
    peer.receive(resuming(rig, since))
    peer.fail_read(Unavailable("down"))
    (error,) = peer.take()
    assert isinstance(error, Error)
    assert peer.closed is not None
    assert peer.closed.code == CloseCode.UNAVAILABLE
    lease = rig.table.get("t1")
    assert lease is not None
    assert lease.sink is None
    rig.push("a")
    assert len(rig.connect().ask(resuming(rig, since))) == 2


# Two connections, one session ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [None, "subscribe", "renew", "hello"])
def test_resuming_ends_the_older_connection(busy: str | None) -> None:
    rig = SessionRig()
    old = rig.open_session("a")
    since = rig.hub
    if busy == "hello":
        old.lose()
        old = rig.connect()
        old.receive(resuming(rig, since))
    elif busy:
        old.receive(subscribe(1, "b") if busy == "subscribe" else renew(1, "a"))
    late = old.reading
    new = rig.connect()
    new.receive(resuming(rig, since))
    assert old.take() == [ServerBye("replaced", 0, 700)]
    assert old.closed is not None
    assert old.closed.code == CloseCode.DROP_SESSION
    assert welcome(new.serve()).resumed
    # The older connection no longer touches the session.
    if late is not None:
        old.fail_read(Unavailable("late"))
    machine = old.machine
    assert machine.received(ClientBye(), rig.now) == []
    assert machine.leave("rewound") == machine.leave("idle") == machine.revoked("expired") == []
    machine.disconnected()
    rig.push("a")
    assert old.take() == []
    assert new.take() == pushed(("a", 2))
    lease = rig.table.get("t1")
    assert lease is not None
    assert lease.sink is new


def test_a_connection_that_was_lost_cannot_end_a_session_that_was_resumed() -> None:
    rig = SessionRig()
    old = lost(rig, "a")
    new = rig.connect()
    new.ask(resuming(rig, rig.hub))
    assert old.machine.leave("rewound") == []
    old.machine.disconnected()
    rig.push("a")
    assert new.take() == pushed(("a", 2))


def test_three_connections_resume_one_session_in_turn() -> None:
    rig = SessionRig()
    first = rig.open_session("a")
    second, third = rig.connect(), rig.connect()
    second.receive(resuming(rig, rig.hub))
    third.receive(resuming(rig, rig.hub))
    assert first.take() == second.take() == [ServerBye("replaced", 0, 700)]
    assert welcome(third.serve()).resumed
    assert rig.table.statistics().attached == 1
