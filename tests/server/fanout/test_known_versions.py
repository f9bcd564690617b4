from __future__ import annotations

import pytest

from softstate.model import Page, Query, Record
from softstate.position import Position
from softstate.server.fanout.known_versions import LEARNT_MAX, KnownVersions
from softstate.server.fanout.recent_changes import RECENT_MAX, RecentChanges

START = Position("epoch", "lineage", 10)


class Rig:
    """A hub at revision 10, as far as it notes the changes that pass."""

    def __init__(self, topics_max: int = 10) -> None:
        self.recent = RecentChanges(START.revision)
        self.known = KnownVersions(START.revision, self.recent, topics_max)

    def passes(self, topic: str, version: int, cbor: bytes | None = b"\x01", *, unreadable: bool = False) -> None:
        self.recent.note(topic, version)
        self.known.note(Record(topic, version, None if unreadable else cbor, unreadable))

    def answers(self, topics: dict[str, int], *records: Record, at: int = START.revision, more: bool = False) -> None:
        self.known.learn(Query(topics), Page(START.at(at), 0, records, more))

    def knows(self, topic: str, version: int) -> bool:
        return self.known.nothing_newer({topic: version}, {}, START.revision)

    def knows_prefix(self, since: int, revision: int = START.revision) -> bool:
        return self.known.nothing_newer({}, {"p/": since}, revision)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_nothing_is_known_of_a_topic_that_no_poll_has_asked_for(rig: Rig) -> None:
    rig.passes("a", 11)
    assert not rig.knows("a", 11)
    assert not rig.knows("a", 0)


def test_the_store_s_answer_tells_the_version_of_what_differs_and_of_what_does_not(rig: Rig) -> None:
    rig.answers({"same": 4, "newer": 3, "none": 0, "gone": 2}, Record("newer", 7, b"\x01"), Record("gone", 8, None))
    assert all([rig.knows("same", 4), rig.knows("newer", 7), rig.knows("none", 0), rig.knows("gone", 8)])
    assert not any([rig.knows("same", 3), rig.knows("newer", 3), rig.knows("none", 1), rig.knows("gone", 2)])


def test_all_of_a_poll_s_topics_have_to_be_known(rig: Rig) -> None:
    rig.answers({"a": 4, "b": 5})
    assert rig.known.nothing_newer({"a": 4, "b": 5}, {}, 10)
    assert not rig.known.nothing_newer({"a": 4, "b": 5, "c": 0}, {}, 10)
    assert not rig.known.nothing_newer({"a": 4, "b": 4}, {}, 10)


@pytest.mark.parametrize("cbor", [b"\x01", None])
def test_a_change_that_passes_takes_the_place_of_what_was_known(rig: Rig, cbor: bytes | None) -> None:
    rig.answers({"a": 4})
    rig.passes("a", 11, cbor)
    assert not rig.knows("a", 4)
    assert rig.knows("a", 11)


def test_a_change_that_the_answer_has_seen_already_takes_nothing_back(rig: Rig) -> None:
    rig.answers({"a": 4}, Record("a", 12, b"\x01"), at=12)
    rig.passes("a", 11)
    assert rig.knows("a", 12)
    rig.passes("a", 12)
    assert rig.knows("a", 12)


def test_an_answer_that_is_older_than_a_change_that_has_passed_teaches_nothing(rig: Rig) -> None:
    rig.passes("a", 11)
    rig.answers({"a": 4, "b": 5})
    assert not rig.knows("a", 4)
    assert rig.knows("b", 5)


def test_an_answer_that_may_be_older_than_what_is_remembered_of_changes_teaches_nothing(rig: Rig) -> None:
    for number in range(RECENT_MAX + 1):
        rig.passes(f"t/{number}", 11 + number)
    rig.answers({"a": 4})
    assert not rig.knows("a", 4)
    rig.answers({"a": 4}, at=11)
    assert rig.knows("a", 4)


def test_a_damaged_record_is_not_known(rig: Rig) -> None:
    rig.answers({"a": 4, "b": 5}, Record("a", 4, None, unreadable=True))
    assert not rig.knows("a", 4)
    rig.passes("b", 11, unreadable=True)
    assert not rig.knows("b", 5)
    assert not rig.knows("b", 11)
    rig.answers({"b": 11}, at=11)
    rig.passes("b", 12)
    assert rig.knows("b", 12)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        (Query({"a": 4}), Page(START, 0, more=True)),
        (Query({"a": 4}), Page(START, 0, restart=True)),
        (Query({"a": 4}, after=3), Page(START, 0)),
        (Query({str(number): 0 for number in range(LEARNT_MAX + 1)}), Page(START, 0)),
    ],
)
def test_a_page_that_is_not_the_whole_answer_or_is_of_very_many_topics_teaches_nothing(
    rig: Rig, query: Query, page: Page
) -> None:
    rig.known.learn(query, page)
    assert len(rig.known) == 0


def test_so_many_topics_are_known_and_the_first_go_first() -> None:
    rig = Rig(topics_max=2)
    rig.answers({"a": 1, "b": 2})
    rig.answers({"c": 3})
    assert not rig.knows("a", 1)
    assert rig.knows("b", 2)
    assert rig.knows("c", 3)
    rig.answers({str(number): number for number in range(100)})
    assert len(rig.known) == 2


def test_none_are_known_if_the_limit_is_none() -> None:
    rig = Rig(topics_max=0)
    rig.answers({"a": 1})
    assert len(rig.known) == 0


def test_of_a_prefix_it_is_known_that_nothing_at_all_has_changed(rig: Rig) -> None:
    assert rig.knows_prefix(10)
    assert not rig.knows_prefix(9), "a change before this node began is not known"
    rig.passes("elsewhere", 12)
    assert not rig.knows_prefix(11, revision=14)
    assert all(rig.knows_prefix(since, revision=14) for since in (12, 13, 14))
    assert not rig.knows_prefix(15, revision=14), "the asker has seen more than this node"


def test_a_prefix_of_which_nothing_is_held_is_for_the_store() -> None:
    recent = RecentChanges(0)
    assert not KnownVersions(0, recent, 10).nothing_newer({}, {"p/": 0}, 0)


def test_nothing_of_a_history_is_left_when_another_begins(rig: Rig) -> None:
    rig.answers({"a": 4})
    rig.passes("b", 20)
    rig.recent.restart(15)
    rig.known.restart(15)
    assert len(rig.known) == 0
    assert rig.knows_prefix(15, revision=15)
    assert not rig.knows_prefix(14, revision=15)
