"""Mutants of the rules that keep a client going, and at a pace of its own: each takes one out, and a test notices."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from softstate.client.machine import backoff, connection, poll_path, push_path
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.client.machine.poll_path import PollPath
from softstate.errors import Invalid
from softstate.model import Change
from tests.client.machine import (
    test_advice,
    test_knowledge,
    test_one_fetch,
    test_paths,
    test_refused_polls,
    test_retry_budget,
)


def _turned_down_counts_as_something_to_poll(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PollPath, "asks_at", -math.inf)


def _refusals_hold_for_good(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(poll_path, "BARRED_CAPS", math.inf)


def _large_portions_are_noted_as_refused(patch: pytest.MonkeyPatch) -> None:
    turned_down = PollPath._turned_down

    def noted(self: PollPath, pending: poll_path._PollRequest, error: Invalid) -> None:
        self._note_refused(pending.url, frozenset(pending.question.since))
        turned_down(self, pending, error)

    patch.setattr(PollPath, "_turned_down", noted)


def _a_prefix_passes_for_a_topic(patch: pytest.MonkeyPatch) -> None:
    keep = Knowledge._keep
    patch.setattr(Knowledge, "_apply", lambda self, change, *_: bool(keep(self, change)) or True)


def _every_reset_is_a_second_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Knowledge, "resets", property(lambda _: 9, lambda *_: None), raising=False)


def _no_answer_is_endless(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Question, "endless", property(lambda _: False))


def _idle_answers_hold_polls_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push_path, "IDLE_TIMEOUTS", math.inf)


def _no_lease_is_brief(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push_path, "LEASE_S_MIN", 0.0)


def _every_lease_is_brief(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push_path, "LEASE_S_MIN", math.inf)


def _timeouts_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(connection, "TIMEOUT_S_MIN", 0.0)


def _advice_has_no_upper_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff, "RETRY_S_MAX", math.inf)


@pytest.mark.parametrize(
    ("mutate", "noticed"),
    [
        (
            _turned_down_counts_as_something_to_poll,
            test_retry_budget.test_a_client_all_of_whose_polls_are_turned_down_is_offline_when_its_connections_fail,
        ),
        (_refusals_hold_for_good, test_refused_polls.test_a_set_wanted_again_after_a_refusal_lapsed_is_asked_at_once),
        (
            _large_portions_are_noted_as_refused,
            test_refused_polls.test_a_set_that_was_too_large_goes_in_halves_again_when_it_is_back,
        ),
        (
            _a_prefix_passes_for_a_topic,
            lambda: test_knowledge.test_a_change_of_what_is_no_topic_is_ignored_on_every_path("a/", "/"),
        ),
        (
            _every_reset_is_a_second_one,
            test_paths.test_the_poll_after_a_reset_comes_at_once_again_when_the_set_has_had_an_age,
        ),
        (
            _no_answer_is_endless,
            lambda: test_refused_polls.test_an_answer_whose_pages_bring_nothing_newer_ends_as_an_error_of_the_node(
                [Change("p/a", 5, 1)]
            ),
        ),
        (_no_answer_is_endless, lambda: test_one_fetch.test_a_connection_whose_answer_comes_to_no_end_is_left(False)),
        (_idle_answers_hold_polls_back, test_one_fetch.test_names_are_polled_beside_pages_that_bring_nothing),
        (
            _no_lease_is_brief,
            test_advice.test_a_connection_lost_at_once_is_followed_by_one_within_the_spread_and_then_by_a_backoff,
        ),
        (_every_lease_is_brief, test_advice.test_leases_that_lasted_are_followed_by_another_as_the_node_advises),
        (_timeouts_are_believed, test_advice.test_an_answer_is_waited_for),
        (_advice_has_no_upper_bound, test_advice.test_spreads_of_farewells_and_the_next_poll_are_an_hour_away_at_most),
    ],
    ids=lambda given: getattr(given, "__name__", "").strip("_"),
)
def test_a_mutant_is_caught(
    mutate: Callable[[pytest.MonkeyPatch], None], noticed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, LookupError)):  # LookupError: of a poll that never was, or as without the rule
        noticed()
