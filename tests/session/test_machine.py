"""Each message and each event of the node in each state; then hello, poll, publish, unsubscribe and bye one by one."""

import gc
from collections.abc import Callable

import pytest

from softstate.errors import Invalid, Overloaded, Rewound, Unavailable
from softstate.lease.principals import FULL_RETRY_MS
from softstate.model import Change, Page
from softstate.position import Position
from softstate.session import Read, Send, State, Submit
from softstate.session.state import TTL_MS_MIN
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import (
    ClientBye,
    ClientMessage,
    Error,
    Hello,
    Notify,
    Poll,
    Polled,
    PositionMoved,
    Publish,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from tests.kit.session_rig import TERMS, TTL_S, Peer, SessionRig, kinds, renew, split_known, subscribe


def in_state(rig: SessionRig, state: State) -> Peer:
    """Bring a connection, of a session that held `a`, into a state."""
    if state in (State.NEW, State.GREETING):
        peer = rig.connect()
        if state is State.GREETING:
            peer.receive(Hello())
    else:
        peer = rig.open_session("a")
        if state is State.LAPSED:
            peer.carry_out(peer.machine.revoked("expired"))
        elif state is State.ENDED:
            peer.receive(ClientBye())
    peer.take()
    assert peer.machine.state is state
    return peer


MESSAGES: dict[str, ClientMessage] = {
    "hello": Hello(),
    "subscribe": subscribe(1, "b"),
    "subscribe_all": subscribe(1, "b", replace=True),
    "unsubscribe": Unsubscribe(["a"]),
    "renew": renew(2, "a"),
    "poll": Poll(3, topics={"a": 0}),
    "publish": Publish(4, "a", value=1),
    "bye": ClientBye(),
}

# Messages written, the state afterwards, the close code. In GREETING a message is answered behind the welcome.
TABLE = {
    (State.GREETING, "hello"): (["Welcome", "invalid"], State.OPEN, None),
    (State.GREETING, "subscribe"): (["Welcome", "Subscribed"], State.OPEN, None),
    (State.GREETING, "subscribe_all"): (["Welcome", "Subscribed"], State.OPEN, None),
    (State.GREETING, "unsubscribe"): (["Welcome"], State.OPEN, None),
    (State.GREETING, "renew"): (["Welcome", "Renewed"], State.OPEN, None),
    (State.GREETING, "poll"): (["Welcome", "Polled"], State.OPEN, None),
    (State.GREETING, "publish"): (["Welcome"], State.OPEN, None),
    (State.GREETING, "bye"): (["Welcome"], State.ENDED, CloseCode.DRAINING),
    (State.NEW, "hello"): (["Welcome"], State.OPEN, None),
    **{(State.NEW, m): (["invalid"], State.ENDED, CloseCode.PROTOCOL) for m in MESSAGES if m != "hello"},
    (State.OPEN, "hello"): (["invalid"], State.OPEN, None),
    (State.OPEN, "subscribe"): (["Subscribed"], State.OPEN, None),
    (State.OPEN, "subscribe_all"): (["Subscribed"], State.OPEN, None),
    (State.OPEN, "unsubscribe"): ([], State.OPEN, None),
    (State.OPEN, "renew"): (["Renewed"], State.OPEN, None),
    (State.OPEN, "poll"): (["Polled"], State.OPEN, None),
    (State.OPEN, "publish"): ([], State.OPEN, None),
    (State.OPEN, "bye"): ([], State.ENDED, CloseCode.DRAINING),
    (State.LAPSED, "hello"): (["invalid"], State.LAPSED, None),
    (State.LAPSED, "subscribe"): (["no_lease"], State.LAPSED, None),
    (State.LAPSED, "subscribe_all"): (["Subscribed"], State.OPEN, None),
    (State.LAPSED, "unsubscribe"): ([], State.LAPSED, None),
    (State.LAPSED, "renew"): (["no_lease"], State.LAPSED, None),
    (State.LAPSED, "poll"): (["Polled"], State.LAPSED, None),
    (State.LAPSED, "publish"): ([], State.LAPSED, None),
    (State.LAPSED, "bye"): ([], State.ENDED, CloseCode.DRAINING),
    **{(State.ENDED, m): ([], State.ENDED, CloseCode.DRAINING) for m in MESSAGES},
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == {(state, m) for state in State for m in MESSAGES}


@pytest.mark.parametrize(("state", "message"), TABLE)
def test_table(state: State, message: str) -> None:
    rig = SessionRig()
    rig.push("a")
    peer = in_state(rig, state)
    peer.carry_out(peer.machine.received(MESSAGES[message], rig.now))
    written, after, code = TABLE[state, message]
    assert kinds(peer.serve()) == written
    assert peer.machine.state is after
    assert (peer.closed.code if peer.closed else None) == code
    assert peer.submitted == (
        [MESSAGES["publish"]] if message == "publish" and after in (State.OPEN, State.LAPSED) else []
    )
    assert peer.machine.gap_buffer is None or after is State.OPEN
    if after is State.ENDED:
        assert rig.table.statistics().attached == 0


@pytest.mark.parametrize("message", ["hello", "subscribe", "renew", "poll"])
def test_while_the_store_is_asked_nothing_else_is_read(message: str) -> None:
    rig = SessionRig()
    peer = in_state(rig, State.NEW if message == "hello" else State.OPEN)
    peer.receive(MESSAGES[message], *([subscribe(5, "b")] if message == "hello" else []))
    assert peer.machine.busy
    with pytest.raises(AssertionError):
        peer.machine.received(ClientBye(), rig.now)
    peer.serve()
    assert not peer.machine.busy


NODE: dict[str, Callable[[Peer], object]] = {
    "expired": lambda peer: peer.carry_out(peer.machine.revoked("expired", 0)),
    "slow": lambda peer: peer.carry_out(peer.machine.revoked("slow_consumer", 5)),
    "denied": lambda peer: peer.carry_out(peer.machine.revoked("denied")),
    "moved": lambda peer: peer.carry_out(peer.machine.moved(peer.rig.position())),
    "replaced": lambda peer: peer.carry_out(peer.machine.leave("replaced")),
    "draining": lambda peer: peer.carry_out(peer.machine.leave("draining", 7)),
    "rewound": lambda peer: peer.carry_out(peer.machine.leave("rewound")),
    "idle": lambda peer: peer.carry_out(peer.machine.leave("idle")),
    "refused": lambda peer: peer.carry_out(peer.machine.refuse(Overloaded("full"), CloseCode.OVERLOADED)),
    "disconnected": lambda peer: peer.machine.disconnected(),
}
LEAVES = {
    "replaced": CloseCode.DROP_SESSION,
    "draining": CloseCode.DRAINING,
    "rewound": CloseCode.DROP_SESSION,
    "idle": CloseCode.IDLE,
    "refused": CloseCode.OVERLOADED,
    "disconnected": None,
}


@pytest.mark.parametrize("event", NODE)
@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_each_event_of_the_node_in_each_state(state: State, event: str) -> None:
    rig = SessionRig()
    peer = in_state(rig, state)
    NODE[event](peer)
    written = kinds(peer.take())
    if event in LEAVES:
        assert written == {"refused": ["overloaded"], "disconnected": []}.get(event, ["ServerBye"])
        assert (peer.closed.code if peer.closed else None) == LEAVES[event]
        assert peer.machine.state is State.ENDED
        assert not peer.machine.busy
        assert peer.machine.gap_buffer is None
        lives = state is State.OPEN and event in ("draining", "refused", "disconnected")
        assert rig.table.statistics().sessions == (1 if lives or (state, event) == (State.OPEN, "replaced") else 0)
    elif event == "moved":
        assert written == (["PositionMoved"] if state in (State.OPEN, State.LAPSED) else [])
    else:
        assert written == (["Revoked"] if state is State.OPEN else [])
        assert peer.machine.state is (State.LAPSED if state is State.OPEN else state)
        assert (peer.machine.pending is not None) is (state is State.GREETING)


@pytest.mark.parametrize("event", NODE)
def test_an_ended_session_ignores_every_event(event: str) -> None:
    rig = SessionRig()
    peer = in_state(rig, State.ENDED)
    NODE[event](peer)
    assert peer.take() == []
    assert peer.machine.state is State.ENDED


@pytest.mark.parametrize("state", [State.NEW, State.OPEN, State.LAPSED, State.ENDED])
def test_a_message_that_cannot_be_decoded_ends_a_connection_that_has_just_begun(state: State) -> None:
    rig = SessionRig()
    peer = in_state(rig, state)
    peer.carry_out(peer.machine.unreadable(Invalid("no map")))
    assert peer.take() == ([] if state is State.ENDED else [Error("invalid", "no map")])
    assert peer.machine.state is (State.ENDED if state is State.NEW else state)
    if state is State.NEW:
        assert peer.closed is not None
        assert peer.closed.code == CloseCode.PROTOCOL


def test_answers_that_come_late_are_ignored() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.receive(subscribe(1, "b"))
    assert isinstance(peer.reading, Read)
    old = peer.reading.ticket
    assert peer.machine.expects(old)
    peer.carry_out(peer.machine.revoked("expired"))
    assert not peer.machine.expects(old)
    machine, position = peer.machine, rig.position()
    peer.receive(subscribe(2, "c"))
    for ticket in (old, 99):
        assert machine.caught_up(ticket, position, 0, rig.now) == []
        assert machine.failed(ticket, Unavailable("no"), position, 0, rig.now) == []
        assert not machine.expects(ticket)
    peer.serve()
    assert machine.failed(old, Unavailable("no"), position, 0, rig.now) == []


# hello ---------------------------------------------------------------------------------------------------------------


def test_welcome_says_everything() -> None:
    rig = SessionRig()
    revision = rig.commit("a")
    peer = rig.connect()
    (welcome,) = peer.ask(Hello(name="me"))
    assert welcome == Welcome(
        session="t1",
        resumed=False,
        node="n1",
        position=rig.position(revision),
        ttl_ms=10_000,
        renew_ms=3_333,
        timeout_ms=2_000,
        poll=TERMS.poll,
        recover=TERMS.recover,
        limits=TERMS.limits,
        durability=TERMS.durability,
        level=3,
        clock_ms=100_000,
    )
    lease = rig.table.get("t1")
    assert lease is not None
    assert lease.name == "me"
    assert lease.sink is peer
    assert lease.deadline == rig.now + TTL_S * 1.1


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 10_000), (0, TTL_MS_MIN), (5_000, 5_000), (10_000, 10_000), (99_000, 10_000)]
)
def test_the_client_may_ask_for_a_shorter_lease(asked: int | None, given: int) -> None:
    (welcome,) = SessionRig().connect().ask(Hello(ttl_ms=asked))
    assert isinstance(welcome, Welcome)
    assert welcome.ttl_ms == given
    assert welcome.renew_ms == given // 3


@pytest.mark.parametrize("seen", [Position("e", "l9", 1), Position("other", "l1", 1), Position("e", "l1", 99)])
def test_a_position_off_the_history_resets_this_client(seen: Position) -> None:
    rig = SessionRig()
    (welcome,) = rig.connect().ask(Hello(seen))
    assert isinstance(welcome, Welcome)
    assert welcome.reset is True
    assert not welcome.resumed
    assert welcome.position == rig.position()
    assert rig.repairs == {"reset": 1}


def test_a_position_on_the_history_does_not() -> None:
    rig = SessionRig()
    rig.commit("a")
    rig.commit_lineage_row()
    (welcome,) = rig.connect().ask(Hello(Position("e", "l1", 2)))
    assert isinstance(welcome, Welcome)
    assert welcome.reset is not True
    assert rig.repairs == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("down", retry_ms=5), CloseCode.UNAVAILABLE),
        (Overloaded("crowd", retry_ms=5), CloseCode.OVERLOADED),
        (Rewound("where to?", retry_ms=5), CloseCode.UNAVAILABLE),
    ],
)
def test_hello_without_a_store_is_refused(error: Unavailable | Overloaded | Rewound, code: CloseCode) -> None:
    peer = SessionRig().connect()
    peer.receive(Hello())
    peer.fail_read(error)
    assert peer.take() == [Error(error.code, error.message, retry_ms=5)]
    assert peer.closed is not None
    assert peer.closed.code == code


def test_a_full_table_refuses_hello() -> None:
    rig = SessionRig(sessions_max=1)
    rig.open_session()
    peer = rig.connect()
    (error,) = peer.ask(Hello())
    assert isinstance(error, Error)
    assert error.code == "overloaded"
    assert error.retry_ms == FULL_RETRY_MS
    assert peer.closed is not None
    assert peer.closed.code == CloseCode.OVERLOADED
    assert rig.table.statistics().sessions == 1


def test_a_lineage_row_that_passes_during_hello_follows_the_welcome() -> None:
    rig = SessionRig()
    peer = rig.connect()
    peer.receive(Hello())
    peer.begin()
    row = rig.commit_lineage_row()
    rig.feed()
    peer.deliver()
    welcome, moved = peer.take()
    assert isinstance(welcome, Welcome)
    assert moved == PositionMoved(row)


def test_a_later_lineage_row_replaces_the_one_that_waits_behind_the_welcome() -> None:
    rig = SessionRig()
    peer = rig.connect()
    peer.stalled = True
    peer.receive(Hello())
    peer.begin()
    rig.commit_lineage_row()
    rig.feed()
    peer.deliver()
    row = rig.commit_lineage_row()
    rig.feed()
    peer.stalled = False
    peer.flush()
    welcome, moved = peer.take()
    assert isinstance(welcome, Welcome)
    assert moved == PositionMoved(row)


def test_a_lineage_row_that_the_welcome_covers_is_not_told() -> None:
    rig = SessionRig()
    peer = rig.connect()
    rig.commit_lineage_row()
    peer.receive(Hello())
    rig.feed()
    assert kinds(peer.serve()) == ["Welcome"]


def test_a_lineage_row_goes_ahead_of_everything_pending() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.stalled = True
    rig.push("a")
    row = rig.commit_lineage_row()
    rig.feed()
    peer.stalled = False
    peer.flush()
    assert peer.take() == [PositionMoved(row), Notify("a", 2)]


# poll, publish, unsubscribe, bye -------------------------------------------------------------------------------------


def test_a_poll_answers_what_differs_and_touches_no_lease() -> None:
    rig = SessionRig()
    rig.push("a", "b", "p/x", "p/y")
    peer = rig.open_session()
    rig.commit("a", cbor=None)
    assert peer.ask(Poll(1, topics={"a": 2, "b": 3, "c": 0}, prefixes={"p/": 4})) == [
        Polled(1, rig.position(), [Change("p/y", 5), Change("a", 6, deleted=True)], next_ms=15_000)
    ]
    assert peer.machine.lease is not None
    assert peer.machine.lease.count == 0


def test_a_long_poll_answer_comes_in_pages() -> None:
    rig = SessionRig(page_limit=2)
    rig.push("p/a", "p/b", "p/c")
    peer = rig.open_session()
    first, last = peer.ask(Poll(1, prefixes={"p/": 0}))
    assert first == Polled(1, rig.position(), [Change("p/a", 2), Change("p/b", 3)], more=True)
    assert last == Polled(1, rig.position(), [Change("p/c", 4)], next_ms=15_000)


def test_a_poll_that_asks_for_more_than_there_is_waits_and_is_told_so() -> None:
    rig = SessionRig()
    peer = rig.open_session()
    [read] = peer.machine.received(Poll(0, topics={"a": 0}, min_revision=2), rig.now)
    assert isinstance(read, Read)
    assert read.at_least == 2
    [reply] = peer.machine.answered(read.ticket, Page(rig.position(), 0), rig.now)
    assert isinstance(reply, Send)
    assert isinstance(reply.message, Error)
    [read] = peer.machine.received(Poll(0, topics={"a": 0}), rig.now)
    assert isinstance(read, Read)
    assert read.at_least == 0
    peer.machine.answered(read.ticket, Page(rig.position(), 0), rig.now)
    (error,) = peer.ask(Poll(1, topics={"a": 0}, min_revision=2))
    assert isinstance(error, Error)
    assert error.code == "behind"
    assert error.id == 1
    assert error.retry_ms == 200
    rig.commit("a")
    assert kinds(peer.ask(Poll(2, topics={"a": 0}, min_revision=2))) == ["Polled"]


@pytest.mark.parametrize(
    "poll", [Poll(1, Position("e", "l7", 1), {"a": 0}), Poll(1, topics={"a": 5}), Poll(1, prefixes={"p/": 5})]
)
def test_a_poll_off_the_history_is_rewound(poll: Poll) -> None:
    rig = SessionRig()
    (error,) = rig.open_session().ask(poll)
    assert isinstance(error, Error)
    assert error.code == "rewound"
    assert error.id == 1
    assert error.position == rig.position()


@pytest.mark.parametrize("request_", [Poll, Subscribe])
@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"": 0}, "invalid"),
        ({"a//": 0}, "invalid"),
        ({f"t{n}": 0 for n in range(9)}, "too_large"),
        ({f"t{n}": 0 for n in range(8)}, None),
    ],
)
def test_names_are_checked(request_: type[Poll] | type[Subscribe], names: dict[str, int], code: str | None) -> None:
    topics, prefixes = split_known(names)
    (reply,) = SessionRig().open_session().ask(request_(1, topics=topics, prefixes=prefixes))
    assert (reply.code if isinstance(reply, Error) else None) == code
    assert isinstance(reply, Error | Polled | Subscribed)
    assert reply.id == 1


def test_publishes_are_handed_on() -> None:
    peer = SessionRig().open_session()
    message = Publish(1, "a", value=2, expect=0, key="k")
    assert peer.machine.received(message, 100.0) == [Submit(message)]
    assert not peer.machine.busy


def test_unsubscribing_ends_the_pushes() -> None:
    rig = SessionRig()
    peer = rig.open_session("a", "p/")
    peer.receive(Unsubscribe(["a", "never"], ["p/", "nor/"]))
    rig.push("a", "p/x")
    assert peer.take() == []
    assert rig.table.statistics().subscriptions == 0


def test_bye_releases_the_lease_at_once() -> None:
    rig = SessionRig()
    peer = rig.open_session("a")
    peer.receive(ClientBye())
    assert rig.table.statistics().sessions == 0
    assert peer.machine.gap_buffer is None


def test_an_ended_session_does_not_lead_back_to_its_connection() -> None:
    """Else each would wait for the garbage collector, whose full passes are rare on a node."""
    peer = SessionRig().connect()
    assert peer in gc.get_referents(peer.machine)
    peer.machine.disconnected()
    assert peer not in gc.get_referents(peer.machine)
