"""Topics whose stored records are damaged: told once, kept, out of every age, not swept, healed by a publish."""

from __future__ import annotations

import math

from softstate.client.machine.events import Lost, TopicsUnreadable, Unwanted, Wanted
from softstate.client.machine.knowledge import Knowledge
from softstate.model import Change
from softstate.wire.messages import Notify, Poll, Polled
from tests.kit.machine_rig import Rig, at, gone, set_to


def _live() -> Rig:
    """Return a client that holds p/x and p/y by a prefix, and a by name."""
    return Rig("a", "p/").live([set_to("a", 3), set_to("p/x", 4), set_to("p/y", 5)])


def _damage(rig: Rig, topic: str, version: int = 11, revision: int = 11) -> None:
    """The node pushes the record as unknown, and names it in the answer to the poll that follows."""
    rig.arrive(Notify(topic, version, unknown=True))
    poll = rig.sent(Poll)[-1]
    rig.arrive(Polled(poll.id, at(revision), [], unreadable=[topic]))


def test_an_unreadable_topic_is_told_once_and_its_old_value_stays() -> None:
    rig = _live()
    _damage(rig, "p/x")
    assert rig.recent(TopicsUnreadable) == [TopicsUnreadable(["p/x"])]
    assert rig.machine.unreadable(["p/"]) == rig.machine.unreadable() == ["p/x"]
    assert rig.machine.unreadable(["a", "q/"]) == []
    assert rig.machine.known("p/x") == [set_to("p/x", 4)]
    _damage(rig, "p/x")
    assert rig.all(TopicsUnreadable) == [TopicsUnreadable(["p/x"])]
    assert rig.mode == "live"


def test_it_is_left_out_of_ages_and_alone_has_none() -> None:
    rig = _live()
    _damage(rig, "a")
    rig.now += 7.0
    assert rig.machine.age(rig.now, ["a"]) == math.inf
    assert rig.machine._knowledge.elapsed_s(rig.now, ["a", "p/"]) == 7.0
    assert rig.age == 7.0


def test_the_next_publish_heals_it_and_renewals_certify_it_again() -> None:
    rig = _live()
    _damage(rig, "a")
    rig.arrive(Notify("a", 12, "new"))
    assert rig.delivered() == [Change("a", 12, "new")]
    assert rig.machine.unreadable() == []
    rig.renewing().arrive(rig.renewed(12, sent=2))
    assert (rig.mode, rig.machine.age(rig.now, ["a"])) == ("live", 0.0)
    _damage(rig, "a", 13, 13)
    assert len(rig.all(TopicsUnreadable)) == 2, "another damage is told again"


def test_a_full_answer_does_not_sweep_it() -> None:
    rig = _live()
    rig.do(Lost(rig.conn, None, "cut"))
    knowledge = rig.machine._knowledge
    knowledge.relist(["p/"])
    question = knowledge.ask(["p/"], rig.now)
    assert knowledge.apply_page(question, [set_to("p/y", 5)]) == []
    assert knowledge.apply_unreadable(question, ["p/x"], 12) == ["p/x"]
    assert knowledge.finish(question, 12, 0.0) == []
    assert knowledge.known("p/x") == [set_to("p/x", 4)]
    question = knowledge.ask(["p/"], rig.now)
    question.since["p/"] = 0
    knowledge.apply_page(question, [set_to("p/y", 5)])
    assert knowledge.finish(question, 13, 0.0) == [gone("p/x", 13)], "the next answer does not name it: it is deleted"
    assert knowledge.unreadable() == []


def test_a_page_of_nothing_but_unreadable_topics_certifies_the_rest() -> None:
    rig = Rig("p/").syncing()
    rig.arrive(rig.subscribed(more=True, unreadable=["p/x", "p/y"]))
    rig.arrive(rig.subscribed(unreadable=["p/z"]))
    assert rig.mode == "live"
    assert rig.age == 0.0
    assert rig.all(TopicsUnreadable) == [TopicsUnreadable(["p/x", "p/y"]), TopicsUnreadable(["p/z"])]


def test_an_unreadable_topic_alone_is_no_reason_to_stay_out_of_live() -> None:
    rig = Rig("a").syncing()
    rig.arrive(rig.subscribed(unreadable=["a"]))
    assert (rig.mode, rig.age) == ("live", math.inf)
    rig.renewing().arrive(rig.renewed())
    assert rig.machine.statistics().repairs_unanswered == 0
    rig.arrive(Notify("a", 11, 1))
    assert rig.age < math.inf


def test_a_poll_answered_before_the_heal_does_not_take_it_back() -> None:
    rig = _live()
    knowledge = rig.machine._knowledge
    early = knowledge.ask(["p/"], rig.now)
    rig.arrive(Notify("p/x", 20, "healed"))
    assert knowledge.apply_unreadable(early, ["p/x"], 15) == []
    assert knowledge.unreadable() == []


def test_an_answer_from_before_the_damage_does_not_end_it() -> None:
    knowledge = Knowledge()
    knowledge.add(["a"])
    early, late = knowledge.ask(["a"], 0.0), knowledge.ask(["a"], 1.0)
    knowledge.apply_unreadable(late, ["a"], 9)
    knowledge.finish(late, 9, 0.0)
    knowledge.apply_page(early, [])
    knowledge.finish(early, 8, 0.0)
    assert knowledge.unreadable() == ["a"]
    later = knowledge.ask(["a"], 2.0)
    knowledge.apply_page(later, [])
    knowledge.finish(later, 10, 0.0)
    assert knowledge.unreadable() == [], "asked about by itself, and in order"


def test_a_record_that_can_be_read_again_is_news_though_a_certificate_covers_its_version() -> None:
    rig = _live()
    _damage(rig, "p/z", 8, 11)
    question = rig.machine._knowledge.ask(["p/"], rig.now)
    assert rig.machine._knowledge.apply_page(question, [set_to("p/z", 8)], 12) == [set_to("p/z", 8)]
    assert rig.machine.unreadable() == []


def test_a_late_answer_does_not_make_a_deletion_news_that_was_delivered_before() -> None:
    """Found by the small world: the tombstone was forgotten, since a certificate covers it, and delivered once more."""
    rig = _live()
    knowledge = rig.machine._knowledge
    late, question = knowledge.ask(["p/"], rig.now), knowledge.ask(["p/"], rig.now)
    assert knowledge.apply_page(question, [gone("p/z", 28)], 29) == [gone("p/z", 28)]
    knowledge.finish(question, 29, 0.0)
    assert knowledge.known("p/z") == []
    assert knowledge.apply_unreadable(late, ["p/z"], 26) == ["p/z"]
    assert not knowledge.apply(gone("p/z", 28))
    assert knowledge.unreadable() == [], "it is readable all the same"


def test_it_is_forgotten_with_its_name_and_in_another_history() -> None:
    rig = _live()
    _damage(rig, "a")
    _damage(rig, "p/new", 12, 12)
    rig.do(Unwanted(["a"]))
    assert rig.machine.unreadable() == ["p/new"]
    rig.do(Wanted(["p/new"]), Unwanted(["p/"]))
    assert rig.machine.unreadable() == ["p/new"], "another name covers it"
    rig.machine._knowledge.reset(at(3, "l2"))
    assert rig.machine.unreadable() == []


def test_topics_that_nothing_covers_are_ignored() -> None:
    rig = Rig("a").syncing()
    rig.arrive(rig.subscribed(unreadable=["stranger"]))
    assert rig.machine.unreadable() == []
    assert rig.all(TopicsUnreadable) == []


def test_a_tombstone_that_is_forgotten_does_not_end_the_damage() -> None:
    rig = Rig("p/").live([set_to("p/x", 4)])
    rig.arrive(Notify("p/x", 11, deleted=True))
    _damage(rig, "p/x", 12, 12)
    assert rig.machine.known("p/x") == [], "the certificate makes the tombstone superfluous"
    assert rig.machine.unreadable() == ["p/x"]


def test_an_answer_that_was_asked_for_later_but_read_earlier_does_not_end_it() -> None:
    knowledge = Knowledge()
    knowledge.add(["a"])
    slow, fast = knowledge.ask(["a"], 0.0), knowledge.ask(["a"], 1.0)
    knowledge.apply_unreadable(slow, ["a"], 25)
    knowledge.finish(slow, 25, 0.0)
    assert knowledge.apply_page(fast, [set_to("a", 20)], 20) == []
    knowledge.finish(fast, 20, 0.0)
    assert knowledge.unreadable() == ["a"]


def test_a_push_from_before_the_damage_does_not_end_it() -> None:
    rig = Rig("p/").live()
    _damage(rig, "p/x", 20, 20)
    rig.arrive(Notify("p/x", 15, "late"))
    assert rig.machine.unreadable() == ["p/x"]
    rig.arrive(Notify("p/x", 21, "healed"))
    assert rig.machine.unreadable() == []
