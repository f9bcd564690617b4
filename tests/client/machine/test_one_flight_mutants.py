"""Mutants of the one flight: each takes a rule out, and a test notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.client.machine import early_names, push_messages
from softstate.client.machine.connection import Connection
from softstate.client.machine.early_names import EarlyNames
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.push_path import PushPath
from tests.client.machine import test_one_flight


def _nothing_is_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EarlyNames, "allowed", lambda *_: False)


def _any_number_of_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(early_names, "NAMES_MAX", 100_000)


def _limits_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EarlyNames, "welcomed", lambda *_: None)


def _every_end_is_forgiven(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EarlyNames, "lost", lambda *_: None)


def _void_answers_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "void_requests", Connection.forget_requests)


def _timers_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "page", lambda *_: None)


def _turned_down_is_denied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(push_messages, "TURNED_DOWN", frozenset())


def _the_welcome_begins_another_lease(patch: pytest.MonkeyPatch) -> None:
    usable = Knowledge.usable

    def beginning(self: Knowledge, *given: object) -> bool:
        self.begin_lease()
        return usable(self, *given)  # type: ignore[arg-type]

    patch.setattr(Knowledge, "usable", beginning)


def _all_is_subscribed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PushPath, "subscribe_new", PushPath.subscribe_all)


def _what_came_later_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    subscribe_new = PushPath.subscribe_new

    def forgetful(self: PushPath) -> None:
        if self.connection is None or not self.connection.requests:
            subscribe_new(self)

    patch.setattr(PushPath, "subscribe_new", forgetful)


def _the_renewal_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "forget_requests", lambda self: self.requests.clear())


def _renewed_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PushPath, "renew_resumed", PushPath.renew)


NOTICED: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (_nothing_is_early, test_one_flight.test_a_new_session_is_subscribed_behind_hello),
    (
        _any_number_of_names,
        lambda: test_one_flight.test_1024_names_go_early_to_a_url_that_has_told_no_limits(3_000, [1_000, 24]),
    ),
    (_limits_are_not_kept, test_one_flight.test_as_many_go_early_as_the_url_has_told),
    (
        _every_end_is_forgiven,
        lambda: test_one_flight.test_hello_goes_alone_after_a_connection_that_ended_over_it(1_009),
    ),
    (_void_answers_count, lambda: test_one_flight.test_an_error_for_what_a_reset_made_void_is_ignored("rewound")),
    (_timers_go_on, test_one_flight.test_the_welcome_restarts_the_timer),
    (
        _turned_down_is_denied,
        lambda: test_one_flight.test_an_early_request_that_is_turned_down_is_asked_again_and_denies_nothing(
            "too_large"
        ),
    ),
    (_the_welcome_begins_another_lease, test_one_flight.test_a_new_session_is_subscribed_behind_hello),
    (_all_is_subscribed_again, test_one_flight.test_a_new_session_is_subscribed_behind_hello),
    (_what_came_later_is_forgotten, test_one_flight.test_names_that_come_before_the_welcome_are_subscribed_behind_it),
    (
        _the_renewal_is_kept,
        lambda: test_one_flight.test_a_mismatch_after_a_session_that_was_not_resumed_is_no_repair("mismatch"),
    ),
    (_renewed_twice, test_one_flight.test_a_resumed_session_is_renewed_behind_hello),
]


@pytest.mark.parametrize(("mutate", "test"), NOTICED, ids=lambda given: getattr(given, "__name__", ""))
def test_a_rule_that_is_missing_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        test()
