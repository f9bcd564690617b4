"""Those that wait for a change of some names are woken by the first one, once."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from softstate.server.fanout.name_watches import NameWatch, NameWatches
from softstate.server.fanout.recent_changes import RECENT_MAX, RecentChanges


def _never() -> None:
    raise AssertionError


def watch(names: Collection[str], after: int = 0) -> NameWatch:
    return NameWatch(names, after, _never, _never)


@pytest.mark.parametrize(
    ("names", "topic", "wakes"),
    [
        (["a"], "a", True),
        (["a"], "a/b", False),
        (["a/"], "a/b", True),
        (["a/"], "a/b/c", True),
        (["a/"], "a", False),
        (["/"], "a", True),
        (["/"], "$softstate/x", False),
        (["x", "a"], "a", True),
    ],
)
def test_a_name_covers_what_a_subscription_of_it_covers(names: list[str], topic: str, wakes: bool) -> None:
    watches, recent = NameWatches(), RecentChanges(0)
    one = watch(names)
    watches.add(one)
    watches.note(topic, 1)
    assert watches.take_woken() == ([one] if wakes else [])
    assert watches.take_woken() == []
    assert watches.names == (0 if wakes else len(names))
    recent.note(topic, 1)
    assert recent.any_changed(set(names), 0) is wakes
    assert not recent.any_changed(set(names), 1)


def test_a_change_that_is_known_wakes_nobody() -> None:
    watches = NameWatches()
    known, news = watch(["a"], after=7), watch(["a", "p/"], after=6)
    watches.add(known)
    watches.add(news)
    watches.note("a", 7)
    watches.note("p/x", 7)
    assert watches.take_woken() == [news]
    assert watches.names == 1


def test_who_has_left_is_not_woken_even_if_the_change_was_noted() -> None:
    watches = NameWatches()
    left, woken = watch(["a"]), watch(["a"])
    watches.add(left)
    watches.add(woken)
    watches.note("a", 1)
    watches.drop(left)
    watches.drop(left)
    assert watches.take_woken() == [woken]


def test_a_new_history_wakes_all() -> None:
    recent = RecentChanges(5)
    all_ = [watch(["a"]), watch(["b", "p/"])]
    for each in all_:
        recent.watches.add(each)
    recent.restart(1)
    assert recent.watches.take_woken() == all_
    assert recent.watches.names == 0


def test_what_is_no_longer_remembered_may_have_changed() -> None:
    recent = RecentChanges(0)
    for number in range(RECENT_MAX):
        recent.note(f"t{number}", number + 1)
    assert not recent.any_changed({"a"}, 0)
    recent.note("one more", RECENT_MAX + 1)
    assert recent.any_changed({"a"}, 0)
    assert not recent.any_changed({"a"}, 1)
