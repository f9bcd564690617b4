"""Mutants of the callout: each is noticed by schedule A6."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from softstate.auth.answers import Answer, Answers, Entry
from softstate.auth.authority import RulesAuthority
from softstate.server.auth.warden import Warden
from tests.simulation import test_schedule_callout as a6

Patch = pytest.MonkeyPatch


def answers_end_when_their_time_is_over(patch: Patch) -> None:
    """Have nothing hold while the callout fails."""

    def failed(self: RulesAuthority, entry: Entry, now: float) -> None:
        entry.stale_until = now
        unanswered(self, entry, now)

    unanswered = RulesAuthority.unanswered
    patch.setattr(RulesAuthority, "unanswered", failed)


def answers_hold_for_ever(patch: Patch) -> None:
    """Have the last answer hold for as long as the callout fails."""
    got = Answers.got

    def hold(self: Answers, entry: Entry, answer: Answer, now: float) -> bool:
        changed = got(self, entry, answer, now)
        entry.stale_until = float("inf")
        return changed

    patch.setattr(Answers, "got", hold)


def a_failure_is_a_refusal(patch: Patch) -> None:
    """Have a callout that fails count as one that says no."""
    patch.setattr(RulesAuthority, "unanswered", lambda self, entry, now: self.answered(entry, Answer(None, 60.0), now))


def nobody_is_asked_about_again(patch: Patch) -> None:
    """Have an answer hold for as long as anything rests on it."""
    patch.setattr(Entry, "release", lambda _self: False)


def leases_outlive_a_no(patch: Patch) -> None:
    """Have nobody told that an answer has turned to no."""
    patch.setattr(Warden, "lost", lambda _self, _tokens, _reason: None)


def grants_stay_as_they_were(patch: Patch) -> None:
    """Have another grant not raise the generation."""
    patch.setattr(Answers, "got", partial_got(Answers.got))


def partial_got(got: Callable[..., bool]) -> Callable[..., bool]:
    """Return `got` that tells of no change."""

    def unchanged(self: Answers, entry: Entry, answer: Answer, now: float) -> bool:
        got(self, entry, answer, now)
        return False

    return unchanged


while_it_fails = partial(a6.test_a6_nobody_notices_a_callout_that_fails_for_less_than_its_answers_hold, "down")
after_that = partial(a6.test_a6_after_that_leases_are_revoked_as_overloaded_and_everybody_comes_back, "down")


@pytest.mark.parametrize(
    ("mutant", "schedule"),
    [
        (answers_end_when_their_time_is_over, while_it_fails),
        (answers_hold_for_ever, after_that),
        (a_failure_is_a_refusal, a6.test_a6_who_comes_while_it_is_down_waits_and_is_not_refused),
        (nobody_is_asked_about_again, a6.test_a6_down_and_then_no),
        (leases_outlive_a_no, a6.test_a6_down_and_then_no),
        (grants_stay_as_they_were, a6.test_a6_another_grant_counts_within_its_time_and_a_renewal),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_it_is_noticed(mutant: Callable[[Patch], None], schedule: Callable[[], Any], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        schedule()
