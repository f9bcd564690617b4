"""Requests with many names are dealt with a portion a turn, and anything may happen between two portions."""

from collections.abc import Callable, Iterable

import pytest

from softstate.errors import Unavailable
from softstate.lease import Lease, LeaseTable
from softstate.session import Read, State, Turn
from softstate.session.request import FREE_FRACTION, NAMES_PER_TURN
from softstate.wire.messages import (
    ClientBye,
    ClientMessage,
    Error,
    Hello,
    Message,
    Notify,
    Poll,
    Polled,
    Renewed,
    Revoked,
    ServerBye,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.session_rig import Peer, SessionRig, kinds, pushed, renew, subscribe

TOPICS = ["a", "b", "c", "d", "e"]
MANY = [f"t{number}" for number in range(2 * NAMES_PER_TURN + 1)]


def small_turns(**options: int) -> SessionRig:
    """Make a rig whose turns deal with two names."""
    return SessionRig(names_per_turn=2, **options)


def held(peer: Peer) -> list[str]:
    assert peer.machine.lease is not None
    return list(peer.machine.lease.names)


def code(messages: list[Message]) -> str:
    (error,) = messages
    assert isinstance(error, Error)
    return error.code


# How many names a turn deals with ------------------------------------------------------------------------------------


class Counted:
    """Counts the names that the lease table and the checks deal with since the last look."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names = 0
        for kind, method in ((LeaseTable, "add"), (LeaseTable, "remove")):
            patch.setattr(kind, method, self._counted(getattr(kind, method)))
        for check in ("check_topics", "check_prefixes"):
            patch.setattr(f"softstate.session.state.{check}", self._checked)

    def _counted(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(table: LeaseTable, lease: Lease, names: Iterable[str]) -> object:
            names = list(names)
            self.names += len(names)
            return method(table, lease, names)

        return counted

    def _checked(self, names: Iterable[str]) -> None:
        self.names += len(list(names))

    def take(self) -> int:
        names, self.names = self.names, 0
        return names


def turns_of(peer: Peer, message: ClientMessage, counted: Counted) -> list[int]:
    """Let a peer take a message, and begin turns until no more are asked for; return the names of each turn."""
    counted.take()
    peer.receive(message)
    assert counted.take() == 0
    found = []
    while peer.turn is not None:
        announced = peer.turn.names
        peer.take_turn()
        found.append(counted.take())
        assert announced == found[-1]
    return found


def test_no_turn_deals_with_more_names_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    rig = SessionRig(names_max=len(MANY))
    peer = rig.open_session()
    full, rest = NAMES_PER_TURN, 1
    assert turns_of(peer, subscribe(1, *MANY), counted) == [full, full, rest] * 2
    assert isinstance(peer.reading, Read)
    assert kinds(peer.serve()) == ["Subscribed"]
    replacing = subscribe(2, *MANY[:1], *(f"u{number}" for number in range(full)), replace=True)
    assert turns_of(peer, replacing, counted) == [full, rest, full, full, full, rest]
    peer.serve()
    assert turns_of(peer, Poll(3, topics=dict.fromkeys(MANY, 0)), counted) == [full, full, rest]
    peer.serve()
    assert turns_of(peer, Unsubscribe(held(peer)), counted) == [full, rest]
    assert held(peer) == []
    assert turns_of(peer, Unsubscribe(MANY), counted) == [full, full, rest]


def test_a_failed_subscribe_leaves_in_portions_and_is_answered_then(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    rig = SessionRig(names_max=len(MANY))
    peer = rig.open_session("x")
    peer.receive(subscribe(1, *MANY[:-1]))
    while peer.turn is not None:
        peer.take_turn()
    peer.fail_read(Unavailable("down"))
    for left in (NAMES_PER_TURN, 0):
        counted.take()
        assert peer.take() == []
        peer.take_turn()
        assert counted.take() == NAMES_PER_TURN
        assert held(peer) == ["x", *MANY[NAMES_PER_TURN : NAMES_PER_TURN + left]]
    assert code(peer.take()) == "unavailable"


def test_a_request_with_few_names_asks_for_no_turn() -> None:
    few = NAMES_PER_TURN // FREE_FRACTION
    rig = SessionRig(names_max=few + 1)
    peer = rig.open_session()
    peer.receive(subscribe(1, *MANY[:few]))
    assert isinstance(peer.reading, Read)
    peer.serve()
    peer.receive(subscribe(2, *MANY[: few + 1]))
    assert isinstance(peer.turn, Turn)
    assert peer.turn.names == few + 1


def test_a_lease_that_ends_costs_the_same_whatever_it_holds() -> None:
    rig = SessionRig(names_max=len(MANY))
    for end in ("bye", "revoked", "rewound", "expired"):
        peer = rig.open_session(*MANY)
        lease = peer.machine.lease
        assert lease is not None
        before = lease.count
        if end == "expired":
            rig.now += 11.5
            assert rig.table.expire(rig.now) == [lease]
        elif end == "bye":
            peer.receive(ClientBye())
        elif end == "rewound":
            peer.carry_out(peer.machine.leave("rewound"))
        else:
            peer.carry_out(peer.machine.revoked("slow_consumer"))
        assert before - lease.count <= 1
        while rig.table.reapable:
            assert rig.table.reap(NAMES_PER_TURN) <= NAMES_PER_TURN
        assert rig.table.statistics().subscriptions == 0


# In the midst of a subscribe -----------------------------------------------------------------------------------------


def begun(rig: SessionRig, message: Subscribe, turns: int, *before: str) -> Peer:
    """Open a session that holds `before`, and let it begin a subscribe: so many portions of two names."""
    peer = rig.open_session(*before)
    peer.receive(message)
    for _ in range(turns):
        peer.take_turn()
    return peer


def test_the_read_begins_when_all_names_are_in_the_lease() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), 3)
    assert held(peer) == []
    for count in (2, 4, 5):
        assert peer.reading is None
        peer.take_turn()
        assert held(peer) == TOPICS[:count]
    assert isinstance(peer.reading, Read)
    assert peer.reading.query.topics == dict.fromkeys(TOPICS, 0)


def test_a_push_in_between_is_held_back_or_read() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), 4)
    rig.push("a", "e")
    peer.take_turn()
    rig.push("b")
    peer.take_turn()
    assert peer.take() == []
    peer.begin()
    rig.push("b", "e")
    peer.deliver()
    subscribed, *pushes = peer.take()
    assert isinstance(subscribed, Subscribed)
    assert [change.topic for change in subscribed.changes] == ["a", "e", "b"]
    assert pushes == pushed(("b", 5), ("e", 6))
    assert subscribed.digest == digest_text(digest_of(TOPICS))


def test_a_topic_that_an_older_name_covers_is_pushed_between_portions() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, "p/a", "p/b", "c"), 3, "p/")
    assert held(peer) == ["p/", "p/a", "p/b"]
    rig.push("p/a", "c")
    assert peer.take() == pushed(("p/a", 2))


def test_replacing_pushes_what_stays_and_no_longer_what_left() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, "c", "d", "e", replace=True), 2, "a", "b", "c")
    rig.push("a", "c")
    assert peer.take() == pushed(("a", 2), ("c", 3))
    peer.take_turn()
    assert held(peer) == ["c"]
    rig.push("a", "c", "d")
    assert peer.take() == pushed(("c", 5))
    (subscribed,) = peer.serve()
    assert isinstance(subscribed, Subscribed)
    assert [change.topic for change in subscribed.changes] == ["c", "d"]
    assert subscribed.digest == digest_text(digest_of("cde"))


def test_requests_that_arrive_in_between_wait_for_the_answer() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), 4)
    assert peer.receive(renew(2, *TOPICS), subscribe(3, "f"), renew(4, *TOPICS, "f")) == []
    assert held(peer) == TOPICS[:2]
    answers = peer.serve()
    assert kinds(answers) == ["Subscribed", "Renewed", "Subscribed", "Renewed"]
    assert all(answer.match for answer in answers if isinstance(answer, Renewed))


def test_a_subscribe_extends_the_lease_when_it_arrives() -> None:
    rig = small_turns()
    peer = rig.open_session()
    rig.now += 9
    peer.receive(subscribe(1, *TOPICS))
    rig.now += 9
    rig.sweep()
    assert kinds(peer.serve()) == ["Subscribed"]


def test_a_lease_that_ends_in_between_is_not_resurrected() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), 4)
    old, stale = peer.machine.lease, peer.turn
    assert stale is not None
    rig.now += 11.5
    rig.sweep()
    assert peer.take() == [Revoked("expired", 0, 700)]
    assert not peer.machine.busy
    peer.take_turn()
    assert peer.take() == []
    assert old is not None
    assert old.count == 2
    peer.receive(subscribe(2, *TOPICS[:3], replace=True))
    assert peer.machine.turn_begun(stale.ticket) == []
    assert kinds(peer.serve()) == ["Subscribed"]
    assert held(peer) == TOPICS[:3]
    assert peer.machine.lease is not old
    while rig.table.reapable:
        rig.table.reap(1)
    assert rig.table.statistics().subscriptions == 3
    rig.push("a")
    assert peer.take() == pushed(("a", 2))


def test_another_connection_takes_the_session_over_in_between() -> None:
    """It finds a part of the names: the next renewal shows that."""
    rig = small_turns()
    rig.push("a")
    peer = begun(rig, subscribe(1, *TOPICS), 4)
    other = rig.connect()
    answers = other.ask(Hello(rig.position(), "t1", rig.hub))
    assert isinstance(answers[0], Welcome)
    assert answers[0].resumed
    assert isinstance(peer.take()[0], ServerBye)
    peer.take_turn()
    assert peer.take() == []
    assert held(other) == TOPICS[:2]
    (renewed,) = other.ask(renew(1, *TOPICS))
    assert isinstance(renewed, Renewed)
    assert not renewed.match


@pytest.mark.parametrize("turns", [0, 2, 4])
def test_a_connection_lost_in_between_leaves_the_names_that_entered(turns: int) -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), turns)
    lease = peer.machine.lease
    peer.lose()
    peer.take_turn()
    assert peer.written[peer.taken :] == []
    assert lease is not None
    assert list(lease.names) == TOPICS[: max(0, 2 * (turns - 3))]
    assert lease.sink is None


def test_pushes_of_a_failed_subscribe_are_held_back_until_its_names_have_left() -> None:
    rig = small_turns()
    peer = begun(rig, subscribe(1, *TOPICS), 6, "x")
    peer.fail_read(Unavailable("down"))
    rig.push("a", "e", "x")
    assert peer.take() == pushed(("x", 4))
    peer.take_turn()
    rig.push("e")
    assert code(peer.serve()) == "unavailable"
    assert held(peer) == ["x"]
    assert peer.machine.gap_buffer is None


def test_an_invalid_name_in_the_last_portion_is_answered_with_the_request() -> None:
    rig = small_turns()
    peer = rig.open_session("a")
    assert peer.ask(Poll(7, topics=dict.fromkeys([*TOPICS, "x//"], 0)))[0].id == 7  # type: ignore[attr-defined]
    (error,) = peer.ask(subscribe(8, *TOPICS, "x//y"))
    assert isinstance(error, Error)
    assert (error.code, error.id) == ("invalid", 8)
    assert held(peer) == []
    assert not peer.machine.busy


def test_a_poll_outlives_the_lease() -> None:
    rig = small_turns()
    peer = rig.open_session("a")
    peer.receive(Poll(1, topics=dict.fromkeys(TOPICS, 0)))
    peer.take_turn()
    peer.carry_out(peer.machine.revoked("overloaded", 0))
    assert peer.machine.state is State.LAPSED
    revoked, polled = peer.serve()
    assert isinstance(revoked, Revoked)
    assert isinstance(polled, Polled)


# In the midst of a resumption ----------------------------------------------------------------------------------------


def test_a_resumption_sorts_its_names_in_portions_and_misses_nothing() -> None:
    rig = small_turns()
    rig.push("a")
    peer = rig.open_session(*TOPICS, "p/")
    since = rig.hub
    peer.lose()
    rig.push("b")
    peer = rig.connect()
    peer.receive(Hello(rig.position(since), "t1", since))
    for _ in range(3):
        assert peer.turn is not None
        rig.push("c")
        peer.take_turn()
    peer.begin()
    rig.push("p/x")
    welcome, *replayed = peer.serve()
    assert isinstance(welcome, Welcome)
    assert welcome.resumed
    assert replayed == [Notify("b", 3), Notify("c", 6), Notify("p/x", 7)]


def test_a_lease_that_ends_during_its_resumption_is_not_resumed() -> None:
    rig = small_turns()
    rig.push("a")
    rig.open_session(*TOPICS).lose()
    peer = rig.connect()
    peer.receive(Hello(rig.position(), "t1", rig.hub))
    peer.take_turn()
    rig.now += 11.5
    rig.sweep()
    (welcome,) = peer.serve()
    assert isinstance(welcome, Welcome)
    assert not welcome.resumed
    assert held(peer) == []
