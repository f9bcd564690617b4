"""Knowledge: certificates, sweeps, tombstones, doubts, resets (P-KNOW, and the client's part of P-SUB and P-REW)."""

from __future__ import annotations

import math

import pytest

from softstate.client.machine.events import Jumped, Lost, Unwanted
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.model import Change
from softstate.wire.messages import Notify, Poll
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.machine_rig import Rig, at, gone, set_to


def _knowing(*names: str) -> Knowledge:
    knowledge = Knowledge()
    knowledge.add(names)
    return knowledge


def _answer(
    knowledge: Knowledge, question: Question, *changes: Change, revision: int = 10, compacted: tuple[str, ...] = ()
) -> list[Change]:
    """Apply a complete answer of one page; return all that was news."""
    fresh = knowledge.apply_page(question, changes)
    return fresh + knowledge.finish(question, revision, 0.0, compacted)


def _certified(*names: str, changes: tuple[Change, ...] = (), revision: int = 10) -> Knowledge:
    knowledge = _knowing(*names)
    lease = knowledge.begin_lease()
    _answer(knowledge, knowledge.ask(names, 100.0, lease), *changes, revision=revision)
    return knowledge


NO_TOPICS = ["", "/", "//", "a/", "x//", "a/b/", "/a/"]


@pytest.mark.parametrize("malformed", NO_TOPICS)
@pytest.mark.parametrize("name", ["/", "a/"])
def test_a_change_of_what_is_no_topic_is_ignored_on_every_path(malformed: str, name: str) -> None:
    changes = [set_to("a/b", 3), Change(malformed, 5, 1), gone(malformed, 6), set_to("a/c", 7)]
    rig = Rig(name).live(changes)
    assert rig.delivered() == [changes[0], changes[-1]]
    rig.arrive(Notify(malformed, 11, 1), Notify(malformed, 12, deleted=True))
    assert rig.delivered() == []
    rig.do(Jumped())
    rig.do(rig.polled(*changes, set_to("a/d", 15), Change(malformed, 16, 1), revision=20, unreadable=[malformed]))
    assert rig.delivered() == [set_to("a/d", 15)]
    assert rig.machine.unreadable() == []
    assert [known.topic for known in rig.machine.known(name)] == ["a/b", "a/c", "a/d"]
    rig.do(Lost(rig.conn, None, "cut"))
    rig.live([Change(malformed, 25, 1)], revision=30)
    rig.do(Unwanted([name]))
    assert rig.machine.known("/") == []


@pytest.mark.parametrize("malformed", NO_TOPICS)
def test_a_prefix_said_to_be_unknown_only_blocks_what_covers_it(malformed: str) -> None:
    rig = Rig("/", "b").live([set_to("a", 3)])
    rig.arrive(Notify(malformed, 11, unknown=True))
    assert rig.recently_sent(Poll)[0].prefixes.keys() == {"/"}
    assert [known.topic for known in rig.machine.known("/")] == ["a"]


def test_the_digest_is_that_of_the_set() -> None:
    knowledge = _knowing("a", "b/", "c")
    knowledge.remove(["c", "never there"])
    assert knowledge.digest == (digest_text(digest_of(["a", "b/"])), 2)
    assert knowledge.add(["a", "d"]) == ["d"]
    knowledge.remove(["a", "b/", "d"])
    assert knowledge.digest == ("0" * 16, 0)


def test_age_is_the_maximum_and_infinite_while_one_is_uncertified() -> None:
    knowledge = _certified("a")
    knowledge.add(["b"])
    assert knowledge.elapsed_s(103.0, ["a"]) == 3.0
    assert knowledge.elapsed_s(103.0) == math.inf
    _answer(knowledge, knowledge.ask(["b"], 101.0))
    assert knowledge.elapsed_s(103.0) == 3.0
    assert knowledge.elapsed_s(103.0, ["b"]) == 2.0
    assert knowledge.elapsed_s(103.0, []) == 0.0
    assert knowledge.elapsed_s(103.0, ["stranger"]) == math.inf


def test_age_allows_for_a_clock_that_is_a_hundredth_slow() -> None:
    knowledge = Knowledge()
    knowledge.add(["a"])
    assert knowledge.age_s(200.0) == math.inf
    knowledge.finish(knowledge.ask(["a"], 101.0), 5, 0.0)
    assert knowledge.age_s(200.0) == 99.0 / 0.99
    assert knowledge.age_s(200.0, []) == 0.0


def test_lag_is_added_to_the_age() -> None:
    knowledge = _knowing("a")
    knowledge.finish(knowledge.ask(["a"], 100.0), 10, 2.5)
    assert knowledge.elapsed_s(100.0) == 2.5


def test_equal_versions_are_a_no_op_and_lower_ones_are_dropped_and_counted() -> None:
    knowledge = _knowing("a")
    assert knowledge.apply(set_to("a", 5))
    assert not knowledge.apply(set_to("a", 5))
    assert knowledge.dropped == 0
    assert not knowledge.apply(set_to("a", 4))
    assert knowledge.dropped == 1
    assert knowledge.known("a") == [set_to("a", 5)]


def test_changes_that_nothing_covers_are_ignored() -> None:
    knowledge = _knowing("a", "b/")
    assert not knowledge.apply(set_to("c", 1))
    assert not knowledge.apply(set_to("b", 1)), "a prefix does not cover the topic it is made of"
    assert knowledge.apply(set_to("b/c", 1))
    assert knowledge.known("/") == [set_to("b/c", 1)]


def test_changes_at_or_below_a_certified_revision_are_dropped() -> None:
    knowledge = _certified("p/", revision=10)
    assert not knowledge.apply(set_to("p/new", 10))
    assert knowledge.apply(set_to("p/new", 11))


def test_only_names_held_without_a_break_since_the_request_are_certified() -> None:
    knowledge = _knowing("a", "b")
    question = knowledge.ask(["a", "b"], 100.0)
    knowledge.remove(["b"])
    knowledge.add(["b"])
    _answer(knowledge, question)
    assert knowledge.elapsed_s(100.0, ["a"]) == 0.0
    assert knowledge.elapsed_s(100.0, ["b"]) == math.inf
    knowledge.remove(["b"])
    _answer(knowledge, question)
    assert knowledge.lowest_revision() == 10


def test_revision_and_age_move_only_forward() -> None:
    knowledge = _certified("a", revision=10)
    old, new = knowledge.ask(["a"], 110.0), knowledge.ask(["a"], 120.0)
    _answer(knowledge, new, revision=12)
    _answer(knowledge, old, revision=11)
    assert knowledge.lowest_revision() == 12
    assert knowledge.elapsed_s(120.0) == 0.0


def test_lowest_revision_is_absent_while_a_subscription_has_none() -> None:
    assert Knowledge().lowest_revision() is None
    knowledge = _certified("a", "b", revision=10)
    _answer(knowledge, knowledge.ask(["a"], 101.0), revision=20)
    assert knowledge.lowest_revision() == 10
    knowledge.add(["c"])
    assert knowledge.lowest_revision() is None


def test_a_cut_off_answer_is_applied_but_certifies_and_sweeps_nothing() -> None:
    knowledge = _certified("p/", changes=(set_to("p/a", 3),))
    question = knowledge.ask(["p/"], 105.0)
    assert knowledge.apply_page(question, [set_to("p/b", 11)]) == [set_to("p/b", 11)]
    assert knowledge.elapsed_s(105.0) == 5.0
    assert knowledge.known("p/") == [set_to("p/a", 3), set_to("p/b", 11)]


def test_a_full_answer_sweeps_what_no_page_of_it_listed() -> None:
    knowledge = _knowing("p/")
    for topic in ("p/a", "p/b", "p/c"):
        knowledge.apply(set_to(topic, 5))
    question = knowledge.ask(["p/"], 100.0)
    knowledge.apply_page(question, [set_to("p/a", 5)])
    knowledge.apply_page(question, [set_to("p/b", 8)])
    assert knowledge.finish(question, 10, 0.0) == [gone("p/c", 10)]


def test_a_sweep_spares_what_is_newer_than_the_answer() -> None:
    knowledge = _knowing("p/")
    question = knowledge.ask(["p/"], 100.0)
    knowledge.apply(set_to("p/new", 12))
    assert _answer(knowledge, question, revision=10) == []
    assert knowledge.known("p/") == [set_to("p/new", 12)]


def test_a_sweep_spares_what_a_newer_certificate_covers() -> None:
    knowledge = _certified("p/a", changes=(set_to("p/a", 7),), revision=20)
    knowledge.add(["p/"])
    assert _answer(knowledge, knowledge.ask(["p/"], 101.0), revision=10) == []
    assert knowledge.known("p/a") == [set_to("p/a", 7)]


def test_an_answer_since_a_revision_sweeps_nothing_unless_it_says_compacted() -> None:
    knowledge = _certified("p/", changes=(set_to("p/a", 3),))
    question = knowledge.ask(["p/"], 101.0)
    assert question.prefixes == {"p/": 10}
    assert _answer(knowledge, question, revision=12) == []
    assert _answer(knowledge, knowledge.ask(["p/"], 102.0), revision=30, compacted=("p/",)) == [gone("p/a", 30)]


def test_a_topic_asked_with_version_0_and_not_listed_is_gone() -> None:
    knowledge = _certified("a", changes=(set_to("a", 3),))
    knowledge.reset(at(2, "l2"))
    question = knowledge.ask(["a"], 101.0)
    assert question.topics == {"a": 0}
    assert _answer(knowledge, question, revision=4) == [gone("a", 4)]


def test_the_revision_of_a_sweep_is_never_sent_as_a_version() -> None:
    """The store holds something older, or nothing: it would take the version for proof of a rewound store."""
    knowledge = _certified("a", "p/", changes=(set_to("a", 3), set_to("p/x", 3)))
    knowledge.reset(at(2, "l2"))
    _answer(knowledge, knowledge.ask(["a", "p/"], 101.0), revision=9)
    knowledge.add(["p/x"])
    assert knowledge.ask(["a", "p/x"], 102.0).topics == {"a": 0, "p/x": 0}


def test_a_sweep_with_an_uncertified_neighbour_keeps_its_tombstone() -> None:
    knowledge = _knowing("p/", "p/x")
    knowledge.apply(set_to("p/x", 3))
    assert _answer(knowledge, knowledge.ask(["p/"], 101.0), revision=9) == [gone("p/x", 9)]
    assert knowledge.known("p/x") == [gone("p/x", 9)]
    assert knowledge.ask(["p/x"], 102.0).topics == {"p/x": 0}
    assert not knowledge.apply(set_to("p/x", 4)), "no resurrection"


def test_tombstones_are_forgotten_once_certificates_make_them_superfluous() -> None:
    knowledge = _certified("p/", revision=10)
    assert knowledge.apply(gone("p/a", 12))
    assert knowledge.known("p/") == [gone("p/a", 12)]
    _answer(knowledge, knowledge.ask(["p/"], 101.0), revision=12)
    assert knowledge.known("p/") == []
    assert knowledge._tombstones == {}
    assert not knowledge.apply(set_to("p/a", 11)), "S8: no resurrection"


def test_the_tombstone_of_a_single_topic_stays_so_that_it_is_not_sent_again() -> None:
    knowledge = _certified("a", changes=(gone("a", 4),))
    assert knowledge.ask(["a"], 101.0).topics == {"a": 4}


def test_a_value_after_a_tombstone_takes_its_place() -> None:
    knowledge = _knowing("p/")
    knowledge.apply(gone("p/a", 4))
    assert knowledge.apply(set_to("p/a", 5))
    assert knowledge._tombstones == {}


def test_what_nothing_covers_any_more_is_forgotten() -> None:
    knowledge = _certified("a", "p/", "p/x", changes=(set_to("a", 1), gone("p/x", 2), set_to("p/y", 3)))
    assert knowledge.remove(["a"]) == ["a"]
    assert knowledge.known("/") == [gone("p/x", 2), set_to("p/y", 3)]
    knowledge.remove(["p/"])
    assert knowledge.known("/") == [gone("p/x", 2)]
    knowledge.remove(["p/x"])
    assert (knowledge.known("/"), knowledge._tombstones) == ([], {})


def test_a_matching_renewal_certifies_the_set_as_it_was_when_it_was_sent() -> None:
    knowledge = _certified("a", revision=10)
    serial = knowledge.next_serial()
    knowledge.add(["b"])
    knowledge.renewed(serial, 120.0, 15, 0.5)
    assert knowledge.elapsed_s(120.0, ["a"]) == 0.5
    assert knowledge.elapsed_s(120.0, ["b"]) == math.inf


def test_a_matching_renewal_certifies_only_what_this_lease_answered_for() -> None:
    knowledge = _certified("a")
    knowledge.begin_lease()
    knowledge.renewed(knowledge.next_serial(), 120.0, 15, 0.0)
    assert knowledge.elapsed_s(120.0) == 20.0
    knowledge.resume(knowledge.next_serial())
    knowledge.renewed(knowledge.next_serial(), 120.0, 15, 0.0)
    assert knowledge.elapsed_s(120.0) == 0.0


def test_a_poll_does_not_join_the_lease() -> None:
    knowledge = _knowing("a")
    knowledge.begin_lease()
    _answer(knowledge, knowledge.ask(["a"], 100.0))
    knowledge.renewed(knowledge.next_serial(), 120.0, 15, 0.0)
    assert knowledge.elapsed_s(120.0) == 20.0


def test_after_a_doubt_nothing_moves_until_a_later_request_is_answered() -> None:
    knowledge = _certified("a", "p/", "other", revision=10)
    early = knowledge.ask(["p/", "other"], 110.0)
    early_renewal = knowledge.next_serial()
    assert knowledge.doubt("p/x") == ["p/"]
    _answer(knowledge, early, revision=12)
    knowledge.renewed(early_renewal, 111.0, 12, 0.0)
    knowledge.renewed(knowledge.next_serial(), 112.0, 12, 0.0)
    assert knowledge.elapsed_s(120.0, ["p/"]) == 20.0, "neither by what was sent before, nor by a renewal"
    assert knowledge.elapsed_s(120.0, ["a", "other"]) == 8.0
    _answer(knowledge, knowledge.ask(["p/"], 115.0), revision=12)
    knowledge.renewed(knowledge.next_serial(), 118.0, 13, 0.0)
    assert knowledge.elapsed_s(120.0, ["p/"]) == 2.0


def test_a_resumption_replays_what_was_in_doubt() -> None:
    knowledge = _certified("a")
    knowledge.doubt("a")
    hello = knowledge.next_serial()
    knowledge.begin_lease()
    knowledge.resume(hello)
    knowledge.renewed(knowledge.next_serial(), 120.0, 15, 0.0)
    assert knowledge.elapsed_s(120.0) == 0.0


def test_a_reset_forgets_versions_and_certificates_but_keeps_values_readable() -> None:
    knowledge = _certified("a", "b", changes=(set_to("a", 5, "old"), gone("b", 6)))
    before, renewal = knowledge.ask(["a", "b"], 101.0), knowledge.next_serial()
    knowledge.reset(at(3, "l2"))
    assert knowledge.known("a") == [Change("a", 0, "old")]
    assert knowledge.known("b") == []
    assert knowledge.elapsed_s(102.0) == math.inf
    assert knowledge.position == at(3, "l2")
    assert _answer(knowledge, before, set_to("a", 9)) == [], "answers to earlier requests are discarded"
    knowledge.renewed(renewal, 101.0, 9, 0.0)
    assert knowledge.elapsed_s(102.0) == math.inf
    assert knowledge.apply(set_to("a", 2)), "versions begin again"


def test_listing_anew_gives_up_the_certificate() -> None:
    knowledge = _certified("p/")
    knowledge.relist(["p/", "stranger"])
    assert knowledge.elapsed_s(100.0) == math.inf
    assert knowledge.ask(["p/"], 101.0).prefixes == {"p/": 0}


@pytest.mark.parametrize(
    ("latest", "base", "usable"),
    [
        (at(20, "l1"), at(5, "l1"), True),
        (at(20, "l2"), at(10, "l1"), True),
        (at(20, "l2"), at(9, "l1"), False),
        (at(20, "l1", "f"), at(9, "l1"), False),
        (None, None, False),
    ],
)
def test_a_path_is_usable_in_the_same_lineage_or_from_the_same_position(
    latest: object, base: object, usable: bool
) -> None:
    knowledge = Knowledge()
    assert knowledge.usable(None, None)
    knowledge.move(at(10, "l1"))
    assert knowledge.usable(latest, base) is usable  # type: ignore[arg-type]


def test_the_position_moves_only_forward() -> None:
    knowledge = Knowledge()
    assert knowledge.move(at(10))
    assert not knowledge.move(at(9, "l0"))
    assert knowledge.position == at(10)
