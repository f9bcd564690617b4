"""Mutants of the waits and probes: each takes one rule out, and a test notices."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from softstate.client.machine import backoff as backoff_module, reach as reach_module
from softstate.client.machine.backoff import Advice, Rotation
from softstate.client.machine.reach import Reach
from softstate.client.machine.state import Core
from softstate.errors import Overloaded
from tests.client.machine import test_probes, test_reach, test_told_waits


def _places_are_drawn_again(patch: pytest.MonkeyPatch) -> None:
    def refused(self: Reach, url: str, now: float, advice: Advice, spread_s: float, *, placed: bool) -> None:
        del placed
        self.wait(url, now, now + advice.pause_s(self._random, 0, spread_s))

    patch.setattr(Reach, "refused", refused)


def _retries_forget_the_spread(patch: pytest.MonkeyPatch) -> None:
    refused = Reach.refused

    def unspread(self: Reach, url: str, now: float, advice: Advice, _: float, *, placed: bool) -> None:
        refused(self, url, now, advice, 0.0, placed=placed)

    patch.setattr(Reach, "refused", unspread)


def _first_dials_have_a_place(patch: pytest.MonkeyPatch) -> None:
    refused = Reach.refused

    def at_once(self: Reach, url: str, now: float, advice: Advice, spread_s: float, *, placed: bool) -> None:
        del placed
        refused(self, url, now, advice, spread_s, placed=True)

    patch.setattr(Reach, "refused", at_once)


def _waits_grow_without_regard_to_the_absence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reach_module, "OF_ABSENCE", 4.0)


def _paths_do_not_share(patch: pytest.MonkeyPatch) -> None:
    begin = Rotation.__init__
    patch.setattr(Rotation, "__init__", lambda self, urls, random, _=None: begin(self, urls, random))


def _any_number_of_probes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reach, "probe", lambda *_: None)


def _refused_polls_move_the_connection(patch: pytest.MonkeyPatch) -> None:
    refused_dial = Core.refused_dial

    def drawn(self: Core, url: str, _: float = math.inf, *, placed: bool = False) -> None:
        refused_dial(self, url, placed=placed)

    patch.setattr(Core, "refused_dial", drawn)


def _waits_have_no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff_module, "RETRY_S_MAX", math.inf)


def _shed_dials_come_in_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Advice, "pause_s", lambda *_: 0.0)


def _a_silent_host_refuses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reach, "reached", lambda *_: False)


@pytest.mark.parametrize(
    ("mutate", "noticed"),
    [
        (
            _places_are_drawn_again,
            lambda: test_reach.test_however_long_a_node_was_away_its_clients_arrive_in_an_even_stream(4.0),
        ),
        (
            _retries_forget_the_spread,
            test_reach.test_dials_and_polls_of_a_herd_after_two_seconds_stay_below_two_a_client,
        ),
        (
            _first_dials_have_a_place,
            test_reach.test_a_first_dial_that_was_not_spread_is_repeated_within_the_whole_spread,
        ),
        (
            _waits_grow_without_regard_to_the_absence,
            lambda: test_reach.test_where_the_spread_is_short_a_wait_is_at_most_half_of_the_absence(4.0, 2.0),
        ),
        (_paths_do_not_share, test_probes.test_while_a_url_refuses_polls_wait_for_the_probe_of_the_connection),
        (
            _any_number_of_probes,
            test_probes.test_a_probe_that_hangs_holds_the_other_path_back_no_longer_than_its_timeout,
        ),
        (
            _refused_polls_move_the_connection,
            test_probes.test_a_refused_poll_leaves_the_connection_its_place_in_the_spread,
        ),
        (_waits_have_no_bound, lambda: test_told_waits.test_a_wait_of_a_day_counts_as_an_hour(Overloaded)),
        (_shed_dials_come_in_steps, test_told_waits.test_a_shed_dial_waits_as_told_and_then_within_the_spread),
        (_a_silent_host_refuses, test_probes.test_polls_go_on_when_a_connection_was_made_that_says_nothing),
    ],
    ids=lambda given: getattr(given, "__name__", "").strip("_"),
)
def test_a_mutant_is_caught(
    mutate: Callable[[pytest.MonkeyPatch], None], noticed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        noticed()
