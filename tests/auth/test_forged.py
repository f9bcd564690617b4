"""Tokens that are forged or odd: each is refused, for the reason given, and never raises anything else."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.authority import RulesAuthority
from softstate.auth.identity import Why
from softstate.auth.keyring import Keyring
from softstate.auth.policy import Policy
from softstate.auth.rules import Allow, Who
from softstate.auth.signature import SigningKey, import_jwk, import_signing_key
from softstate.auth.token import HEADERS_KEPT, Issuer, _header, read_token
from softstate.errors import Unauthenticated
from tests.auth.keys import ALGORITHMS, key
from tests.auth.tokens import NOW, WALL, Refused, claims, encoded, verifies


def stranger(name: str) -> SigningKey:
    """Return a key that is not the node's, but says that it is."""
    return key(name, "stranger")


def authority() -> RulesAuthority:
    issuers = (Issuer("https://id", ("softstate", "other")), Issuer("https://two", ("softstate",), ("at+jwt",)))
    keys = [key(name).public for name in ALGORITHMS]
    ring = {"https://id": Keyring(keys), "https://two": Keyring([key("h").public])}
    return RulesAuthority(Policy(issuers, (), (Allow(Who(anyone=True), read=("/",)),)), ring)


def text(header: object, payload: object, signer: str | None = "h") -> str:
    """Sign anything at all as one of the node's keys would: the signature is good, and nothing else need be."""
    parts = [
        part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") if isinstance(part, str)
        else json.dumps(part).encode()
        for part in (header, payload)
    ]  # fmt: skip
    content = ".".join(map(encoded, parts))
    if signer is None:
        return f"{content}."
    secret = key(signer).jwk["k"]
    raw = urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    return f"{content}.{encoded(hmac.digest(raw, content.encode(), 'sha256'))}"


H = {"alg": "HS256", "kid": "h"}


def head(**more: object) -> str:
    return text({**H, **more}, claims())


def said(**more: object) -> str:
    return text(H, claims(**more))


def good(name: str) -> str:
    return key(name).sign(claims())


def parts(name: str) -> list[str]:
    return good(name).split(".")


def public_as_secret(name: str) -> str:
    """Use a public key, which anybody may know, as the secret of HS256."""
    data = json.dumps(key(name).public_jwk()).encode()
    content = f"{encoded(json.dumps({'alg': 'HS256', 'kid': name}).encode())}.{parts(name)[1]}"
    return f"{content}.{encoded(hmac.digest(data, content.encode(), 'sha256'))}"


def flipped(name: str, part: int, at: int = 5) -> str:
    found = parts(name)
    letter = "A" if found[part][at] != "A" else "B"
    found[part] = found[part][:at] + letter + found[part][at + 1 :]
    return ".".join(found)


def by_stranger(name: str) -> str:
    return stranger(name).sign(claims())


def by_nobody(name: str) -> str:
    return ".".join(parts(name)[:2]) + "."


def raw_claims(payload: str | bytes) -> str:
    return text(H, payload)


def replaced(old: str, new: str) -> str:
    return raw_claims(json.dumps(claims()).replace(old, new))


def compact(more: str) -> str:
    return raw_claims(json.dumps(claims(), separators=(",", ":"))[:-1] + f",{more}}}")


FORGED: dict[str, tuple[Why, Callable[[], str]]] = {
    # The shape
    "empty": (Why.MALFORMED, lambda: ""),
    "blank": (Why.MALFORMED, lambda: " "),
    "one part": (Why.MALFORMED, lambda: "abc"),
    "two parts": (Why.MALFORMED, lambda: "ab.cd"),
    "four parts": (Why.MALFORMED, lambda: good("h") + ".ab"),
    "five parts, as encrypted tokens have": (Why.MALFORMED, lambda: "ab.cd.ef.gh.ij"),
    "a scheme before it": (Why.MALFORMED, lambda: "Bearer " + good("h")),
    "a line end behind it": (Why.MALFORMED, lambda: good("h") + "\n"),
    "a NUL behind it": (Why.MALFORMED, lambda: good("h") + "\0"),
    "padding": (Why.MALFORMED, lambda: good("h") + "="),
    "letters beyond ASCII": (Why.MALFORMED, lambda: good("h")[:-1] + "é"),
    "digits beyond ASCII": (Why.MALFORMED, lambda: good("h")[:-1] + "٣"),
    "a lone surrogate": (Why.MALFORMED, lambda: good("h") + "\ud800"),
    "base64 that is not of URLs": (Why.MALFORMED, lambda: good("h")[:-1] + "+"),
    "longer than any token": (Why.MALFORMED, lambda: said(x="y" * 9_000)),
    "a megabyte": (Why.MALFORMED, lambda: "a" * 1_000_000),
    "a header longer than any": (Why.MALFORMED, lambda: head(x="y" * 1_400)),
    "a signature longer than any": (Why.MALFORMED, lambda: good("h") + "A" * 1_400),
    "a header of impossible length": (Why.MALFORMED, lambda: "abcde." + good("h").partition(".")[2]),
    "another spelling of the same signature": (
        Why.MALFORMED,
        lambda: good("h")[:-1] + chr(ord(good("h")[-1]) + 1),
    ),
    # The header
    "no header": (Why.MALFORMED, lambda: text(b"", claims())),
    "a header that is not JSON": (Why.MALFORMED, lambda: text("{alg}", claims())),
    "a header that is a list": (Why.MALFORMED, lambda: text(["HS256"], claims())),
    "a header that is not UTF-8": (Why.MALFORMED, lambda: text(b'{"alg":"\xff"}', claims())),
    "a header in UTF-16": (Why.MALFORMED, lambda: text(json.dumps(H).encode("utf-16"), claims())),
    "a deep header": (Why.MALFORMED, lambda: text(f'{{"alg":"HS256","x":{"[" * 500}}}', claims())),
    "a header that says two algorithms": (
        Why.MALFORMED, lambda: text('{"alg":"none","alg":"HS256","kid":"h"}', claims())
    ),
    "no algorithm": (Why.MALFORMED, lambda: text({"kid": "h"}, claims())),
    "an algorithm that is a list": (Why.MALFORMED, lambda: head(alg=["HS256"])),
    "an algorithm that is null": (Why.MALFORMED, lambda: head(alg=None)),
    "none": (Why.SIGNATURE, lambda: text({"alg": "none", "kid": "h"}, claims(), None)),
    "None": (Why.SIGNATURE, lambda: text({"alg": "None"}, claims(), None)),
    "nOnE with a signature": (Why.SIGNATURE, lambda: head(alg="nOnE")),
    "an algorithm that nobody knows": (Why.UNKNOWN_KEY, lambda: head(alg="HS257")),
    "an algorithm in lower case": (Why.UNKNOWN_KEY, lambda: head(alg="hs256")),
    "a kid that is a number": (Why.MALFORMED, lambda: head(kid=1)),
    "a kid that is a list": (Why.MALFORMED, lambda: head(kid=["h"])),
    "a kid that is a path": (Why.UNKNOWN_KEY, lambda: head(kid="../../dev/null")),
    "a kid that asks a database": (Why.UNKNOWN_KEY, lambda: head(kid="x' UNION SELECT 'k")),
    "a kid with a lone surrogate": (Why.UNKNOWN_KEY, lambda: text('{"alg":"HS256","kid":"\\ud800"}', claims())),
    "an empty kid": (Why.UNKNOWN_KEY, lambda: head(kid="")),
    "a type that is a number": (Why.MALFORMED, lambda: head(typ=1)),
    "an ID token of a logout": (Why.MALFORMED, lambda: head(typ="logout+jwt")),
    "a DPoP proof": (Why.MALFORMED, lambda: head(typ="dpop+jwt")),
    "crit": (Why.MALFORMED, lambda: head(crit=["b64"], b64=True)),
    "crit that is empty": (Why.MALFORMED, lambda: head(crit=[])),
    "b64": (Why.MALFORMED, lambda: head(b64=False)),
    "jku": (Why.MALFORMED, lambda: head(jku="https://evil.example/keys")),
    "x5u": (Why.MALFORMED, lambda: head(x5u="https://evil.example/cert")),
    "its own key": (Why.MALFORMED, lambda: head(jwk=key("e").public_jwk())),
    "a compressed token": (Why.MALFORMED, lambda: head(zip="DEF")),
    "an encrypted token's header": (Why.MALFORMED, lambda: head(enc="A256GCM")),
    # The key
    "HS256 with the public key of ES256": (Why.UNKNOWN_KEY, lambda: public_as_secret("e")),
    "HS256 with the public key of RS256": (Why.UNKNOWN_KEY, lambda: public_as_secret("r")),
    "HS384 with the secret of HS256": (Why.UNKNOWN_KEY, lambda: head(alg="HS384")),
    "RS256 that names a key of ES256": (Why.UNKNOWN_KEY, lambda: head(alg="RS256", kid="e")),
    "PS256 with a key of RS256": (Why.UNKNOWN_KEY, lambda: head(alg="PS256", kid="r")),
    "no kid and an algorithm without a key": (Why.UNKNOWN_KEY, lambda: text({"alg": "ES384"}, claims())),
    **{f"signed by a stranger, {name}": (Why.SIGNATURE, partial(by_stranger, name)) for name in ALGORITHMS},
    **{f"signed by nobody, {name}": (Why.SIGNATURE, partial(by_nobody, name)) for name in ALGORITHMS},
    **{f"another signature, {name}": (Why.SIGNATURE, partial(flipped, name, 2)) for name in ALGORITHMS},
    "a signature of zeros": (Why.SIGNATURE, lambda: ".".join(parts("e")[:2]) + "." + encoded(bytes(64))),
    "a signature of ES256 that is short": (Why.SIGNATURE, lambda: ".".join(parts("e")[:2]) + "." + encoded(bytes(63))),
    "a signature that is too long": (Why.SIGNATURE, lambda: ".".join(parts("d")[:2]) + "." + encoded(bytes(65))),
    "a huge signature of RS256": (Why.SIGNATURE, lambda: ".".join(parts("r")[:2]) + "." + encoded(b"\xff" * 1_000)),
    "the signature of other claims": (
        Why.SIGNATURE, lambda: ".".join([parts("h")[0], said(sub="root").split(".")[1], parts("h")[2]])
    ),
    # The claims
    "no claims": (Why.MALFORMED, lambda: raw_claims("")),
    "claims that are not JSON": (Why.MALFORMED, lambda: raw_claims("iss=https://id")),
    "claims that are a list": (Why.MALFORMED, lambda: raw_claims("[]")),
    "claims that are text": (Why.MALFORMED, lambda: raw_claims('"x"')),
    "claims that are not UTF-8": (Why.MALFORMED, lambda: raw_claims(b'{"iss":"\xff\xfe"}')),
    "claims behind a byte order mark": (Why.MALFORMED, lambda: raw_claims("\ufeff" + json.dumps(claims()))),
    "claims in UTF-32": (Why.MALFORMED, lambda: raw_claims(json.dumps(claims()).encode("utf-32"))),
    "deep claims": (Why.MALFORMED, lambda: raw_claims('{"a":' + "[" * 3_000 + "]" * 3_000 + "}")),
    "claims nested without an end": (Why.MALFORMED, lambda: raw_claims('{"a":' * 1_000)),
    "something behind the claims": (Why.MALFORMED, lambda: raw_claims(json.dumps(claims()) + "{}")),
    "a claim that is there twice": (Why.MALFORMED, lambda: replaced('"sub": "u1"', '"sub": "u1", "sub": "root"')),
    "a claim that is there twice, escaped": (
        Why.MALFORMED, lambda: replaced('"sub": "u1"', '"sub": "u1", "\\u0073ub": "root"')
    ),
    "an inner name that is there twice": (Why.MALFORMED, lambda: replaced('"u1"', '"u1", "x": {"a": 1, "a": 2}')),
    "no issuer": (Why.MALFORMED, lambda: said(iss=None)),
    "an issuer that is a list": (Why.MALFORMED, lambda: said(iss=["https://id"])),
    "another issuer": (Why.ISSUER, lambda: said(iss="https://evil.example")),
    "an issuer with a slash behind": (Why.ISSUER, lambda: said(iss="https://id/")),
    "an issuer in capitals": (Why.ISSUER, lambda: said(iss="HTTPS://ID")),
    "the issuer of static tokens": (Why.ISSUER, lambda: said(iss="static")),
    "no subject": (Why.MALFORMED, lambda: said(sub=None)),
    "an empty subject": (Why.MALFORMED, lambda: said(sub="")),
    "a subject that is a number": (Why.MALFORMED, lambda: said(sub=1)),
    "a subject of two lines": (Why.MALFORMED, lambda: said(sub="u1\nadmin")),
    "a subject with a NUL": (Why.MALFORMED, lambda: said(sub="u1\0")),
    "a subject that turns the text round": (Why.MALFORMED, lambda: said(sub="u1\u202e")),
    "a subject with a lone surrogate": (Why.MALFORMED, lambda: replaced('"u1"', '"\\ud800"')),
    "a long subject": (Why.MALFORMED, lambda: said(sub="u" * 256)),
    "no audience": (Why.MALFORMED, lambda: said(aud=None)),
    "an audience that is a number": (Why.MALFORMED, lambda: said(aud=1)),
    "an audience of numbers": (Why.MALFORMED, lambda: said(aud=[1, "softstate"])),
    "another audience": (Why.AUDIENCE, lambda: said(aud="shop")),
    "no audience in the list": (Why.AUDIENCE, lambda: said(aud=[])),
    "an audience that begins likewise": (Why.AUDIENCE, lambda: said(aud="softstate.evil")),
    "an audience in other letters": (Why.AUDIENCE, lambda: said(aud=["Softstate", "shop"])),
    "no end": (Why.MALFORMED, lambda: said(exp=None)),
    "an end that is text": (Why.MALFORMED, lambda: said(exp=str(WALL + 600))),
    "an end that is true": (Why.MALFORMED, lambda: said(exp=True)),
    "an end that is a list": (Why.MALFORMED, lambda: said(exp=[WALL])),
    "an end beyond all time": (Why.MALFORMED, lambda: said(exp=1e308)),
    "an end that is infinite": (Why.MALFORMED, lambda: replaced(str(WALL + 600), "Infinity")),
    "an end that is no number": (Why.MALFORMED, lambda: replaced(str(WALL + 600), "NaN")),
    "a number beyond all": (Why.MALFORMED, lambda: compact('"x":[1e999]')),
    "a name twice, deep in compact claims": (Why.MALFORMED, lambda: compact('"x":[{"a":1,"a":1}]')),
    "an end that overflows": (Why.MALFORMED, lambda: replaced(str(WALL + 600), "1e999")),
    "an end of five thousand digits": (Why.MALFORMED, lambda: replaced(str(WALL + 600), "9" * 5_000)),
    "an end of four hundred digits": (Why.MALFORMED, lambda: replaced(str(WALL + 600), "9" * 400)),
    "expired": (Why.EXPIRED, lambda: said(exp=WALL - 31)),
    "expired this moment": (Why.EXPIRED, lambda: said(exp=WALL - 30)),
    "expired long ago": (Why.EXPIRED, lambda: said(exp=-1e12)),
    "good too long": (Why.TOO_LONG, lambda: said(exp=WALL + 86_400)),
    "good too long, without a beginning": (Why.TOO_LONG, lambda: said(iat=None, exp=WALL + 86_500)),
    "good for a century": (Why.TOO_LONG, lambda: said(exp=WALL + 3e9)),
    "made long ago for long": (Why.TOO_LONG, lambda: said(iat=0)),
    "made in the future": (Why.NOT_YET, lambda: said(iat=WALL + 31)),
    "a beginning that is text": (Why.MALFORMED, lambda: said(iat="now")),
    "not yet good": (Why.NOT_YET, lambda: said(nbf=WALL + 31)),
    "not yet, as text": (Why.MALFORMED, lambda: said(nbf="0")),
    "bound to a certificate": (Why.BOUND, lambda: said(cnf={"x5t#S256": "x"})),
    "bound to a key": (Why.BOUND, lambda: said(cnf={"jkt": "x"})),
    "bound to null": (Why.BOUND, lambda: replaced('"u1"', '"u1", "cnf": null')),
    "no type where one is demanded": (Why.MALFORMED, lambda: said(iss="https://two")),
    "another type than is demanded": (Why.MALFORMED, lambda: text({**H, "typ": "JWT"}, claims(iss="https://two"))),
    # The grant that it brings along
    "a grant that is text": (Why.MALFORMED, lambda: said(softstate="/")),
    "a grant of an administrator": (Why.MALFORMED, lambda: said(softstate={"admin": True})),
    "a grant whose names are text": (Why.MALFORMED, lambda: said(softstate={"read": "/"})),
    "a grant whose names are numbers": (Why.MALFORMED, lambda: said(softstate={"read": [1]})),
    "a grant of a part of a segment": (Why.MALFORMED, lambda: said(softstate={"read": ["a*"]})),
    "a grant of a path": (Why.MALFORMED, lambda: said(softstate={"write": ["a/../b"]})),
    "a grant of too many wildcards": (Why.MALFORMED, lambda: said(softstate={"read": [f"{n}/*" for n in range(65)]})),
    "details that are text": (Why.MALFORMED, lambda: said(authorization_details="x")),
    "details of texts": (Why.MALFORMED, lambda: said(authorization_details=["x"])),
    "details with other actions": (
        Why.MALFORMED, lambda: said(authorization_details=[{"type": "softstate", "actions": ["admin"]}])
    ),
    "details without actions": (Why.MALFORMED, lambda: said(authorization_details=[{"type": "softstate"}])),
    "details whose actions are objects": (
        Why.MALFORMED, lambda: said(authorization_details=[{"type": "softstate", "actions": [{}]}])
    ),
}  # fmt: skip


def test_there_are_many() -> None:
    assert len(FORGED) >= 60


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_odd_token_is_refused(name: str) -> None:
    why, make = FORGED[name]
    with Refused(why):
        authority().identify(make(), NOW, WALL)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_good_token_is_not(name: str) -> None:
    identity = authority().identify(good(name), NOW, WALL)
    assert (identity.subject, identity.key) == ("u1", name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: text({"alg": "HS256"}, claims()),
        lambda: head(typ="JWT"),
        lambda: head(typ="at+jwt"),
        lambda: head(typ="application/at+jwt"),
        lambda: head(typ="AT+JWT"),
        lambda: head(x5t="abc", cty="JWT", other={"a": 1}),
        lambda: said(aud=["shop", "other"]),
        lambda: said(sub="ü ☃"),
        lambda: said(exp=WALL - 29),
        lambda: said(iat=WALL + 29, nbf=WALL + 29),
        lambda: said(iat=None),
        lambda: said(exp=int(WALL + 600), x=None, softstate={}, scope=1, groups={"a": 1}),
        lambda: said(
            authorization_details=[{"type": "bank"}, {"type": "softstate", "actions": ["read"], "topics": ["a/"]}]
        ),
        lambda: text({**H, "typ": "at+jwt"}, claims(iss="https://two")),
        lambda: raw_claims(json.dumps(claims()) + " \n"),
    ],
)
def test_an_odd_token_that_breaks_no_rule_is_taken(make: Callable[[], str]) -> None:
    authority().identify(make(), NOW, WALL)


CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=200)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "cnf",
    "softstate",
    "authorization_details",
    "scope",
    "groups",
)
HEADERS = ("alg", "kid", "typ", "crit", "jwk", "x")


def refused_or_good(presented: str) -> None:
    with suppress(Unauthenticated):
        authority().identify(presented, NOW, WALL)


@CHECKED
@given(st.binary(max_size=200))
def test_bytes_end_in_an_answer(data: bytes) -> None:
    refused_or_good(data.decode("latin-1"))
    refused_or_good(encoded(data))


@CHECKED
@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_three_parts_of_bytes_end_in_an_answer(header: bytes, payload: bytes, signature: bytes) -> None:
    refused_or_good(f"{encoded(header)}.{encoded(payload)}.{encoded(signature)}")


@CHECKED
@given(st.sampled_from(sorted(ALGORITHMS)), st.binary(max_size=80))
def test_signatures_of_bytes_are_refused(name: str, signature: bytes) -> None:
    with Refused(Why.SIGNATURE):
        authority().identify(".".join([*parts(name)[:2], encoded(signature)]), NOW, WALL)


@CHECKED
@given(st.sampled_from(NAMES), JSON)
def test_any_claim_ends_in_an_answer(name: str, value: object) -> None:
    refused_or_good(text(H, {**claims(), name: value}))


@CHECKED
@given(st.sampled_from(HEADERS), JSON)
def test_any_header_ends_in_an_answer(name: str, value: object) -> None:
    refused_or_good(text({**H, name: value}, claims()))


@CHECKED
@given(st.data())
def test_a_good_token_with_another_letter_is_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ALGORITHMS)))
    presented = good(name)
    at = data.draw(st.integers(0, len(presented) - 1))
    letter = data.draw(st.characters())
    changed = presented[:at] + letter + presented[at + 1 :]
    if changed != presented:
        with pytest.raises(Unauthenticated):
            authority().identify(changed, NOW, WALL)


@CHECKED
@given(st.text(max_size=60))
def test_a_public_key_given_back_changes_nothing(noise: str) -> None:
    again = import_jwk(key("e").public_jwk() | {"x-note": noise}, fetched=True)
    assert again.print == key("e").public.print
    assert verifies(again, good("e"))


def test_a_signing_key_survives_its_file() -> None:
    for name in ALGORITHMS:
        again = import_signing_key(json.dumps(dict(key(name).jwk)).encode())
        authority().identify(again.sign(claims()), NOW, WALL)
        assert read_token(again.sign(claims())).header.key == name


def test_few_headers_are_remembered_and_none_that_is_refused() -> None:
    """Each token may bring another one."""
    _header.cache_clear()
    for number in range(HEADERS_KEPT + 2):
        authority().identify(head(x=number), NOW, WALL)
    assert _header.cache_info().currsize == HEADERS_KEPT
    for _ in range(2):
        with Refused(Why.MALFORMED):
            authority().identify(head(crit=[]), NOW, WALL)


@CHECKED
@given(st.text("ABQZaghwz09-_", min_size=2, max_size=9))
def test_only_the_usual_spelling_of_bytes_is_taken(spelt: str) -> None:
    usual = encoded(urlsafe_b64decode(spelt + "==")) if len(spelt) % 4 != 1 else None
    presented = ".".join([*parts("h")[:2], spelt])
    with Refused(Why.SIGNATURE if spelt == usual else Why.MALFORMED):
        authority().identify(presented, NOW, WALL)
