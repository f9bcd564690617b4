"""The keyring machine, also for a simulated hour: rotation, an outage, a flood of unknown keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from softstate.auth.keyring import Keyring, Times
from tests.auth.tokens import HmacKey

ONE, TWO = HmacKey("k1"), HmacKey("k2", b"2" * 32)


def ring(*keys: HmacKey) -> Keyring:
    found = Keyring(fetched=True)
    found.began(0)
    found.got(keys, 0)
    return found


def test_the_first_fetch_is_due_at_once_and_the_next_when_the_set_is_no_longer_fresh() -> None:
    keyring = Keyring(fetched=True)
    assert keyring.due_at == -math.inf
    keyring.began(10)
    assert keyring.due_at == math.inf
    keyring.got([ONE], 12)
    assert keyring.due_at == 310


def test_keys_of_a_file_are_never_due() -> None:
    keyring = Keyring([ONE])
    assert keyring.find("k9", "HS256", 0) is None
    assert (keyring.due_at, keyring.stale_at()) == (math.inf, math.inf)


def test_a_key_of_a_file_that_gives_it_no_id_has_any() -> None:
    """A PEM file holds no ID, and most issuers name one."""
    bare = replace(ONE, id=None)
    assert Keyring([bare]).find("k9", "HS256", 0) == bare
    assert Keyring([bare]).find("k9", "HS512", 0) is None
    assert Keyring([bare, TWO]).find("k2", "HS256", 0) == TWO
    fetched = Keyring(fetched=True)
    fetched.began(0)
    fetched.got([bare], 0)
    assert fetched.find("k9", "HS256", 0) is None, "its issuer may have made another"


def test_an_unknown_key_asks_for_a_fetch_once_the_last_is_cool() -> None:
    keyring = ring(ONE)
    assert keyring.find("k2", "HS256", 5) is None
    assert keyring.due_at == 30
    keyring.began(31)
    assert keyring.find("k2", "HS256", 31) is None
    keyring.got([ONE, TWO], 32)
    assert keyring.due_at == 61  # it was asked for again while the fetch was under way
    assert keyring.find("k2", "HS256", 32) == TWO


def test_a_shell_is_told_when_a_fetch_is_wanted_sooner() -> None:
    keyring = ring(ONE)
    told: list[float] = []
    keyring.on_sooner = lambda: told.append(keyring.due_at)
    for _ in range(3):
        keyring.find("k2", "HS256", 5)
    assert told == [30]


def test_a_fetch_that_fails_leaves_the_keys_and_is_tried_again() -> None:
    keyring = ring(ONE)
    keyring.began(300)
    keyring.failed("refused")
    assert keyring.failure == "refused"
    assert keyring.find("k1", "HS256", 301) == ONE
    assert keyring.due_at == 330
    keyring.began(330)
    keyring.got([ONE], 331)
    assert keyring.failure == ""


def test_keys_that_could_not_be_fetched_for_a_day_are_no_longer_good() -> None:
    keyring = ring(ONE)
    assert keyring.find("k1", "HS256", 86_399) == ONE
    assert keyring.holds(ONE, 86_399)
    assert keyring.find("k1", "HS256", 86_400) is None
    assert not keyring.holds(ONE, 86_400)


@pytest.mark.parametrize(
    ("key", "algorithm", "found"),
    [("k1", "HS256", ONE), ("k2", "HS256", TWO), ("k1", "HS384", None), ("k3", "HS256", None), (None, "HS256", None)],
)
def test_a_key_is_found_by_id_and_algorithm(key: str | None, algorithm: str, found: HmacKey | None) -> None:
    assert Keyring([ONE, TWO]).find(key, algorithm, 0) == found


def test_a_token_without_a_key_id_is_of_the_only_key_of_its_algorithm() -> None:
    other = HmacKey("k3", b"3" * 48, frozenset({"HS384"}))
    assert Keyring([ONE, other]).find(None, "HS384", 0) == other
    assert Keyring([ONE, other]).find(None, "HS256", 0) == ONE


def test_a_set_tells_whether_a_key_is_gone() -> None:
    keyring = ring(ONE)
    assert not keyring.got([ONE, TWO], 1)
    assert keyring.got([TWO], 2)
    assert keyring.got([HmacKey("k2", b"4" * 32)], 3)
    assert not keyring.holds(TWO, 3)


# An hour ------------------------------------------------------------------------------------------------------------


class Hour:
    """A keyring, an issuer and tokens for an hour, in steps of a tenth of a second; a fetch takes 0.3 s.

    Tokens of the keys in `known` come all the time, those of others `unknown_per_s` times a second.
    """

    def __init__(
        self,
        keys: Callable[[float], list[HmacKey] | None],
        unknown_per_s: int = 0,
        known: tuple[HmacKey, ...] = (ONE, TWO),
    ) -> None:
        self.fetches = 0
        self.found: dict[str, list[float]] = {}
        keyring = Keyring(fetched=True, times=Times())
        done_at = math.inf
        answer: list[HmacKey] | None = None
        for step in range(36_000):
            now = step / 10
            if now >= keyring.due_at:
                keyring.began(now)
                self.fetches += 1
                done_at, answer = now + 0.3, keys(now)
            if now >= done_at:
                done_at = math.inf
                if answer is None:
                    keyring.failed("down")
                else:
                    keyring.got(answer, now)
            for number in range(max(1, unknown_per_s // 10) if unknown_per_s else 0):
                assert keyring.find(f"x{number}", "HS256", now) is None
            for key in known if now >= 1 else ():
                if keyring.find(key.id, "HS256", now) is not None:
                    self.found.setdefault(str(key.id), []).append(now)

    def longest_without(self, key: str, since: float = 1.0, until: float = 3_600.0) -> float:
        times = [since, *(now for now in self.found.get(key, []) if since <= now <= until), until]
        return max(later - earlier for earlier, later in pairwise(times))


def test_a_quiet_hour_takes_twelve_fetches() -> None:
    hour = Hour(lambda _: [ONE], known=(ONE,))
    assert hour.fetches == 12
    assert hour.longest_without("k1") < 0.2


def test_a_flood_of_unknown_keys_takes_two_fetches_a_minute_and_harms_nobody() -> None:
    hour = Hour(lambda _: [ONE], unknown_per_s=100, known=(ONE,))
    assert hour.fetches == 120
    assert hour.longest_without("k1") < 0.2


def test_an_outage_harms_nobody_who_was_known() -> None:
    hour = Hour(lambda now: None if 600 <= now < 1_800 else [ONE], unknown_per_s=10)
    assert hour.fetches <= 121
    assert hour.longest_without("k1") < 0.2


def test_a_new_key_is_good_within_a_cool_down_of_its_first_token() -> None:
    hour = Hour(lambda now: [ONE] if now < 1_000 else [ONE, TWO])
    # Its tokens are there all the time, so a fetch is under way or due every 30 s.
    assert 1_000 < hour.found["k2"][0] <= 1_031
    assert hour.longest_without("k2", since=hour.found["k2"][0]) < 0.2


def test_a_removed_key_is_dead_once_the_set_is_fetched_again() -> None:
    hour = Hour(lambda now: [ONE, TWO] if now < 1_000 else [TWO])
    assert 1_000 <= hour.found["k1"][-1] <= 1_301


def test_a_key_made_during_an_outage_waits_for_its_end() -> None:
    hour = Hour(lambda now: [ONE] if now < 600 else None if now < 1_800 else [ONE, TWO])
    assert 1_800 <= hour.found["k2"][0] <= 1_831
