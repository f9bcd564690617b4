"""Answers of a callout: how long they hold, when it is asked again, and how much at most."""

from __future__ import annotations

import gc
import math

import pytest

from softstate.auth import answers as module
from softstate.auth.answers import AGAIN_S, Answer, Answers, CalloutTimes, Entry, Standing, Waiter
from softstate.auth.rules import Known
from softstate.errors import RequestError

GOOD = Answer(Known("callout", "u1"), 60.0)


class Rig:
    """Answers at a time of the test's choosing; `told` is what the waiters were told."""

    def __init__(self, inflight_max: int = 64) -> None:
        self.now = 0.0
        self.answers = Answers(CalloutTimes(ttl_s=60, stale_s=300, timeout_s=2), inflight_max)
        self.woken = 0
        self.answers.woken = self._wake

    def _wake(self) -> None:
        self.woken += 1

    def ask(self, token: str) -> None:
        self.answers.ask(token, token, "peer", Waiter(_nothing, lambda: None), self.now)

    def due(self) -> list[Entry]:
        found = []
        while (entry := self.answers.next_due(self.now)) is not None:
            found.append(entry)
        return found

    def answer(self, entry: Entry, answer: Answer = GOOD) -> bool:
        entry.waiters.clear()
        return self.answers.got(entry, answer, self.now)

    def fail(self, entry: Entry) -> bool:
        entry.waiters.clear()
        return self.answers.failed(entry, self.now)

    def known(self, token: str, answer: Answer = GOOD) -> tuple[Entry, Standing]:
        """Have a token asked about and answered, and hold on to that."""
        self.ask(token)
        (entry,) = self.due()
        self.answer(entry, answer)
        return entry, entry.hold()


def _nothing(_error: RequestError | None) -> None:
    """Take it."""


def test_a_token_is_asked_about_once_for_all_who_wait() -> None:
    rig = Rig()
    assert rig.answers.find("t", 0.0) is None
    rig.ask("t")
    rig.ask("t")
    (entry,) = rig.due()
    rig.ask("t")
    assert (rig.due(), len(entry.waiters), rig.answers.inflight, rig.woken) == ([], 3, 1, 1)
    assert not rig.answer(entry), "nothing rested on another answer"
    assert rig.answers.find("t", 59.9) is entry
    assert rig.answers.inflight == 0


def test_an_answer_holds_for_as_long_as_it_says() -> None:
    rig = Rig()
    entry, _standing = rig.known("t", Answer(GOOD.known, 5.0))
    assert rig.answers.find("t", 4.9) is entry
    assert rig.answers.find("t", 5.0) is None
    assert rig.answers.due_at() == 5.0


def test_it_is_asked_again_about_what_something_rests_on_and_nothing_else() -> None:
    rig = Rig()
    entry, _standing = rig.known("held")
    rig.known("left")
    gc.collect()
    rig.now = 60.0
    assert rig.due() == [entry]
    assert rig.answers.find("left", 60.0) is None
    assert not rig.answer(entry), "it says the same"
    rig.now = 120.0
    assert rig.due() == [entry]


def test_an_answer_that_says_something_else_is_told() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    for answer, changed in (
        (GOOD, False),
        (Answer(GOOD.known, 1.0), False),
        (Answer(Known("callout", "u1", frozenset({"ops"})), 60.0), True),
        (Answer(None, 60.0), True),
        (Answer(None, 60.0), False),
    ):
        rig.now = entry.good_until
        assert rig.due() == [entry]
        assert rig.answer(entry, answer) is changed


def test_who_comes_while_it_is_asked_again_waits_for_that() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    rig.now = 60.0
    assert rig.due() == [entry]
    assert rig.answers.find("t", rig.now) is None
    rig.ask("t")
    assert rig.due() == []
    rig.answer(entry)
    assert rig.answers.find("t", rig.now) is entry


def test_the_last_answer_holds_while_the_callout_fails_and_then_is_over() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    asked = []
    rig.now = 60.0
    while rig.now < 360.0:
        for each in rig.due():
            asked.append(rig.now)
            assert not rig.fail(each)
            assert rig.answers.find("t", rig.now) is entry
        rig.now = rig.answers.due_at()
    assert rig.now == 360.0
    assert len(asked) == pytest.approx(300 / AGAIN_S, abs=2)
    assert rig.answers.find("t", 360.0) is None
    assert [each in rig.answers for each in rig.answers.over(360.0)] == [False]
    assert len(rig.answers) == 0


def test_an_answer_on_which_nothing_rests_is_there_if_the_callout_fails_when_it_is_presented() -> None:
    """So those who poll over HTTP do not depend on the callout more than those who have a session."""
    rig = Rig()
    entry = rig.known("t")[0]
    for rig.now in (100.0, 200.0):
        assert rig.due() == []
        assert rig.answers.find("t", rig.now) is None
        rig.ask("t")
        assert rig.due() == [entry]
        assert not rig.fail(entry)
        assert rig.answers.find("t", rig.now) is entry
    rig.now = 206.0
    assert rig.due() == []
    assert rig.answers.find("t", rig.now) is None, "it is asked again"
    assert list(rig.answers.over(360.0)) == [], "nobody is to be told"
    assert len(rig.answers) == 0


def test_a_failure_at_the_end_of_that_time_is_the_end_of_the_answer() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    rig.now = 359.0
    assert rig.due() == [entry]
    rig.now = 361.0
    assert list(rig.answers.over(rig.now)) == [], "it is being asked about"
    assert rig.fail(entry)
    assert entry not in rig.answers


def test_an_answer_that_comes_late_is_no_end() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    rig.now = 359.0
    assert rig.due() == [entry]
    rig.now = 361.0
    rig.answer(entry)
    assert list(rig.answers.over(rig.now)) == []
    rig.now = 361.0 + 360.0
    assert list(rig.answers.over(rig.now)) == [entry]


def test_an_answer_that_came_late_ends_too_if_no_other_is_asked_for() -> None:
    rig = Rig(inflight_max=1)
    entry, _standing = rig.known("t")
    rig.now = 359.0
    assert rig.due() == [entry]
    rig.now = 361.0
    assert list(rig.answers.over(rig.now)) == []
    rig.answer(entry)
    rig.now += 60.0
    rig.ask("hangs")
    assert [each.token for each in rig.due()] == ["hangs"]
    assert rig.answers.due_at() == 361.0 + 360.0
    rig.now = 361.0 + 360.0
    assert list(rig.answers.over(rig.now)) == [entry]


def test_a_token_that_was_never_answered_for_is_forgotten_when_that_fails() -> None:
    rig = Rig()
    rig.ask("t")
    (entry,) = rig.due()
    assert not rig.fail(entry)
    assert len(rig.answers) == 0
    rig.ask("t")
    assert len(rig.due()) == 1


def test_so_many_questions_are_on_their_way_and_those_whom_somebody_waits_for_come_first() -> None:
    rig = Rig(inflight_max=2)
    held = [rig.known(name) for name in ("a", "b", "c")]
    rig.now = 60.0
    first = rig.due()
    assert [entry.token for entry in first] == ["a", "b"]
    rig.ask("new")
    assert rig.due() == []
    assert rig.answers.due_at() == 62.0, "until it has waited for too long"
    rig.answer(first[0])
    assert [entry.token for entry in rig.due()] == ["new"]
    rig.answer(first[1])
    assert [entry.token for entry in rig.due()] == ["c"]
    assert len(held) == 3


def test_new_tokens_keep_nobody_from_being_asked_about_again() -> None:
    """Else a flood of them, of which none counts as forged, would keep a user in whom the callout knows no more."""
    rig = Rig(inflight_max=1)
    entry, _standing = rig.known("here")
    rig.now = 60.0
    for number in range(4):
        rig.ask(f"new{number}")
    order = []
    for _ in range(4):
        (each,) = rig.due()
        order.append(each.token)
        rig.answer(each)
    assert order == ["here", "new0", "new1", "new2"], "the one before was new"
    assert entry.good_until == 120.0


def test_who_has_waited_too_long_to_be_asked_about_is_told() -> None:
    rig = Rig(inflight_max=1)
    for name in ("a", "b"):
        rig.ask(name)
    (first,) = rig.due()
    rig.now = 1.9
    assert list(rig.answers.late(rig.now)) == []
    rig.now = 2.0
    (late,) = rig.answers.late(rig.now)
    assert late.token == "b"
    rig.fail(late)
    rig.answer(first)
    assert (rig.answers.inflight, len(rig.answers), rig.due()) == (0, 1, [])


def test_so_many_wait_and_others_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    rig = Rig(inflight_max=1)
    for name in ("a", "b", "c", "a"):
        rig.ask(name)
    assert rig.answers.due_at() == -math.inf
    ((_, error),) = rig.answers.turned_away()
    assert (error.code, error.retry_ms) == ("overloaded", module.DOWN_RETRY_MS)
    assert rig.answers.turned_away() == []
    assert len(rig.answers) == 2


def test_so_many_answers_are_kept_on_which_nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_MAX", 4)
    rig = Rig()
    held = [rig.known(f"held{number}") for number in range(2)]
    for number in range(20):
        rig.known(f"token{number}")
    assert len(rig.answers) == 4
    assert all(rig.answers.find(entry.token, 0.0) is entry for entry, _ in held)
    more = [rig.known(f"more{number}") for number in range(10)]
    assert all(rig.answers.find(entry.token, 0.0) is entry for entry, _ in held + more)


def test_another_callout_is_asked_about_all() -> None:
    rig = Rig()
    entry, _standing = rig.known("t")
    rig.answers.forget(CalloutTimes(ttl_s=10), 8)
    assert rig.answers.find("t", 0.0) is None
    assert rig.due() == [entry]


def test_heaps_do_not_grow_with_the_number_of_answers_to_one_token() -> None:
    rig = Rig()
    entry, _standing = rig.known("t", Answer(GOOD.known, 1.0))
    for _ in range(200):
        rig.now = entry.good_until
        list(rig.answers.over(rig.now))
        assert rig.due() == [entry]
        rig.answer(entry, Answer(GOOD.known, 1.0))
    assert len(rig.answers._due) + len(rig.answers._stale) <= 3
