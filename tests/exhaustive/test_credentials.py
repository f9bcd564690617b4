"""Every order of what can happen to credentials in small worlds; and a mutant for each rule, which a promise catches.

S12, S13, S15 and S16 are checked with every message, S17 by the node's count of mismatches, and S14 from every state: a
client that then has a good token gets all that it may read. See `credentials_world.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from softstate.auth.identity import EVERYTHING, Identity
from softstate.auth.presented import Credentials
from softstate.errors import Unauthenticated
from softstate.lease.table import Lease
from softstate.session import Effect, credentials as session_credentials, permission, renewal, subscription
from softstate.session.state import SessionCore
from softstate.wire.messages import Auth
from tests.exhaustive.credentials_world import Bounds, explore
from tests.exhaustive.mutants import change_rules
from tests.exhaustive.oracle import Counterexample
from tests.kit.rules_gate import RulesGate
from tests.kit.session_mutants import (
    leases_are_not_judged_again,
    leases_outlive_credentials,
    names_are_not_judged,
    rules_are_not_compared,
)

Patch = pytest.MonkeyPatch

WHOLE = {
    "tokens that end": Bounds(rules=0, steps=2, commits=1, requests=1, auths=0),
    "tokens that are refreshed in place": Bounds(rules=0, steps=1, commits=0, requests=1, auths=1),
    "tokens that are revoked": Bounds(rules=0, revocations=1, steps=0, commits=1, requests=1, auths=0),
    "rights that shrink and grow": Bounds(rules=1, steps=0, commits=1, requests=2, auths=0),
    "a session that is resumed": Bounds(rules=0, steps=0, commits=0, requests=1, auths=0, losses=1),
}

PART = {"all of it": Bounds(rules=2, revocations=1, steps=3, commits=2, requests=3, auths=2, losses=1)}

STATES_MAX = 6_000
CUT_OFF_AT = 500


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", WHOLE)
def test_a_small_world_is_visited_whole(name: str) -> None:
    report = explore(WHOLE[name], STATES_MAX)
    print(f"{name}: {report}")
    assert report.exhausted


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PART)
def test_a_larger_world_is_visited_in_part(name: str) -> None:
    report = explore(PART[name], CUT_OFF_AT)
    print(f"{name}: {report}")
    assert report.states > CUT_OFF_AT


# Mutants ------------------------------------------------------------------------------------------------------------


def bad_tokens_are_anonymous(patch: Patch) -> None:
    """Credentials that are not good make their peer anybody, who may all."""

    def lenient(self: RulesGate, token: Credentials, now: float, *more: Any) -> Identity:
        try:
            return _identify(self, token, now, *more)
        except Unauthenticated:
            return Identity("", "", EVERYTHING, generation=self.generation)

    _identify = RulesGate.identify
    patch.setattr(RulesGate, "identify", lenient)


def anybody_resumes(patch: Patch) -> None:
    """A session is resumed by who knows its token."""
    patch.setattr(Identity, "principal", property(lambda _self: ("issuer", "u")))


def anybody_refreshes(patch: Patch) -> None:
    """New credentials may be another subject's."""

    def authenticate(session: SessionCore, message: Auth, now: float) -> list[Effect]:
        identity = session_credentials.identified(session, message.token, now)
        session.identity = Identity(
            identity.issuer, identity.subject, session.identity.grant, identity.until, generation=identity.generation
        )
        return session_credentials._answer(session, message, now)

    change_rules(patch, session_credentials.authenticate, authenticate)


def refreshed_credentials_are_not_looked_at(patch: Patch) -> None:
    """`auth` is answered, and nobody looks at what it presents."""

    def authenticate(session: SessionCore, message: Auth, now: float) -> list[Effect]:
        return session_credentials._answer(session, message, now)

    change_rules(patch, session_credentials.authenticate, authenticate)


def nobody_is_told_of_names_that_are_lost(patch: Patch) -> None:
    """Names leave a lease in silence, and the node takes its client to know."""

    def silent(session: SessionCore, lease: Lease) -> Generator[int, None, list[Effect]]:
        yield from permission.judge_again(session, lease)
        session.unaware = False
        return []

    for module in (renewal, subscription, session_credentials):
        patch.setattr(module, "judge_again", silent)


RIGHTS, ENDS, REVOKED, RESUMED, REFRESHED = (
    WHOLE["rights that shrink and grow"],
    WHOLE["tokens that end"],
    WHOLE["tokens that are revoked"],
    WHOLE["a session that is resumed"],
    WHOLE["tokens that are refreshed in place"],
)

MUTANTS: list[tuple[Callable[[Patch], None], Bounds, str]] = [
    (names_are_not_judged, RIGHTS, "S13"),
    (leases_are_not_judged_again, RIGHTS, "S1[23]"),
    (rules_are_not_compared, REVOKED, "S12"),
    (leases_outlive_credentials, ENDS, "S12"),
    (bad_tokens_are_anonymous, REVOKED, "S15"),
    (anybody_resumes, RESUMED, "S16"),
    (anybody_refreshes, REFRESHED, "S16"),
    (refreshed_credentials_are_not_looked_at, REFRESHED, "S1[26]"),
    (nobody_is_told_of_names_that_are_lost, RIGHTS, "S17"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("mutate", "bounds", "promise"), MUTANTS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_mutant_is_caught(
    mutate: Callable[[Patch], None], bounds: Bounds, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Counterexample, match=promise) as caught:
        explore(bounds, STATES_MAX, lambda _world: None)
    print(f"{mutate.__name__}: {caught.value}\n  " + " → ".join(caught.value.trace))
