"""Failures by address: which tokens count, and how many are remembered."""

from __future__ import annotations

import pytest

from softstate.auth.authority import RulesAuthority
from softstate.auth.failures import BURST, COUNTED, REMEMBERED_MAX, SPREAD_S, Failures
from softstate.auth.identity import Why, refused
from softstate.auth.keyring import Keyring
from softstate.auth.policy import Policy
from softstate.auth.remembering import FORGOTTEN_FRACTION
from softstate.auth.token import Issuer
from softstate.errors import Overloaded, Unauthenticated
from tests.auth.tokens import NOW, WALL, HmacKey, token

ISSUER = Issuer("https://id", ("softstate",))


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("why", Why)
def test_ordinary_tokens_that_are_over_do_not_count(why: Why) -> None:
    failures = Failures(1.0)
    for number in range(BURST):
        failures.note(digest(number), "a", 1, 0.0, refused(why, "no"))
    if why in COUNTED:
        with pytest.raises(Overloaded):
            failures.check(digest(99), "a", 1, 0.0, 0.0)
        with pytest.raises(Unauthenticated, match="no"):
            failures.check(digest(0), "a", 1, 0.0, 0.0)
    else:
        failures.check(digest(99), "a", 1, 0.0, 0.0)
        failures.check(digest(0), "a", 1, 0.0, 0.0)


def test_a_token_that_will_be_good_is_not_remembered_as_none() -> None:
    """One without an `iat` is good for too long only until its end is near enough."""
    authority = RulesAuthority(Policy((ISSUER,), (), ()), {ISSUER.name: Keyring([HmacKey()])})
    soon = token(exp=WALL + ISSUER.max_token_s + 60, iat=None)
    failures = Failures(10.0)
    with pytest.raises(Unauthenticated) as caught:
        authority.identify(soon, NOW, WALL)
    assert caught.value.why == Why.TOO_LONG
    failures.note(digest(1), "a", authority.generation, NOW, caught.value)
    failures.check(digest(1), "a", authority.generation, NOW + 60, 0.0)
    assert authority.identify(soon, NOW + 60, WALL + 60).subject


def test_those_who_wait_come_back_spread() -> None:
    failures = Failures(4.0)
    for number in range(BURST):
        failures.note(digest(number), "a", 1, 0.0, refused(Why.SIGNATURE, "no"))
    told = []
    for drawn in (0.0, 0.5, 1.0):
        with pytest.raises(Overloaded) as caught:
            failures.check(digest(99), "a", 1, 0.0, drawn)
        told.append(caught.value.retry_ms)
    assert told == [250, 250 + 500 * SPREAD_S, 250 + 1_000 * SPREAD_S]
    failures.check(digest(99), "a", 1, 0.25, 0.0)


def test_the_token_that_was_refused_first_is_forgotten_first() -> None:
    failures = Failures(1_000.0)
    for number in range(REMEMBERED_MAX + 1):
        failures.note(digest(number), f"a{number}", 1, 0.0, refused(Why.SIGNATURE, "no"))
    assert REMEMBERED_MAX - REMEMBERED_MAX // FORGOTTEN_FRACTION <= len(failures._not_good) <= REMEMBERED_MAX
    failures.check(digest(0), "b", 1, 0.0, 0.0)
    with pytest.raises(Unauthenticated):
        failures.check(digest(REMEMBERED_MAX // FORGOTTEN_FRACTION + 1), "b", 1, 0.0, 0.0)
