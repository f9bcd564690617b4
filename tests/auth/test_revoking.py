"""An authority and revocations: whose credentials are over, from when on, and at what cost for the others."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from softstate.auth.authority import RulesAuthority
from softstate.auth.identity import Why
from softstate.auth.revocations import Revocations, key_topic, subject_topic, token_topic
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.model import Record
from softstate.wire.value import encode_value
from tests.auth.test_authority import OWN, PUBLIC, rules, static
from tests.auth.tokens import NOW, WALL, HmacKey, Refused, claims, made, token
from tests.kit.static_tokens import CI

U1 = subject_topic("https://id", "u1")


def revoke(authority: RulesAuthority, topic: str, version: int = 1, **value: object) -> None:
    revoked = authority.heed([Record(topic, version, encode_value(value))])
    assert [each.topic for each in revoked] == [topic]


@pytest.mark.parametrize("topic", [U1, key_topic("https://id", "k1"), token_topic(token(jti="j1")), token_topic("j1")])
def test_a_signed_token_that_was_good_is_over_and_says_why(topic: str) -> None:
    authority = rules(OWN)
    before = authority.identify(token(jti="j1"), NOW, WALL)
    revoke(authority, topic, reason="left the company")
    with Refused(Why.REVOKED, "left the company"):
        authority.again(before, NOW)
    with Refused(Why.REVOKED, "left the company"):
        authority.identify(token(jti="j1"), NOW, WALL)


@pytest.mark.parametrize("jti", ["", 7, None, [], "\ud800", "a\0b", "x" * (SUBJECT_CHARS_MAX + 1)])
def test_an_id_that_is_no_text_is_malformed(jti: object) -> None:
    with Refused(Why.MALFORMED, "'jti' must be text"):
        rules(OWN).identify(made(json.dumps(claims() | {"jti": jti})), NOW, WALL)


def test_one_that_was_not_presented_before_is_refused_and_verified_once() -> None:
    key = HmacKey()
    authority = rules(OWN, key=key)
    revoke(authority, U1)
    for _ in range(3):
        with Refused(Why.REVOKED):
            authority.identify(token(), NOW, WALL)
    assert len(key.checked) == 1


def test_a_revoked_subject_signs_in_again() -> None:
    authority = rules(OWN)
    revoke(authority, U1, before=WALL)
    with Refused(Why.REVOKED):
        authority.identify(token(), NOW, WALL)
    assert authority.identify(token(iat=WALL), NOW, WALL).subject == "u1"


def test_a_static_token_is_revoked_by_its_name_and_by_itself() -> None:
    for topic in (subject_topic("static", "ci"), token_topic(CI)):
        authority = rules(tokens=(static(),))
        before = authority.identify(CI, NOW, WALL)
        revoke(authority, topic)
        with Refused(Why.REVOKED):
            authority.again(before, NOW)
        with Refused(Why.REVOKED):
            authority.identify(CI, NOW, WALL)


def test_others_are_looked_at_again_and_keep_their_grant() -> None:
    authority = rules(OWN, PUBLIC)
    others = [authority.identify(text, NOW, WALL) for text in (token(sub="u2"), None)]
    revoke(authority, U1)
    for before in others:
        after = authority.again(before, NOW)
        assert after == replace(before, generation=authority.generation)
        assert after.grant is before.grant


def test_an_undone_revocation_gives_the_credentials_back() -> None:
    authority = rules(OWN)
    before = authority.identify(token(), NOW, WALL)
    revoke(authority, U1)
    generation = authority.generation
    assert authority.heed([Record(U1, 2, None)]) == []
    assert authority.generation == generation
    assert authority.again(before, NOW).subject == "u1"
    assert authority.identify(token(), NOW, WALL).subject == "u1"


def test_what_is_no_news_is_none() -> None:
    authority = rules(OWN)
    revoke(authority, U1, version=7)
    generation = authority.generation
    assert authority.heed([Record(U1, 7, encode_value({}))]) == []
    assert authority.generation == generation


def test_a_change_of_rules_after_a_revocation_is_not_missed() -> None:
    authority = rules(OWN)
    before = authority.identify(token(), NOW, WALL)
    authority.change(rules(PUBLIC).policy, authority.keyrings)
    revoke(authority, subject_topic("https://id", "u2"))
    after = authority.again(before, NOW)
    assert not after.grant.may_read("users/u1/")
    assert after.grant.may_read("public/")


def test_a_credential_ends_though_only_revocations_were_added() -> None:
    authority = rules(tokens=(static(until=WALL + 5.0),))
    before = authority.identify(CI, NOW, WALL)
    revoke(authority, U1)
    with Refused(Why.EXPIRED):
        authority.again(before, NOW + 5.0)


def test_the_store_tells_all_that_is_in_force() -> None:
    authority = rules(OWN)
    revoke(authority, U1)
    held = Revocations()
    held.note(Record(subject_topic("https://id", "u2"), 3, encode_value({})))
    authority.load_revocations(held)
    assert authority.identify(token(), NOW, WALL).subject == "u1"
    with Refused(Why.REVOKED):
        authority.identify(token(sub="u2"), NOW, WALL)


def test_one_is_forgotten_when_no_issuer_makes_tokens_that_live_so_long() -> None:
    authority = rules(OWN, max_token_s=600.0, leeway_s=30.0)
    revoke(authority, U1, before=WALL, until=WALL)
    (revocation,) = authority.revocations
    assert not authority.is_over(revocation, WALL + 630.0)
    assert authority.is_over(revocation, WALL + 630.5)
