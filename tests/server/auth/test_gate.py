import math

import pytest

from softstate.auth.identity import Identity, Why, refused
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.errors import Unauthenticated, Unavailable
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
        def identify(self, token: str | None, now: float, wall: float = 0.0) -> Identity:
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
