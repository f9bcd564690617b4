"""Client certificates: whom one names, until when it is good, and how it is revoked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from softstate.auth.authority import RulesAuthority
from softstate.auth.certificate import CERTIFICATE_ISSUER
from softstate.auth.identity import Identity, Why
from softstate.auth.policy_file import read_policy
from softstate.auth.presented import Certificate
from softstate.auth.revocations import Revocation, Revocations, key_topic, subject_topic
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.errors import ConfigError, Unauthenticated
from tests.auth.tokens import NOW, WALL

DIGEST = "ab" * 32
SIGNED_IN = '\n[[allow]]\nwho = "signed-in"\nread = ["users/{sub}/", "by/{iss}/"]\n'
ONE = '\n[[allow]]\nwho = {issuer = "mtls", sub = "spiffe://x/y"}\nadmin = true\n'


def policy(subject: str = "dns", rules: str = SIGNED_IN) -> str:
    return f'[auth.mtls]\nsubject = "{subject}"\n{rules}'


def authority(content: str) -> RulesAuthority:
    return RulesAuthority(read_policy(content, "auth.toml").policy)


def certificate(*names: tuple[str, str], begin: float = WALL - 100, end: float = WALL + 100) -> Certificate:
    return Certificate(DIGEST, names, begin, end)


def identify(subject: str, names: Sequence[tuple[str, str]]) -> Identity:
    return authority(policy(subject)).identify(certificate(*names), NOW, WALL)


ALL = [("uri", "spiffe://x/y"), ("dns", "a.example"), ("email", "a@example"), ("cn", "Ann")]


@pytest.mark.parametrize(
    ("kind", "subject"), [("uri", "spiffe://x/y"), ("dns", "a.example"), ("email", "a@example"), ("cn", "Ann")]
)
def test_the_policy_says_which_name_is_the_subject(kind: str, subject: str) -> None:
    identity = identify(kind, ALL)
    assert identity.principal == (CERTIFICATE_ISSUER, subject)
    assert identity.key == DIGEST
    assert identity.until == NOW + 100
    assert identity.issued_at == WALL - 100
    assert identity.grant.may_read("by/mtls/")
    assert identity.grant.may_read(f"users/{subject}/") is ("/" not in subject), "a subject is one segment, or none"


@pytest.mark.parametrize(
    "names",
    [
        [],
        [("cn", "a.example")],
        [("dns", "a.example"), ("dns", "b.example")],
        [("dns", "")],
        [("dns", "a\0b")],
        [("dns", "a\n")],
        [("dns", "x" * (SUBJECT_CHARS_MAX + 1))],
    ],
)
def test_a_certificate_without_just_one_good_name_is_nobody_and_never_anybody(names: list[tuple[str, str]]) -> None:
    anyone = '\n[[allow]]\nwho = "anyone"\nread = ["public/"]\n'
    with pytest.raises(Unauthenticated) as raised:
        authority(policy("dns", anyone)).identify(certificate(*names), NOW, WALL)
    assert raised.value.why == Why.MALFORMED
    assert identify("dns", [("dns", "x" * SUBJECT_CHARS_MAX)]).subject


def test_a_rule_may_be_for_one_certificate() -> None:
    found = authority(policy("uri", ONE))
    assert found.identify(certificate(*ALL), NOW, WALL).grant.admin
    assert found.ambient, "a browser presents it for any page"


def test_it_ends_when_it_says_though_the_wall_clock_is_set_back() -> None:
    found = authority(policy())
    mine = certificate(*ALL)
    identity = found.identify(mine, NOW, WALL)
    assert found.again(identity, NOW + 99) is identity
    for wall in (WALL + 100, WALL - 1_000):
        with pytest.raises(Unauthenticated) as raised:
            found.identify(mine, NOW + 100, wall)
        assert raised.value.why == Why.EXPIRED
    with pytest.raises(Unauthenticated):
        authority(policy()).identify(mine, NOW, WALL + 100)


def test_it_is_judged_again_when_the_rules_change() -> None:
    found = authority(policy())
    identity = found.identify(certificate(*ALL), NOW, WALL)
    found.change(read_policy(policy("cn"), "auth.toml").policy, {})
    with pytest.raises(Unauthenticated) as raised:
        found.again(identity, NOW)
    assert raised.value.why == Why.SUBJECT_CHANGED, "a session is of one principal"
    assert found.identify(certificate(*ALL), NOW, WALL).subject == "Ann"
    found.change(read_policy(SIGNED_IN + '[[allow]]\nwho = "anyone"\nread = ["a"]\n', "auth.toml").policy, {})
    with pytest.raises(Unauthenticated, match=r"auth\.mtls"):
        found.again(identity, NOW)
    with pytest.raises(Unauthenticated, match=r"auth\.mtls"):
        found.identify(certificate(*ALL), NOW, WALL)


def test_a_revocation_of_the_subject_that_it_has_by_other_rules_counts() -> None:
    found = authority(policy())
    found.load_revocations(Revocations([Revocation(subject_topic("mtls", "Ann"))]))
    assert found.identify(certificate(*ALL), NOW, WALL).subject == "a.example"
    found.change(read_policy(policy("cn"), "auth.toml").policy, {})
    for _ in range(2):
        with pytest.raises(Unauthenticated) as raised:
            found.identify(certificate(*ALL), NOW, WALL)
        assert raised.value.why == Why.REVOKED
    found.change(read_policy(policy("email"), "auth.toml").policy, {})
    assert found.identify(certificate(*ALL), NOW, WALL).subject == "a@example"


def test_that_one_is_over_is_said_of_the_certificate() -> None:
    found = authority(policy())
    identity = found.identify(certificate(*ALL), NOW, WALL)
    with pytest.raises(Unauthenticated, match="the client's certificate has expired: connect again"):
        found.again(identity, NOW + 100)


@pytest.mark.parametrize(
    ("revocation", "revoked"),
    [
        (Revocation(key_topic("mtls", DIGEST)), True),
        (Revocation(key_topic("mtls", "cd" * 32)), False),
        (Revocation(subject_topic("mtls", "a.example")), True),
        (Revocation(subject_topic("mtls", "a.example"), before=WALL - 50), True),
        (Revocation(subject_topic("mtls", "a.example"), before=WALL - 150), False),
        (Revocation(subject_topic("static", "a.example")), False),
    ],
)
def test_it_is_revoked_by_its_digest_or_its_subject(revocation: Revocation, revoked: bool) -> None:
    found = authority(policy())
    mine = certificate(*ALL)
    identity = found.identify(mine, NOW, WALL)
    found.load_revocations(Revocations([revocation]))
    if not revoked:
        assert found.again(identity, NOW).subject == found.identify(mine, NOW, WALL).subject == "a.example"
        return
    with pytest.raises(Unauthenticated, match="certificate was revoked") as raised:
        found.again(identity, NOW)
    assert raised.value.why == Why.REVOKED
    with pytest.raises(Unauthenticated, match="certificate was revoked"):
        found.identify(mine, NOW, WALL)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[auth.mtls]\n", "subject"),
        (policy("san"), "'uri', 'dns', 'email', 'cn'"),
        ("[auth]\nmtsl = 1\n" + policy(), "did you mean 'mtls'"),
        ("[auth.mtls]\nsubject = 'cn'\nca = 'x'\n", "unknown key ca"),
        (SIGNED_IN + ONE, "names 'mtls', which is no issuer"),
        (policy() + '[[auth.issuer]]\nissuer = "mtls"\naudience = ["a"]\njwks_file = "k"\n', "client certificates"),
    ],
)
def test_mistakes_are_told(content: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_policy(content, "auth.toml")
