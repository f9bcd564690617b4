"""Beats: names that they certify, and the machine's patience when none comes (P-BEAT-5, P-BEAT-7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from softstate.client.machine.certificate import Certificate
from softstate.client.machine.events import Arrived, Jumped, Lost, SendPoll, Ticked, Wanted
from softstate.client.machine.push_messages import PushMessages
from softstate.wire.messages import Beat, Hello, Notify, Poll, Polled, PositionMoved, Renew, Revoked, Subscribe
from tests.kit.machine_rig import OTHER, TTL_S, Rig, at, set_to


def beat(revision: int, clock_s: float, *, sent: int = 0, lineage: str = "l1", next_ms: int = 1_000) -> Beat:
    return Beat(next_ms, sent, at(revision, lineage), math.floor(clock_s * 1000))


def beaten(*names: str, **options: Any) -> Rig:
    """A live client of a node whose clock reads 0 at the moment at which the client said hello."""
    rig = Rig(*(names or ("a",)), **options)
    rig.syncing(beat_ms=1_000, clock_ms=0)
    rig.arrive(rig.subscribed(digest="d", count=1, clock_ms=0))
    assert rig.mode == "live"
    rig.hello_at = rig.now  # type: ignore[attr-defined]
    return rig


def clock(rig: Rig) -> float:
    """Return the time on the node's clock."""
    return rig.now - rig.hello_at  # type: ignore[attr-defined, no-any-return]


# Certificates ---------------------------------------------------------------------------------------------------


def test_the_client_asks_for_a_beat_each_second_or_as_it_is_told() -> None:
    assert Rig("a").greeted().beat_ms == 1_000
    assert Rig("a", beat_ms=None).greeted().beat_ms is None


def test_a_beat_makes_all_that_is_certified_young() -> None:
    rig = beaten("a", "p/")
    rig.now += 10.0
    rig.arrive(beat(15, clock(rig)))
    assert rig.age == pytest.approx(0.2)
    assert rig.machine.position == at(15)
    assert rig.machine.statistics().beats == 1
    rig.now += 1.0
    rig.arrive(beat(15, clock(rig) - 0.5))
    assert rig.age == pytest.approx(0.5 + 0.02 * 10.5)


def test_a_beat_moves_only_forward() -> None:
    rig = beaten()
    rig.now += 10.0
    rig.arrive(beat(15, clock(rig)), beat(12, clock(rig) - 5.0))
    assert rig.age == pytest.approx(0.2)
    assert rig.machine.position == at(15)


def test_a_beat_that_certifies_nothing_is_a_sign_of_life() -> None:
    rig = beaten()
    rig.now += 2.0
    rig.arrive(Beat(1_000, 0))
    assert rig.age == 2.0
    assert rig.connection.silent_at > rig.now


def test_a_change_at_or_below_its_position_is_old() -> None:
    rig = beaten("p/")
    rig.arrive(Notify("p/x", 12, "v"), beat(15, clock(rig), sent=1))
    rig.arrive(Notify("p/y", 14, "late"))
    assert rig.delivered() == []


@pytest.mark.parametrize("name", ["b", "p/"])
def test_a_name_that_was_not_answered_gets_nothing_from_it(name: str) -> None:
    rig = beaten()
    rig.do(Wanted([name]))
    rig.now += 5.0
    rig.arrive(beat(15, clock(rig)))
    assert rig.machine.age(rig.now, [name]) == math.inf
    assert rig.machine.age(rig.now, ["a"]) < 1.0
    rig.arrive(rig.subscribed(revision=12))
    assert rig.machine.age(rig.now, [name]) == pytest.approx(5.0 / 0.99), "not from a beat of before"
    rig.now += 1.0
    rig.arrive(beat(16, clock(rig)))
    assert rig.machine.age(rig.now, [name]) < 1.0


def test_a_resumption_is_not_enough_and_a_matching_renewal_is() -> None:
    rig = beaten()
    rig.do(Lost(rig.conn, None, "cut"))
    hello = rig.greeted()
    assert isinstance(hello, Hello)
    assert hello.session == "s1"
    sent = rig.now
    rig.arrive(rig.welcome(12, resumed=True, beat_ms=1_000, clock_ms=0))
    rig.now += 3.0
    before = rig.age
    rig.arrive(beat(15, 3.0))
    assert rig.age == before
    rig.arrive(rig.renewed(12, clock_ms=3_000, beat_ms=1_000))
    rig.arrive(beat(15, 3.0))
    assert rig.age == pytest.approx(3.0 - 3.0 * 0.98)
    assert sent == rig.now - 3.0


def test_a_poll_is_not_enough() -> None:
    rig = beaten()
    rig.arrive(Notify("a", 11, unknown=True))
    (poll,) = rig.recently_sent(Poll)
    rig.now += 1.0
    rig.arrive(Polled(poll.id, at(12)), beat(15, clock(rig), sent=1))
    assert rig.age == 1.0, "the poll was sent a second ago"
    rig.renewing()
    rig.arrive(rig.renewed(15, beat_ms=1_000, sent=1))
    rig.now += 1.0
    rig.arrive(beat(16, clock(rig), sent=1))
    assert rig.age < 1.0


def test_what_is_in_doubt_gets_nothing() -> None:
    rig = beaten("a", "b")
    rig.arrive(Notify("a", 11, unknown=True))
    rig.now += 3.0
    rig.arrive(beat(15, clock(rig), sent=1))
    assert rig.machine.age(rig.now, ["a"]) == pytest.approx(3.0 / 0.99)
    assert rig.machine.age(rig.now, ["b"]) < 1.0


@pytest.mark.parametrize("event", ["mismatch", "revoked", "wait"])
def test_once_the_set_is_asked_for_again_only_the_answer_counts(event: str) -> None:
    rig = beaten()
    rig.renewing()
    rig.now += 1.0
    if event == "mismatch":
        rig.arrive(rig.renewed(12, match=False, beat_ms=1_000))
        assert rig.recently_sent(Subscribe)
    else:
        rig.arrive(Revoked("expired", 0, 0))
        if event == "wait":
            rig.advance(0.01)
            assert rig.sent(Subscribe)[-1].replace
    before = rig.age
    rig.arrive(beat(15, clock(rig)))
    assert rig.age == before


@pytest.mark.parametrize("certifying", [True, False])
def test_a_push_that_was_lost_shows_in_the_next_beat(certifying: bool) -> None:
    """No transport loses one, but a fault of either end may; a renewal would tell seconds later (P-REN-9)."""
    rig = beaten()
    rig.now += 3.0
    rig.arrive(beat(15, clock(rig), sent=1) if certifying else Beat(1_000, 1))
    assert rig.age == 3.0
    assert rig.mode == "syncing"
    (subscribe,) = rig.recently_sent(Subscribe)
    assert subscribe.replace
    assert rig.machine.statistics().repairs_sent_unequal == 1
    rig.arrive(rig.subscribed(revision=15), beat(16, clock(rig), sent=1))
    assert rig.mode == "live"
    assert rig.age < 1.0


def test_a_beat_of_another_lineage_moves_nothing() -> None:
    rig = beaten()
    rig.now += 3.0
    for lineage in ("l0", "l2"):
        rig.arrive(beat(15, clock(rig), lineage=lineage))
        assert (rig.age, rig.machine.position, rig.mode) == (3.0, at(10), "live")
    rig.arrive(PositionMoved(at(14, "l2")), beat(15, clock(rig), lineage="l2"))
    assert rig.age < 1.0
    assert rig.machine.position == at(15, "l2")


def test_the_end_of_the_lease_is_looked_at_first() -> None:
    """After a suspend, what was received may come ahead of the timer."""
    rig = beaten()
    rig.now += 0.99 * TTL_S
    rig.do(Arrived(rig.conn, beat(15, clock(rig))))
    assert rig.age == pytest.approx(0.99 * TTL_S)
    assert rig.mode == "polling"


def test_after_a_sleep_the_anchor_counts_no_more() -> None:
    rig = beaten()
    rig.do(Jumped())
    rig.now += 2.0
    rig.arrive(beat(15, clock(rig)))
    assert rig.age == 2.0
    rig.arrive(rig.renewed(15, clock_ms=round(clock(rig) * 1000), beat_ms=1_000))
    rig.now += 1.0
    rig.arrive(beat(15, clock(rig)))
    assert rig.age < 2.5


def test_an_anchor_ends_with_its_connection() -> None:
    rig = beaten()
    rig.do(Lost(rig.conn, None, "cut"))
    rig.syncing(clock_ms=None)
    rig.arrive(rig.subscribed())
    rig.now += 2.0
    rig.arrive(beat(15, clock(rig)))
    assert rig.age == 2.0


def test_a_lease_that_begins_again_takes_its_anchor_from_its_own_answer() -> None:
    """The node's host slept for an hour: an anchor from before would put each beat into the future."""
    rig = beaten()
    rig.arrive(Revoked("expired", 0, 0))
    rig.advance(0.01)
    woken = clock(rig) + 3_600.0
    rig.arrive(rig.subscribed(revision=12, clock_ms=round(woken * 1000)))
    rig.now += 2.0
    rig.arrive(beat(15, woken + 2.0))
    assert rig.mode == "live"
    assert rig.age < 0.1


def test_after_a_lease_has_begun_again_the_first_question_comes_early() -> None:
    rig = beaten()
    for _ in range(4):
        rig.renewing()
        rig.arrive(rig.renewed(12, beat_ms=1_000))
        rig.advance(rig.machine.deadline() - rig.now)
    rig.arrive(rig.renewed(12, match=False, beat_ms=1_000), rig.subscribed(revision=12))
    asked = len(rig.sent(Renew))
    rig.advance(1.2 + 0.5)
    assert len(rig.sent(Renew)) == asked + 1


# Silence -------------------------------------------------------------------------------------------------------------


def test_silence_asks_first_and_then_makes_the_connection_suspect() -> None:
    rig = beaten()
    before = len(rig.sent(Renew))
    rig.advance(1.19)
    assert len(rig.sent(Renew)) == before
    rig.advance(0.52)
    assert len(rig.sent(Renew)) == before + 1
    assert rig.mode == "live"
    rig.advance(0.5)
    assert rig.mode == "suspect"
    rig.advance(1.0)
    assert rig.all(SendPoll), "within the spread that nodes advise"
    assert rig.machine.statistics().misses == 1


def test_what_comes_in_time_keeps_it_live() -> None:
    rig = beaten()
    renewals = len(rig.sent(Renew))
    for _ in range(10):
        rig.advance(1.1)
        rig.arrive(beat(15, clock(rig)))
    assert rig.mode == "live"
    assert len(rig.sent(Renew)) == renewals
    for _ in range(10):
        rig.advance(1.1)
        rig.arrive(Notify("b", 1, 1))
    assert rig.mode == "live"
    assert rig.all(SendPoll) == []


def test_an_answer_to_the_question_keeps_it_live() -> None:
    rig = beaten()
    rig.advance(1.9)
    rig.arrive(rig.renewed(12, beat_ms=1_000))
    rig.advance(2.3)
    assert rig.mode == "live"


def test_beats_that_wait_to_be_read_count_though_the_timer_comes_first() -> None:
    """The process was held up for five seconds, the network was not."""
    rig = beaten()
    rig.now += 5.0
    rig.do(Ticked())
    assert rig.mode == "live"
    rig.arrive(beat(15, clock(rig) - 0.5))
    rig.advance(2.0)
    assert rig.mode == "live"
    rig.now += 5.0
    rig.do(Ticked())
    rig.advance(0.26)
    assert rig.mode == "suspect"


def test_a_node_that_never_beats_is_asked_ever_less_often() -> None:
    rig = beaten()
    asked = []
    for _ in range(8):
        before = rig.now
        rig.renewing()
        asked.append(rig.now - before)
        rig.arrive(rig.renewed(12, beat_ms=1_000))
    assert rig.mode == "live"
    assert asked[0] < 2.0
    assert asked[-1] > 15.0
    assert all(earlier < later * 1.5 for earlier, later in pairwise(asked))


def test_the_node_may_make_beats_rarer() -> None:
    rig = beaten()
    rig.arrive(beat(15, clock(rig), next_ms=8_000))
    renewals = len(rig.sent(Renew))
    rig.advance(9.5)
    assert (rig.mode, len(rig.sent(Renew))) == ("live", renewals)
    rig.advance(0.7)
    assert len(rig.sent(Renew)) == renewals + 1


def test_without_beats_it_waits_for_renewals_as_ever() -> None:
    rig = Rig("a").live()
    rig.advance(10.0)
    assert rig.mode == "live"
    assert rig.sent(Renew) == []


def test_another_node_is_polled_while_this_one_is_silent() -> None:
    rig = beaten(urls=("ws://127.0.0.1:8700", OTHER))
    connected = rig.connection
    rig.advance(4.0)
    assert rig.mode == "suspect"
    assert {poll.url for poll in rig.all(SendPoll)} == {"ws://127.0.0.1:8700", OTHER} - {connected.url}


# Mutants -------------------------------------------------------------------------------------------------------------


def any_name_counts(patch: pytest.MonkeyPatch) -> None:
    """A beat certifies every name that is held."""
    beaten = Certificate.beaten
    patch.setattr(
        Certificate, "beaten", lambda self, _lease, revision, asof: beaten(self, self.vouched, revision, asof)
    )


def a_resumption_counts(patch: pytest.MonkeyPatch) -> None:
    """A beat certifies what a resumption put under the lease."""

    beaten = Certificate.beaten

    def counting(self: Certificate, lease: int, revision: int, asof: float) -> bool:
        return self.lease == lease and beaten(self, self.vouched, revision, asof)

    patch.setattr(Certificate, "beaten", counting)


def lineages_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    """A beat of any lineage counts."""
    read = PushMessages._beat

    def blind(self: PushMessages, connection: Any, message: Beat) -> None:
        known = self._core.knowledge.position
        position = known and message.position and known.at(message.position.revision)
        read(self, connection, Beat(message.next_ms, message.sent, position, message.clock_ms))

    patch.setattr(PushMessages, "_beat", blind)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (any_name_counts, lambda: test_a_name_that_was_not_answered_gets_nothing_from_it("b")),
    (any_name_counts, test_what_is_in_doubt_gets_nothing),
    (a_resumption_counts, test_a_resumption_is_not_enough_and_a_matching_renewal_is),
    (lineages_do_not_matter, test_a_beat_of_another_lineage_moves_nothing),
]


@pytest.mark.parametrize(("mutant", "test"), MUTANTS)
def test_a_mutant_is_caught(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        test()


def test_values_come_as_ever() -> None:
    rig = beaten("p/")
    rig.arrive(Notify("p/x", 16, "v"), beat(16, clock(rig), sent=1))
    assert rig.machine.known("p/") == [set_to("p/x", 16, "v")]
