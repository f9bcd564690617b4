import math
from collections.abc import Callable
from random import Random

import pytest

from softstate.auth.digests import digest_of
from softstate.auth.failures import BURST, SPREAD_S
from softstate.auth.identity import Identity, Why, refused
from softstate.auth.limits import RateLimits
from softstate.auth.open_authority import EVERYBODY_MAY_ALL, unheeded
from softstate.auth.presented import Credentials
from softstate.errors import Overloaded, Unauthenticated, Unavailable
from softstate.server.auth.gate import NodeGate
from tests.kit.rules_gate import RulesGate


def test_refusals_are_counted_by_the_check_that_refused() -> None:
    rules = RulesGate()
    rules.issue("token", "u1")
    gate = NodeGate(rules, lambda: 5.0, lambda: 1e9)
    identity = gate.identify("token", 5.0)
    for token in (None, "bad", "bad"):
        with pytest.raises(Unauthenticated):
            gate.identify(token, 5.0)
    rules.revoke("token")
    assert gate.generation == 1
    with pytest.raises(Unauthenticated):
        gate.again(identity, 5.0)
    assert gate.refusals == {"missing": 1, "signature": 3}


def test_an_open_gate_takes_everybody_for_anybody() -> None:
    gate = NodeGate(EVERYBODY_MAY_ALL, lambda: 0.0, lambda: 0.0)
    assert gate.open
    for token in (None, "whatever", "whatever"):
        identity = gate.identify(token, 0.0)
        assert (identity.subject, identity.until, identity.grant.admin) == ("", math.inf, True)
    assert gate.again(identity, 0.0) is identity


def test_a_token_whose_key_is_being_fetched_is_to_be_presented_again() -> None:
    class Fetching(RulesGate):
        def identify(
            self, token: Credentials, now: float, wall: object = 0.0, unverified: Callable[[bytes], None] = unheeded
        ) -> Identity:
            raise refused(Why.UNKNOWN_KEY, "no such key")

    rules = Fetching(fetching=True)
    gate = NodeGate(rules, lambda: 5.0, lambda: 1e9)
    with pytest.raises(Unavailable) as caught:
        gate.present("token", 5.0)
    assert caught.value.retry_ms
    assert not gate.refusals
    rules.fetching = False
    with pytest.raises(Unauthenticated):
        gate.present("token", 5.0)


# Limits --------------------------------------------------------------------------------------------------------------


def test_those_without_credentials_answer_for_nothing_unless_that_is_asked_for() -> None:
    rules = RulesGate()
    rules.issue("token", "u1")
    rules.may("")
    for asked in (False, True):
        limits = RateLimits(publishes_per_s=1)
        gate = NodeGate(rules, lambda: 5.0, lambda: 1e9, limits=limits, limit_anonymous=asked)
        anybody, u1 = gate.identify(None, 5.0), gate.identify("token", 5.0)
        assert gate.accountable(u1, "10.0.0.1") == u1.digest
        assert gate.accountable(anybody, "10.0.0.1") == (digest_of("", "10.0.0.1") if asked else "")
        gate.check_publish(anybody, "10.0.0.1", "a", 1)
        gate.check_publish(anybody, "10.0.0.2", "a", 1)
        if asked:
            with pytest.raises(Overloaded):
                gate.check_publish(anybody, "10.0.0.1", "a", 1)
        else:
            gate.check_publish(anybody, "10.0.0.1", "a", 1)
        assert gate.limited == ({"publishes_per_s": 1} if asked else {})


class Failing:
    """A gate with a limit of failures, whose clock a test sets."""

    def __init__(self, per_s: float = 10.0) -> None:
        self.now = 5.0
        self.rules = RulesGate()
        for subject in ("u1", "u2"):
            self.rules.issue(subject, subject)
        self.gate = NodeGate(self.rules, lambda: self.now, lambda: 1e9, auth_failures_per_s=per_s, jitter=Random(1))

    def try_(self, token: str, address: str = "10.0.0.1") -> str | None:
        try:
            self.gate.identify(token, self.now, address)
        except Unauthenticated as error:
            return error.why
        except Overloaded as error:
            return error.why if 0 < (error.retry_ms or 0) <= 1_000 * (0.1 + SPREAD_S) + 1 else "told to wait too long"
        return None

    def exhaust(self) -> None:
        for number in range(BURST):
            assert self.try_(f"bad{number}") == "signature"


def test_an_address_fails_so_often_and_then_only_known_tokens_are_taken() -> None:
    rig = Failing()
    assert rig.gate.asks_address
    assert rig.try_("u1") is None
    rig.exhaust()
    assert rig.try_("worse") == "auth_failures_per_s"
    assert rig.try_("u2") == "auth_failures_per_s", "it is good, which nobody knows yet"
    assert rig.try_("u1") is None
    assert rig.try_("worse", "10.0.0.2") == "signature"
    assert rig.try_("u2", "10.0.0.2") is None
    assert rig.gate.limited == {"auth_failures_per_s": 2}
    rig.now += 0.1
    assert rig.try_("worse still") == "signature"
    assert rig.try_("worse yet") == "auth_failures_per_s"


def test_a_token_counts_once_and_is_looked_at_once() -> None:
    rig = Failing()
    for _ in range(5 * BURST):
        assert rig.try_("bad0") == "signature"
    rig.exhaust()
    assert rig.try_("bad0") == "signature"
    rig.rules.may("u1")
    assert rig.try_("bad0") == "auth_failures_per_s", "by other rules it may be good"


def test_tokens_that_were_good_do_not_count_when_they_end_or_their_key_goes() -> None:
    rig = Failing()
    for number in range(10 * BURST):
        rig.rules.issue(f"token{number}", "u1", 6.0)
        assert rig.try_(f"token{number}") is None
    rig.now = 7.0
    for number in range(10 * BURST):
        assert rig.try_(f"token{number}") == "expired"
        rig.rules.issue(f"late{number}", "u1", 6.0)
        assert rig.try_(f"late{number}") == "expired"
    assert rig.try_("u2") is None


def test_two_thousand_behind_one_address_get_in() -> None:
    rig = Failing()
    for number in range(2_000):
        rig.rules.issue(f"token{number}", f"s{number}")
        assert rig.try_(f"token{number}") is None
    assert not rig.gate.limited


def test_without_the_limit_any_number_may_fail() -> None:
    rig = Failing(0.0)
    for number in range(10 * BURST):
        assert rig.try_(f"bad{number}") == "signature"
