"""Revocations: what they name, which credentials they end, and when they can be forgotten."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from softstate.auth.digests import digest_of
from softstate.auth.identity import NOTHING, Identity
from softstate.auth.revocations import (
    REASON_CHARS_MAX,
    REVOKED,
    Revocation,
    Revocations,
    key_topic,
    revocation_of,
    subject_topic,
    token_topic,
)
from softstate.model import Record
from softstate.names import check_topic
from softstate.wire.value import encode_value

U1 = Identity(
    "https://id.example", "u1", NOTHING, key="k1", issued_at=100.0, token=digest_of("e30.bb"), token_id=digest_of("j1")
)
SIGNED = "e30.bb.cc"


def record(topic: str, value: object, version: int = 1) -> Record:
    return Record(topic, version, encode_value(value))


def known(*records: Record) -> Revocations:
    revocations = Revocations()
    for each in records:
        revocations.note(each)
    return revocations


@pytest.mark.parametrize(
    "topic",
    [
        subject_topic("https://id.example", "u1"),
        token_topic("j1"),
        token_topic(SIGNED),
        key_topic("https://id.example", "k1"),
    ],
)
def test_each_kind_revokes_what_it_names_and_nothing_else(topic: str) -> None:
    others = replace(U1, subject="u2", key="k2", token=digest_of("aa.cc"), token_id="")
    assert check_topic(topic) == topic
    revocations = known(record(topic, {}))
    found = revocations.of(U1)
    assert found is not None
    assert found.topic == topic
    assert found.revokes(U1)
    assert revocations.of(others) is None
    assert not found.revokes(others)


def test_the_parts_of_a_principal_are_not_taken_for_others() -> None:
    assert subject_topic("a", "bc") != subject_topic("ab", "c")
    assert key_topic("a", "bc") != key_topic("ab", "c")
    assert subject_topic("a", "b") != key_topic("a", "b")


def test_another_signature_of_the_same_token_is_revoked_with_it() -> None:
    assert token_topic("e30.bb.cc") == token_topic("e30.bb.dd") != token_topic("e30.bc.cc")


@pytest.mark.parametrize("name", ["AT.0mP4JKAZX1iACIT4.oarz8g9xjm", "aa.bb.cc"])
def test_an_id_with_two_dots_is_not_taken_for_a_token(name: str) -> None:
    assert known(record(token_topic(name), {})).of(replace(U1, token_id=digest_of(name))) is not None


def test_a_subject_may_sign_in_again() -> None:
    revocations = known(record(subject_topic(*U1.principal), {"before": 100.5}))
    assert revocations.of(U1) is not None
    assert revocations.of(replace(U1, issued_at=100.5)) is None


def test_a_token_that_does_not_say_when_it_was_issued_is_older_than_any_revocation() -> None:
    revocations = known(record(subject_topic(*U1.principal), {"before": 1.0}))
    assert revocations.of(replace(U1, issued_at=0.0)) is not None


def test_a_subject_is_revoked_though_a_key_is_too() -> None:
    subject, key = subject_topic(*U1.principal), key_topic(U1.issuer, "k1")
    revocations = known(record(subject, {"before": 50.0}), record(key, {}))
    found = revocations.of(U1)
    assert found is not None
    assert found.kind == "key"


def test_what_is_anonymous_cannot_be_revoked() -> None:
    nobody = Identity("", "", NOTHING)
    revocations = known(*(record(topic, {}) for topic in (subject_topic("", ""), key_topic("", ""), token_topic(""))))
    assert revocations.of(nobody) is None
    assert not any(each.revokes(nobody) for each in revocations)


@pytest.mark.parametrize(
    "value",
    [None, 7, "text", [], {}, {"before": "soon"}, {"before": True}, {"before": None, "until": "x", "reason": 7}],
)
def test_a_value_that_is_not_understood_revokes_for_good(value: object) -> None:
    revocations = known(record(subject_topic(*U1.principal), value))
    found = revocations.of(U1)
    assert found is not None
    assert (found.before, found.until, found.reason) == (math.inf, math.inf, "")
    assert not found.over(1e18, 0.0)


@pytest.mark.parametrize("cbor", [None, b"", b"\xff", b"\xa1\x61", b"\xa0\xa0", b"\xc1\x01"])
def test_a_damaged_value_revokes_for_good(cbor: bytes | None) -> None:
    damaged = Record(subject_topic(*U1.principal), 1, cbor, unreadable=cbor is None)
    assert known(damaged).of(U1) is not None


@pytest.mark.parametrize("name", ["sub/short", "sub/", "other/" + "a" * 22, "sub/" + "a" * 23, "sub/a/" + "b" * 20])
def test_a_topic_that_names_nothing_revokes_nothing(name: str) -> None:
    assert revocation_of(record(REVOKED + name, {})) is None
    assert list(known(record(REVOKED + name, {}))) == []


def test_a_value_is_read_as_it_was_written() -> None:
    topic = token_topic("j1")
    told = Revocation(topic, before=5.0, until=7.5, reason="left the company", version=3)
    assert told.value() == {"before": 5.0, "until": 7.5, "reason": "left the company"}
    assert revocation_of(record(topic, told.value(), 3)) == told
    assert Revocation(topic).value() == {}


def test_a_reason_is_cut() -> None:
    found = revocation_of(record(token_topic("j1"), {"reason": "x" * (REASON_CHARS_MAX + 1)}))
    assert found is not None
    assert found.reason == "x" * REASON_CHARS_MAX


def test_one_that_is_deleted_is_no_longer_in_force() -> None:
    topic = token_topic("j1")
    revocations = known(record(topic, {}))
    assert revocations.note(Record(topic, 2, None)) is None
    assert revocations.of(U1) is None
    assert len(revocations) == 0


def test_an_older_change_is_passed_over() -> None:
    topic = token_topic("j1")
    revocations = Revocations()
    assert revocations.note(record(topic, {"reason": "new"}, 5)) is not None
    assert revocations.note(record(topic, {"reason": "old"}, 4)) is None
    assert revocations.note(Record(topic, 5, None)) is None
    found = revocations.of(U1)
    assert found is not None
    assert found.reason == "new"


def test_one_is_forgotten_once_no_token_that_it_revokes_is_alive() -> None:
    token, subject, key = (
        Revocation(token_topic("a"), until=100.0),
        Revocation(subject_topic("i", "s"), before=50.0, until=10.0),
        Revocation(key_topic("i", "k")),
    )
    both = [token, subject]
    for wall, over in ((100.0, []), (100.1, [token]), (110.0, [token]), (110.1, both), (1e18, both)):
        assert [each for each in (token, subject, key) if each.over(wall, 60.0)] == over


def test_topics_in_force_are_told_from_others() -> None:
    revocations = known(record(token_topic("a"), {}))
    assert token_topic("a") in revocations
    assert token_topic("b") not in revocations
    assert REVOKED + "token/short" not in revocations
