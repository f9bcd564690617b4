"""Mutants of answers about names: each is noticed by a schedule of `test_schedule_names`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from softstate.auth.authority import RulesAuthority
from softstate.auth.name_answers import Book, NameAnswers, Settled
from tests.simulation import test_schedule_names as a6

Patch = pytest.MonkeyPatch


def failures_allow(patch: Patch) -> None:
    """Have a name be allowed of which nobody can tell."""

    def failed(self: NameAnswers, book: Book, because: str, now: float) -> Settled:
        for asked in (*book.asking, *book.wanted):
            book.allowed.add(asked)
        return _failed(self, book, because, now)

    _failed = NameAnswers.failed
    patch.setattr(NameAnswers, "failed", failed)


def failures_refuse(patch: Patch) -> None:
    """Have a failure count as a no."""

    def failed(self: NameAnswers, book: Book, because: str, now: float) -> Settled:
        if not book.asking:
            return _failed(self, book, because, now)
        return self.got(book, [False] * len(book.asking), 60.0, now)

    _failed = NameAnswers.failed
    patch.setattr(NameAnswers, "failed", failed)


def answers_hold_for_ever(patch: Patch) -> None:
    """Have nobody look at answers that have ended."""
    patch.setattr(NameAnswers, "_plan", lambda _self, _book: None)


def answers_are_stale_for_ever(patch: Patch) -> None:
    """Have names stay allowed for as long as the callout fails."""

    def got(self: NameAnswers, book: Book, *args: Any) -> Settled:
        settled = _got(self, book, *args)
        for said in book.said.values():
            said.stale_until = float("inf")
        return settled

    _got = NameAnswers.got
    patch.setattr(NameAnswers, "got", got)


def no_lease_needs_its_names(patch: Patch) -> None:
    """Have names lapse that leases hold."""

    none = property(lambda _self: lambda _principal: lambda _name: False, _ignore)
    patch.setattr(NameAnswers, "held", none, raising=False)


def _ignore(_self: object, _value: object) -> None:
    pass


def what_is_lost_raises_no_generation(patch: Patch) -> None:
    """Have what was judged by lost names go on."""
    patch.setattr(RulesAuthority, "_names_changed", lambda _self, _principal, _held: None)


down = a6.test_a6_nobody_notices_that_names_cannot_be_asked_about_for_less_than_answers_hold
new = a6.test_a6_who_asks_for_a_name_while_it_is_down_waits_and_is_not_denied
lost = a6.test_a6_a_name_that_is_not_allowed_any_more_is_lost_at_once_and_another_stays
over = a6.test_a6_names_of_which_nobody_can_tell_for_too_long_end_their_leases_as_overloaded


@pytest.mark.parametrize(
    ("mutant", "schedule"),
    [
        (failures_allow, new),
        (failures_refuse, down),
        (answers_hold_for_ever, lost),
        (answers_are_stale_for_ever, over),
        (no_lease_needs_its_names, a6.test_a6_names_that_leases_hold_are_asked_about_once_in_their_time),
        (what_is_lost_raises_no_generation, lost),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_it_is_noticed(mutant: Callable[[Patch], None], schedule: Callable[[], Any], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        schedule()
