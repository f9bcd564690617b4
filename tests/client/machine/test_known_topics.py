"""Known topics are found by prefix without a look at the others."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.known_topics import KnownTopics
from softstate.model import Change
from softstate.names import covers, prefixes_of
from tests.kit.machine_rig import at, set_to

TOPICS = ["a", "b", "a/b", "a/b/c", "a/b/d", "a/c", "b/c/d/e", "ab", "a/b/c/d"]
PREFIXES = sorted({prefix for topic in TOPICS for prefix in prefixes_of(topic)} | {"c/", "a/b/c/d/"})


class Unscannable(dict[str, Any]):
    """Finds, and refuses to be gone through."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("every topic known is looked at")

    keys = values = items = __iter__  # type: ignore[assignment]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_listed_is_what_a_look_at_all_topics_finds(seed: int) -> None:
    random, known, held = Random(seed), KnownTopics(), dict[str, Change]()
    for version in range(1, 120):
        topic = random.choice(TOPICS)
        if topic in held and random.random() < 0.5:
            known.forget(topic)
            del held[topic]
        else:
            held[topic] = set_to(topic, version)
            known.keep(held[topic])
        assert known.states == held
        but = random.sample([*TOPICS, *PREFIXES], random.randrange(4))
        for prefix in PREFIXES:
            listed = known.below(prefix)
            assert len(listed) == len(set(listed))
            assert set(listed) == {each for each in held if covers(prefix, each)}
            rest = {
                each
                for each in held
                if covers(prefix, each)
                and not any(covers(name, each) for name in but if name != prefix and not covers(name, prefix))
            }
            inner = [name for name in but if name != prefix and not (name.endswith("/") and prefix.startswith(name))]
            assert set(known.below(prefix, inner)) == rest
    for topic in list(held):
        known.forget(topic)
    assert known._children == {}, "nothing is left of a topic that was forgotten"


def test_opening_and_closing_a_prefix_looks_only_at_what_lies_below_it() -> None:
    knowledge = Knowledge()
    knowledge.add(["all/", "p/", "p/q/", "p/x"])
    for topic in ("all/1", "all/2", "p/x", "p/y", "p/q/z"):
        knowledge.apply(set_to(topic, 5))
    knowledge._known.states = Unscannable(knowledge._known.states)
    assert [change.topic for change in knowledge.known("p/")] == ["p/x", "p/y", "p/q/z"]
    knowledge.add(["p/q/r/"])
    assert knowledge.known("p/q/r/") == []
    knowledge.remove(["p/"])
    assert [topic for topic in ("p/x", "p/y", "p/q/z") if knowledge.known(topic)] == ["p/x", "p/q/z"]
    knowledge.remove(["p/q/", "p/q/r/", "p/x"])
    assert len(knowledge._known.states) == 2
    knowledge.add(["all/1"])
    knowledge.remove(["all/"])
    assert len(knowledge._known.states) == 1


def test_a_full_answer_sweeps_without_a_look_at_other_topics() -> None:
    knowledge = Knowledge()
    knowledge.add(["all/", "p/"])
    for topic in ("all/1", "p/x", "p/y"):
        knowledge.apply(set_to(topic, 5))
    knowledge._known.states = Unscannable(knowledge._known.states)
    question = knowledge.ask(["p/"], 0.0)
    assert knowledge.apply_page(question, [set_to("p/y", 6)]) == [set_to("p/y", 6)]
    assert knowledge.finish(question, 9, 0.0) == [Change("p/x", 9, deleted=True)]


def test_after_a_reset_the_old_values_are_found_by_prefix() -> None:
    knowledge = Knowledge()
    knowledge.add(["p/"])
    knowledge.apply(set_to("p/x", 5))
    knowledge.apply(Change("p/y", 6, deleted=True))
    knowledge.reset(at(3, "l2"))
    assert knowledge.known("p/") == knowledge.known("/") == [Change("p/x", 0, "v5")]
    assert not knowledge.apply(Change("p/x", 0, "v5")), "version 0 is no news"


def test_what_the_widest_prefix_does_not_reach_is_not_below_it() -> None:
    known = KnownTopics()
    for topic in ("$a/b", "$c", "$", "a/$b", "a"):
        known.keep(Change(topic, 1, 0))
    assert sorted(known.below("/")) == ["a", "a/$b"]
    assert known.below("$a/") == ["$a/b"]
    for topic in ("$a/b", "$c", "$"):
        known.forget(topic)
    assert sorted(known.below("/")) == ["a", "a/$b"]
    assert known.below("$a/") == []
