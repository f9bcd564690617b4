"""The history of a session: its last events, each once, and no more than so many."""

from __future__ import annotations

from softstate.lease.history import DETAIL_CHARS_MAX, EVENTS_KEPT, History, events_of, remembered


def test_the_last_events_are_kept_in_their_order() -> None:
    history: History = ()
    for number in range(EVENTS_KEPT + 3):
        history = remembered(history, float(number), f"event {number}", number)
    assert len(list(events_of(history))) == EVENTS_KEPT == 8
    assert [detail for _, _, detail in events_of(history)] == list(range(3, EVENTS_KEPT + 3))


def test_an_event_takes_the_place_of_one_of_its_kind_right_before_it() -> None:
    history = remembered(remembered((), 1.0, "opened"), 2.0, "subscribed", 10)
    history = remembered(history, 3.0, "subscribed", 20)
    assert history == (1.0, "opened", "", 3.0, "subscribed", 20)
    assert remembered(history, 4.0, "opened") == (*history, 4.0, "opened", "")


def test_a_detail_is_cut() -> None:
    _, _, detail = remembered((), 0.0, "closed", "x" * (DETAIL_CHARS_MAX + 1))
    assert detail == "x" * DETAIL_CHARS_MAX
