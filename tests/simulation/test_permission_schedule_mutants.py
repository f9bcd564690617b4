"""Mutants that the schedules A8 to A11 notice; for A1 to A7 see the tests of mutants beside this one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from softstate.auth.identity import Identity
from softstate.auth.presented import Credentials as Presented
from softstate.client.machine.credentials import Credentials
from softstate.server.auth.warden import Warden
from softstate.store.base import Store
from softstate.testing.simulation.issuer import SimAuthority
from tests.simulation import test_schedule_permissions as permissions, test_schedule_revocations as revocations

Patch = pytest.MonkeyPatch


def tokens_are_fetched_without_a_pause(patch: Patch) -> None:
    """A fetch that has failed is made again at once."""

    def again(self: Credentials, error: Exception | None) -> None:
        _again(self, error)  # type: ignore[arg-type]
        self._fetch_at = self.core.now + 0.1

    _again = Credentials._again
    patch.setattr(Credentials, "_again", again)


def ends_are_looked_up_on_the_wall(patch: Patch) -> None:
    """A token ends when the clock for people says so, though it was set after the token was taken."""

    def identify(self: SimAuthority, token: Presented, now: float, wall: float, *more: Any) -> Identity:
        if isinstance(token, str):
            self._issuer.subject_of(token, now, wall)
        return _identify(self, token, now, wall, *more)

    _identify = SimAuthority.identify
    patch.setattr(SimAuthority, "identify", identify)


def all_tokens_are_fetched_at_the_same_part_of_their_time(patch: Patch) -> None:
    """A client draws no time at which it fetches another token."""
    patch.setattr("softstate.client.machine.credentials.REFRESH_FROM", 0.8)
    patch.setattr("softstate.client.machine.credentials.REFRESH_UPTO", 0.8)


def revocations_outlive_their_history(patch: Patch) -> None:
    """A node reads what is revoked when it starts, and not when its store was rewound."""

    async def learn(self: Warden, store: Store) -> None:
        if self not in told:
            told.append(self)
            await _learn(self, store)

    told: list[Warden] = []
    _learn = Warden.learn
    patch.setattr(Warden, "learn", learn)


a8 = permissions.test_a8_a_provider_gives_the_refused_token_then_hangs_then_fails_then_recovers


@pytest.mark.parametrize(
    ("mutate", "schedule"),
    [
        (tokens_are_fetched_without_a_pause, a8),
        (ends_are_looked_up_on_the_wall, partial(permissions.test_a9_a_clock_for_people_is_set, 3_600.0)),
        (
            all_tokens_are_fetched_at_the_same_part_of_their_time,
            permissions.test_a10_a_herd_whose_tokens_end_in_the_same_second_fetches_others_over_time,
        ),
        (revocations_outlive_their_history, revocations.test_a11_the_store_is_rewound_past_a_revocation),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_mutant_is_noticed(
    mutate: Callable[[Patch], None], schedule: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        schedule()
