"""One flight (P-CONN-16): what comes behind hello, without waiting for the welcome."""

from collections.abc import Callable

import pytest
from msgspec import UNSET

from softstate.errors import Invalid, Overloaded, RequestError, Unavailable
from softstate.model import Change, Page, Query
from softstate.position import Position
from softstate.session import Effect, Read, State
from softstate.session.greeting import join, keep_for_welcome, welcome
from softstate.session.request import PendingHello
from softstate.session.state import SessionCore
from softstate.session.subscription import subscribe_page
from softstate.wire.close_codes import CloseCode
from softstate.wire.messages import (
    ClientBye,
    Error,
    Hello,
    Poll,
    PositionMoved,
    Publish,
    Renewed,
    ServerBye,
    Subscribe,
    Subscribed,
    Welcome,
)
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.exhaustive.mutants import change_rules, joined_by_the_read_before
from tests.kit.session_rig import Peer, SessionRig, kinds, pushed, renew, subscribe


def greeting(rig: SessionRig, *behind: object, hello: Hello | None = None) -> Peer:
    """Say hello, and what comes behind it; the store has not answered."""
    peer = rig.connect()
    assert peer.receive(hello or Hello(), *behind) == []  # type: ignore[arg-type]
    return peer


def test_one_read_answers_both() -> None:
    rig = SessionRig()
    rig.push("a", "p/x")
    peer = greeting(rig, subscribe(7, "a", "p/", replace=True), hello=Hello(rig.position(2)))
    asked = peer.reading
    assert asked == Read(2, Query({"a": 0}, {"p/": 0}, rig.position(2)))
    peer.begin()
    peer.deliver()
    greeted, answer = peer.take()
    assert isinstance(greeted, Welcome)
    assert (greeted.position, greeted.resumed, greeted.reset) == (rig.position(), False, UNSET)
    digest = digest_text(digest_of(["a", "p/"]))
    changes = [Change("a", 2), Change("p/x", 3)]
    assert answer == Subscribed(7, rig.position(), changes, digest=digest, count=2, clock_ms=100_000)
    assert peer.reading is None
    (renewed,) = peer.ask(renew(8, "a", "p/"))
    assert isinstance(renewed, Renewed)
    assert renewed.match
    assert peer.machine.lease is rig.table.get(greeted.session)
    assert rig.repairs == {}


def test_it_joins_a_read_that_has_begun_by_another() -> None:
    """The read of hello alone began before the names were held: a change may have been missed between the two."""
    rig = SessionRig()
    peer = greeting(rig)
    peer.begin()
    first, page = peer.reading, peer.snapshot
    assert isinstance(first, Read)
    assert isinstance(page, Page)
    rig.push("a")
    assert peer.receive(subscribe(1, "a")) == []
    assert peer.machine.answered(first.ticket, page, rig.now) == []
    assert peer.machine.state is State.GREETING
    greeted, answer = peer.serve()
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert answer.changes == [Change("a", 2)]


def test_pushes_wait_for_both_answers_and_lose_what_the_read_covers() -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "p/"))
    rig.push("p/a")
    peer.begin()
    rig.push("p/b")
    assert peer.take() == []
    peer.deliver()
    greeted, answer, *pushes = peer.take()
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert (greeted.position, answer.position) == (rig.position(2), rig.position(2))
    assert answer.changes == [Change("p/a", 2)]
    assert pushes == pushed(("p/b", 3))
    rig.push("p/a")
    assert peer.take() == pushed(("p/a", 4))


def test_a_lineage_row_that_passes_meanwhile_is_told_behind_the_welcome() -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    peer.begin()
    row = rig.commit_lineage_row()
    rig.feed()
    peer.deliver()
    greeted, moved, answer = peer.take()
    assert isinstance(greeted, Welcome)
    assert moved == PositionMoved(row)
    assert isinstance(answer, Subscribed)


def test_a_long_answer_goes_on_behind_the_welcome() -> None:
    rig = SessionRig(page_limit=1)
    rig.push("p/a", "p/b")
    assert kinds(greeting(rig, subscribe(1, "p/")).serve()) == ["Welcome", "Subscribed", "Subscribed"]


def test_held_pushes_that_overflow_are_read_behind_the_welcome() -> None:
    rig = SessionRig(gap_topics_max=1)
    peer = greeting(rig, subscribe(1, "p/"))
    peer.begin()
    rig.push("p/a", "p/b")
    peer.deliver()
    greeted, first, *rest = peer.serve()
    assert isinstance(greeted, Welcome)
    assert isinstance(first, Subscribed)
    assert first.more
    (last,) = rest
    assert isinstance(last, Subscribed)
    assert last.changes == [Change("p/a", 2), Change("p/b", 3)]


def test_the_lease_lasts_from_the_welcome_on() -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"), hello=Hello(ttl_ms=5_000))
    rig.now += 4.0
    peer.serve()
    lease = peer.machine.lease
    assert lease is not None
    assert (lease.ttl_s, lease.deadline) == (5.0, rig.now + 5.5)


@pytest.mark.parametrize("swept", [True, False])
def test_a_lease_that_ends_meanwhile_is_begun_again(swept: bool) -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    peer.begin()
    rig.now += 12.0
    rig.push("a")
    if swept:
        rig.sweep()
    peer.deliver()
    greeted, answer = peer.serve()
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert answer.changes == [Change("a", 2)]
    assert rig.table.statistics().sessions == 1
    assert peer.machine.lease is rig.table.get(greeted.session)


@pytest.mark.parametrize("reason", ["slow_consumer", "denied"])
def test_a_lease_that_is_revoked_meanwhile(reason: str) -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    peer.carry_out(peer.machine.revoked(reason, 0))  # type: ignore[arg-type]
    assert kinds(peer.serve()) == ["Welcome", "denied" if reason == "denied" else "Subscribed"]


# Resets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hello", "known"),
    [(Hello(Position("e", "gone", 1)), {"a": 0}), (Hello(), {"a": 99}), (Hello(), {"p/": 99})],
    ids=["of hello", "of a version", "of a prefix"],
)
def test_a_rewound_store_resets_the_client_and_voids_the_subscribe(hello: Hello, known: dict[str, int]) -> None:
    rig = SessionRig()
    rig.push("a")
    peer = greeting(rig, subscribe(1, known=known), hello=hello)
    greeted, answer = peer.serve()
    assert isinstance(greeted, Welcome)
    assert (greeted.reset, greeted.position) == (True, rig.position())
    assert isinstance(answer, Error)
    assert (answer.code, answer.id, answer.position) == ("rewound", 1, rig.position())
    lease = peer.machine.lease
    assert lease is not None
    assert lease is rig.table.get(greeted.session)
    assert lease.count == 0
    assert peer.machine.gap_buffer is None
    assert rig.table.statistics().sessions == 1
    rig.push("a")
    assert peer.take() == []
    assert kinds(peer.ask(subscribe(2, "a"))) == ["Subscribed"]
    assert rig.repairs == {"reset": 1}


# Refusals -------------------------------------------------------------------------------------------------------------

MANY = subscribe(1, *map(str, range(9)))
"""One name more than a lease may hold."""


@pytest.mark.parametrize(
    ("behind", "code"), [(Subscribe(1, {"//": 0}), "invalid"), (MANY, "too_large")], ids=["invalid", "too_large"]
)
def test_a_subscribe_that_breaks_a_rule_is_refused_behind_the_welcome(behind: Subscribe, code: str) -> None:
    rig = SessionRig()
    peer = greeting(rig, behind)
    assert rig.table.statistics().sessions == 0
    assert kinds(peer.serve()) == ["Welcome", code]
    assert peer.machine.state is State.OPEN
    assert kinds(peer.ask(subscribe(2, "a"))) == ["Subscribed"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("down"), CloseCode.UNAVAILABLE), (Overloaded("crowd"), CloseCode.OVERLOADED)],
    ids=lambda given: getattr(given, "code", ""),
)
def test_a_refused_hello_leaves_no_lease_of_what_came_behind_it(error: RequestError, code: CloseCode) -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    assert rig.table.statistics().sessions == 1
    peer.fail_read(error)
    assert kinds(peer.take()) == [error.code]
    assert peer.closed is not None
    assert peer.closed.code == code
    assert rig.table.statistics().sessions == 0
    assert peer.machine.gap_buffer is None


def test_a_full_node_refuses_hello() -> None:
    rig = SessionRig(sessions_max=1)
    rig.open_session()
    peer = greeting(rig, subscribe(1, "a"))
    assert kinds(peer.serve()) == ["overloaded"]
    assert peer.closed is not None
    assert peer.closed.code == CloseCode.OVERLOADED


@pytest.mark.parametrize("reason", ["draining", "rewound", "replaced", "idle"])
def test_a_node_that_leaves_meanwhile_answers_neither_and_keeps_no_lease(reason: str) -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    peer.leave(reason)  # type: ignore[arg-type]
    (bye,) = peer.take()
    assert isinstance(bye, ServerBye)
    assert peer.machine.state is State.ENDED
    assert rig.table.statistics().sessions == (1 if reason == "replaced" else 0)


def test_a_connection_lost_meanwhile_leaves_no_lease() -> None:
    rig = SessionRig()
    peer = greeting(rig, subscribe(1, "a"))
    peer.lose()
    assert rig.table.statistics().sessions == 0
    rig.push("a")
    assert peer.take() == []


# Many names -----------------------------------------------------------------------------------------------------------


def test_many_names_enter_in_portions_and_are_read_once() -> None:
    rig = SessionRig(names_max=64, names_per_turn=8)
    names = [f"t/{number}" for number in range(32)]
    peer = greeting(rig, subscribe(1, *names))
    turns = 0
    while peer.turn is not None:
        assert peer.machine.busy
        peer.take_turn()
        turns += 1
    assert turns > 4
    greeted, answer = peer.serve()
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert answer.count == 32


@pytest.mark.parametrize("how", ["lost", "draining", "revoked", "expired"])
def test_an_end_in_the_midst_of_many_names(how: str) -> None:
    rig = SessionRig(names_max=64, names_per_turn=8)
    peer = greeting(rig, subscribe(1, *[f"t/{number}" for number in range(32)]))
    for _ in range(6):
        peer.take_turn()
    assert peer.machine.lease is not None
    assert 0 < peer.machine.lease.count < 32
    ends: dict[str, Callable[[], object]] = {
        "lost": peer.lose,
        "draining": lambda: peer.leave("draining"),
        "revoked": lambda: peer.revoked("slow_consumer"),
    }
    if how == "expired":
        rig.now += 12.0
        rig.sweep()
    else:
        ends[how]()
    if how in ("lost", "draining"):
        assert rig.table.statistics().sessions == 0
        assert not peer.machine.busy
    else:
        assert kinds(peer.serve()) == ["Welcome", "Subscribed"]
        assert rig.table.statistics().sessions == 1


# Other messages -------------------------------------------------------------------------------------------------------


def test_one_message_is_taken_and_no_more() -> None:
    rig = SessionRig()
    peer = greeting(rig)
    busy_before = peer.machine.busy
    peer.receive(Publish(1, "a", value=1))
    assert (busy_before, peer.machine.busy) == (False, True)
    assert peer.submitted == []
    peer.receive(subscribe(2, "a"))
    assert kinds(peer.serve()) == ["Welcome", "Subscribed"]
    assert [message.id for message in peer.submitted if isinstance(message, Publish)] == [1]


def test_what_cannot_be_decoded_is_refused_behind_the_welcome() -> None:
    rig = SessionRig()
    peer = greeting(rig)
    peer.carry_out(peer.machine.unreadable(Invalid("no map"), 5))
    assert peer.machine.busy
    assert peer.take() == []
    greeted, answer = peer.serve()
    assert isinstance(greeted, Welcome)
    assert answer == Error("invalid", "no map", 5)


def test_what_was_kept_is_forgotten_when_hello_is_refused() -> None:
    rig = SessionRig()
    peer = greeting(rig, Publish(1, "a", value=1))
    peer.fail_read(Unavailable("down"))
    assert kinds(peer.take()) == ["unavailable"]
    assert peer.submitted == []


def test_a_poll_behind_hello_and_a_bye() -> None:
    rig = SessionRig()
    assert kinds(greeting(rig, Poll(1, topics={"a": 0})).serve()) == ["Welcome", "Polled"]
    peer = greeting(rig, ClientBye())
    assert kinds(peer.serve()) == ["Welcome"]
    assert peer.closed is not None
    assert peer.closed.code == CloseCode.DRAINING


# Renew behind a hello that resumes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [True, False])
def test_a_renew_behind_a_hello_that_resumes_is_answered_behind_the_welcome(resumed: bool) -> None:
    """The mismatch of a session that could not be resumed is no repair; a later one is."""
    rig = SessionRig()
    rig.push("a")
    rig.open_session("a").lose()
    token = "t1" if resumed else "gone"
    peer = rig.connect()
    greeted, renewed = peer.ask(Hello(rig.position(), token, rig.hub), renew(1, "a"))
    assert isinstance(greeted, Welcome)
    assert greeted.resumed is resumed
    assert isinstance(renewed, Renewed)
    assert renewed.match is resumed
    assert rig.repairs == ({"resumed": 1} if resumed else {})
    peer.ask(renew(2, "b"))
    assert rig.repairs == ({"resumed": 1, "mismatch": 1} if resumed else {"mismatch": 1})


def test_a_mismatch_after_the_client_has_subscribed_is_a_repair() -> None:
    rig = SessionRig()
    peer = rig.connect()
    peer.ask(Hello(rig.position(), "gone", 1))
    peer.ask(subscribe(1, "a"))
    peer.ask(renew(1, "b"))
    assert rig.repairs == {"mismatch": 1}


# Mutants: each takes a rule out, and a test above must notice ---------------------------------------------------------


def nothing_joins(patch: pytest.MonkeyPatch) -> None:
    """A subscribe behind hello waits for the welcome."""
    change_rules(patch, join, keep_for_welcome)


def names_survive_a_reset(patch: pytest.MonkeyPatch) -> None:
    """A reset keeps the lease that the subscribe entered."""
    begin_lease = SessionCore.begin_lease

    def keeping(self: SessionCore, now: float, ttl_s: float) -> object:
        if self.lease is None:
            return begin_lease(self, now, ttl_s)
        self.state = State.OPEN
        self.token = self.lease.token
        return self.lease

    patch.setattr(SessionCore, "begin_lease", keeping)


def an_unannounced_lease_stays(patch: pytest.MonkeyPatch) -> None:
    """The end of a connection leaves a lease whose token no client knows."""
    detach = SessionCore.detach

    def keeping(self: SessionCore) -> None:
        if self.lease is not None:
            self.token = self.lease.token
        detach(self)

    patch.setattr(SessionCore, "detach", keeping)


def a_lost_lease_is_announced(patch: pytest.MonkeyPatch) -> None:
    """The lease is not looked at when the read is answered."""

    def blind(session: SessionCore, pending: PendingHello, page: Page, now: float) -> list[Effect]:
        if pending.joined is not None:
            joined, pending.joined = pending.joined, None
            return [*welcome(session, pending, page, now), *subscribe_page(session, joined, page, now)]
        return welcome(session, pending, page, now)

    change_rules(patch, welcome, blind)


NOTICED: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (joined_by_the_read_before, test_it_joins_a_read_that_has_begun_by_another),
    (nothing_joins, test_one_read_answers_both),
    (names_survive_a_reset, lambda: test_a_rewound_store_resets_the_client_and_voids_the_subscribe(Hello(), {"a": 99})),
    (an_unannounced_lease_stays, test_a_connection_lost_meanwhile_leaves_no_lease),
    (a_lost_lease_is_announced, lambda: test_a_lease_that_ends_meanwhile_is_begun_again(swept=True)),
]


@pytest.mark.parametrize(("mutate", "test"), NOTICED, ids=lambda given: getattr(given, "__name__", ""))
def test_a_rule_that_is_missing_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        test()
