"""Polls that a node refuses, or never ends, are told once and not repeated; publishes leave a silent node in time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from softstate.client.machine import knowledge
from softstate.client.machine.events import (
    Lost,
    NodeRefused,
    PublishAnswered,
    PublishDropped,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Settled,
    Unwanted,
    Wanted,
)
from softstate.client.machine.knowledge import IDLE_PAGES_MAX
from softstate.errors import Invalid, RequestError, TooLarge, Unsupported
from softstate.model import Change
from softstate.wire.messages import BatchResult, Limits
from tests.kit.machine_rig import OTHER, URL, Rig, at, set_to

THIRD = "ws://127.0.0.1:8702"

LAPSE_S_MIN = 0.8 * 10 * 30.0
"""For so long at least a refused poll is not sent again: ten backoff caps, less the jitter."""


def _polling(rig: Rig) -> bool:
    return rig.machine.describe().polling


def _until_a_poll(rig: Rig) -> None:
    while not _polling(rig):
        rig.tick_once()


def _refuse(rig: Rig, error: RequestError) -> None:
    rig.do(RequestFailed(rig.poll.request, str(error), error))


@pytest.mark.parametrize("error", [Invalid("a rule"), Unsupported("no polls"), TooLarge("even one")])
def test_a_poll_refused_is_told_once_and_not_sent_again_unchanged(error: RequestError) -> None:
    rig = Rig("a", push=False).open()
    _refuse(rig, error)
    assert rig.all(NodeRefused) == [NodeRefused(URL, error)]
    assert rig.machine.last_error is error
    rig.advance(LAPSE_S_MIN - 1.0)
    assert len(rig.all(SendPoll)) == 1
    assert rig.mode == "polling"
    rig.do(Wanted(["b"]))
    assert rig.poll.message.topics == {"a": 0, "b": 0}, "that is another question"
    while _polling(rig):
        _refuse(rig, error)
    assert len(rig.all(NodeRefused)) == 1, "told once"
    rig.advance(0.5)
    asked = [tuple(poll.message.topics) for poll in rig.all(SendPoll)]
    halves = [("b",)] if isinstance(error, TooLarge) else []
    assert asked == [("a",), ("a", "b"), *halves]
    rig.do(Unwanted(["b"]))
    rig.advance(0.4)
    assert len(rig.all(SendPoll)) == len(asked), "the first question again"


@pytest.mark.parametrize("error", [Invalid("a rule"), Unsupported("no polls"), TooLarge("even one")])
def test_a_poll_refused_is_tried_again_much_later(error: RequestError) -> None:
    rig = Rig("a", push=False).open()
    end, times = rig.now + 24 * 3_600.0, []
    while rig.now < end:
        if _polling(rig):
            times.append(rig.now)
            _refuse(rig, error)
        else:
            rig.tick_once()
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert min(waits) >= LAPSE_S_MIN
    assert max(waits) <= 1.5 * LAPSE_S_MIN + 18.0, "in the first round of polls behind it"
    assert len(rig.all(NodeRefused)) == 1, "told once"
    _until_a_poll(rig)
    rig.do(rig.polled())
    assert rig.age == 0.0


def test_offline_a_refused_poll_is_tried_again_as_well() -> None:
    rig = Rig("a", push=False).open()
    _refuse(rig, Invalid("a rule"))
    rig.do(_asked(1))
    while rig.mode != "offline":
        if rig.machine.describe().publishing:
            rig.do(RequestFailed(_sent(rig).request, "unreachable"))
        else:
            rig.tick_once()
    rig.do(PublishDropped(1))
    rig.advance(400.0)
    assert len(rig.all(SendPoll)) > 1


def test_a_set_wanted_again_after_a_refusal_lapsed_is_asked_at_once() -> None:
    rig = Rig("a", push=False).open()
    _refuse(rig, Invalid("a rule"))
    rig.do(Unwanted(["a"]))
    rig.advance(2 * LAPSE_S_MIN)
    rig.do(Wanted(["a"]))
    assert len(rig.all(SendPoll)) == 2


def test_other_questions_of_the_round_go_on() -> None:
    rig = Rig(*(f"{name}" * 250 for name in "abcdefgh")).syncing(
        limits=Limits(100, 1, 2_048, 1, 1, 1, 1, 4_096, 16_384)
    )
    rig.do(Lost(rig.conn, None, "cut"))
    _until_a_poll(rig)
    first = rig.poll.message
    _refuse(rig, Invalid("a rule"))
    answered = 0
    while _polling(rig):
        assert rig.poll.message.topics.keys().isdisjoint(first.topics)
        answered += len(rig.poll.message.topics)
        rig.do(rig.polled())
    assert answered + len(first.topics) == 8
    _until_a_poll(rig)
    while _polling(rig):
        assert rig.poll.message.topics.keys().isdisjoint(first.topics), "nor in later rounds"
        rig.do(rig.polled())


def test_a_poll_too_large_goes_in_halves_until_one_fits_and_stays_so() -> None:
    names = [f"t{number}" for number in range(100)]
    rig = Rig(*names, push=False).open()

    def answer() -> list[int]:
        sizes = []
        while _polling(rig):
            sizes.append(len(rig.poll.message.topics))
            if sizes[-1] > 30:
                _refuse(rig, TooLarge("at most 30"))
            else:
                rig.do(rig.polled())
        return sizes

    assert answer() == [100, 50, 25, 25, 25, 25]
    assert rig.age == 0.0
    assert len(rig.all(NodeRefused)) == 1
    _until_a_poll(rig)
    assert answer() == [25, 25, 25, 25]
    rig.do(Unwanted(names[:10]))
    _until_a_poll(rig)
    assert answer() == [90, 45, 23, 23, 23, 21], "another set is another question"


def test_a_set_that_was_too_large_goes_in_halves_again_when_it_is_back() -> None:
    names = [f"t{number}" for number in range(100)]
    rig = Rig(*names, push=False).open()

    def answer_all(seconds: float) -> int:
        """Answer polls of 30 names and fewer; return how many names were answered."""
        end, answered = rig.now + seconds, set[str]()
        while rig.now < end:
            if not _polling(rig):
                rig.tick_once()
            elif len(rig.poll.message.topics) > 30:
                _refuse(rig, TooLarge("at most 30"))
            else:
                answered.update(rig.poll.message.topics)
                rig.do(rig.polled())
        return len(answered)

    assert answer_all(40.0) == 100, "and all of it within a time in which no refusal lapses"
    rig.do(Wanted(["q"]))
    assert answer_all(40.0) == 101
    rig.do(Unwanted(["q"]))
    asked = len(rig.all(SendPoll))
    assert answer_all(100.0) == 100
    assert rig.age < 20.0
    assert len(rig.all(SendPoll)) - asked <= 4 * 100.0 / 12.0 + 5, "no more than the rounds that are due"


def test_another_node_is_asked_what_one_refuses() -> None:
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    assert rig.poll.url == URL
    _refuse(rig, Invalid("a rule"))
    _until_a_poll(rig)
    assert rig.poll.url == OTHER
    rig.do(rig.polled())
    assert rig.age == 0.0
    for _ in range(5):
        _until_a_poll(rig)
        assert rig.poll.url == OTHER
        rig.do(rig.polled())


def test_a_refusal_is_an_answer_so_the_client_is_not_offline() -> None:
    rig = Rig("a", push=False).open()
    for _ in range(2):
        rig.do(RequestFailed(rig.poll.request, "unreachable"))
        rig.tick_once()
    rig.do(RequestFailed(rig.poll.request, "unreachable"))
    assert rig.mode == "offline"
    rig.tick_once()
    _refuse(rig, Invalid("a rule"))
    assert rig.mode == "polling"


def test_a_client_that_is_refused_polls_goes_live_by_push() -> None:
    rig = Rig("a").open()
    rig.advance(2.0)
    _refuse(rig, Unsupported("no polls"))
    rig.live()
    assert rig.age == 0.0


@pytest.mark.parametrize("cursors", [["x", "x"], ["x", "y", "x"], ["x", None]])
def test_a_cursor_that_comes_again_ends_the_answer(cursors: list[str | None]) -> None:
    rig = Rig("p/", push=False).open()
    for cursor in cursors:
        rig.do(rig.polled(more=True, cursor=cursor))
    assert not _polling(rig)
    assert "further pages without an end" in str(rig.machine.last_error)
    assert rig.age == float("inf"), "what was cut off certifies nothing"
    asked = len(rig.all(SendPoll))
    rig.advance(0.6)
    assert len(rig.all(SendPoll)) <= asked + 1, "after a backoff"
    rig.advance(60.0)
    assert len(rig.all(SendPoll)) > asked


@pytest.mark.parametrize("changes", [[], [set_to("p/a", 5)], [set_to("p/a", 5), set_to("p/b", 6)]])
def test_an_answer_whose_pages_bring_nothing_newer_ends_as_an_error_of_the_node(changes: list[Change]) -> None:
    rig = Rig("p/", push=False, urls=(URL, OTHER)).open()
    pages = 0
    while rig.poll.url == URL:
        pages += 1
        assert pages <= IDLE_PAGES_MAX + 2
        rig.do(rig.polled(*changes, more=True, cursor=f"c{pages}"))
    assert "further pages without an end" in str(rig.machine.last_error)
    rig.do(rig.polled())
    assert rig.age == 0.0
    _until_a_poll(rig)
    assert rig.poll.url == OTHER


def test_a_node_that_never_ends_its_answers_is_asked_again_after_a_backoff() -> None:
    rig = Rig("p/", push=False).open()
    for number in range(IDLE_PAGES_MAX + 1):
        rig.do(rig.polled(more=True, cursor=f"c{number}"))
    assert not _polling(rig)
    _until_a_poll(rig)
    assert rig.poll.message.cursor is None
    rig.do(rig.polled())
    assert rig.age == 0.0


def test_a_dear_answer_may_have_many_pages_without_a_change_and_more_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "IDLE_PAGES_MAX", 100)
    rig = Rig("p/", push=False).open()
    for number in range(100):
        rig.do(rig.polled(more=True, cursor=f"a{number}"))
    for number in range(100):
        rig.do(rig.polled(set_to(f"p/{number}", number + 1), revision=5_000, more=True, cursor=f"b{number}"))
    for number in range(100):
        damaged = [f"p/d{number}"] if number == 50 else []
        rig.do(rig.polled(revision=5_000, more=True, cursor=f"c{number}", unreadable=damaged))
    for number in range(50):
        rig.do(rig.polled(revision=5_000, more=True, cursor=f"d{number}"))
    rig.do(rig.polled(revision=5_000))
    assert rig.age < 1.0
    assert len(rig.machine.known("p/")) == 100


@pytest.mark.parametrize("error", [Invalid("a cursor"), Unsupported("a cursor"), TooLarge("even one")])
def test_a_refused_cursor_does_not_condemn_its_question(error: RequestError) -> None:
    rig = Rig("p/", push=False).open()
    rig.do(rig.polled(set_to("p/a", 5), more=True, cursor="x"))
    _refuse(rig, error)
    assert rig.machine.last_error is error
    assert rig.age == float("inf"), "what was cut off certifies nothing"
    _until_a_poll(rig)
    assert (rig.poll.message.cursor, rig.poll.message.prefixes) == (None, {"p/": 0})
    rig.do(rig.polled(set_to("p/a", 5)))
    assert rig.age == 0.0


def test_a_cursor_that_is_always_refused_backs_off_and_leads_to_the_next_node() -> None:
    rig = Rig("p/", push=False, urls=(URL, OTHER)).open()
    rig.do(rig.polled(more=True, cursor="x"))
    _refuse(rig, Invalid("a cursor"))
    assert rig.poll.url == OTHER
    end = rig.now + 3_600.0
    while rig.now < end:
        if not _polling(rig):
            rig.tick_once()
        elif rig.poll.message.cursor is None:
            rig.do(rig.polled(more=True, cursor="x"))
        else:
            _refuse(rig, Invalid("a cursor"))
    assert 100 < len(rig.all(SendPoll)) < 4 * 3_600.0 / 15.0 * 1.4, "both nodes, two pages, within the backoff's cap"


def test_a_cursor_too_large_goes_in_halves() -> None:
    rig = Rig("a", "b", push=False).open()
    rig.do(rig.polled(more=True, cursor="x"))
    _refuse(rig, TooLarge("with a cursor"))
    for name in "ab":
        assert (rig.poll.message.cursor, list(rig.poll.message.topics)) == (None, [name])
        rig.do(rig.polled())
    assert rig.age == 0.0


# Publishes over HTTP -------------------------------------------------------------------------------------------------


def _asked(ticket: int) -> PublishRequested:
    return PublishRequested(ticket, "a", 1, deleted=False, expect=None, key=f"k{ticket}")


def _sent(rig: Rig) -> SendPublish:
    return rig.all(SendPublish)[-1]


def test_a_silent_node_leaves_the_other_nodes_time_for_a_publish() -> None:
    rig = Rig(push=False, urls=(URL, OTHER, THIRD)).open()
    rig.do(_asked(1))
    began, tried = rig.now, []
    for _ in range(3):
        tried.append((_sent(rig).url, rig.now - began))
        rig.advance(_sent(rig).timeout_s)
    assert [url for url, _ in tried] == [URL, OTHER, THIRD]
    assert max(at_s for _, at_s in tried) < 4.0


def test_the_next_publish_begins_at_the_node_that_answered_last() -> None:
    rig = Rig(push=False, urls=(URL, OTHER)).open()
    rig.do(_asked(1))
    rig.advance(_sent(rig).timeout_s)
    assert _sent(rig).url == OTHER
    rig.do(_answered(rig))
    assert len(rig.recent(Settled)) == 1
    rig.do(_asked(2))
    assert _sent(rig).url == OTHER
    rig = Rig("a", push=False, urls=(URL, OTHER)).open()
    rig.do(RequestFailed(rig.poll.request, "unreachable"))
    rig.do(rig.polled())
    rig.do(_asked(1))
    assert _sent(rig).url == OTHER, "polls tell as well"


def _answered(rig: Rig) -> PublishAnswered:
    return PublishAnswered(_sent(rig).request, [BatchResult("a", 9, at(9))])
