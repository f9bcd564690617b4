"""Common claims: what is found for one token holds for the others that have them, under the same rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from softstate.auth import common_claims as module
from softstate.auth.authority import RulesAuthority
from softstate.auth.common_claims import CommonClaimsTable
from softstate.auth.identity import Identity, Why, refused
from softstate.auth.keyring import Keyring
from softstate.auth.policy import Policy
from softstate.auth.rules import Allow, Given, Known, Rules, Who
from softstate.auth.token import Issuer, read_token
from softstate.errors import Unauthenticated
from tests.auth.tokens import NOW, WALL, HmacKey, Refused, claims, made, token


def policy(*allows: Allow, **more: object) -> Policy:
    return Policy((Issuer("https://id", ("softstate",), **more),), (), allows)  # type: ignore[arg-type]


def own(*read: str, **who: str) -> Allow:
    return Allow(Who(**who), read=read)  # type: ignore[arg-type]


def node(*allows: Allow, **more: object) -> RulesAuthority:
    return RulesAuthority(policy(*allows, **more), {"https://id": Keyring([HmacKey()])})


def reads(identity: Identity) -> list[str]:
    return [str(pattern) for pattern in identity.grant.patterns("read")]


def test_tokens_that_differ_in_subject_times_and_id_have_the_rest_in_common() -> None:
    table = CommonClaimsTable()
    one = table.of(read_token(token(groups=["a"])))
    assert one is table.of(read_token(token(sub="u2", iat=1, exp=2, nbf=3, jti="x", groups=["a"])))
    assert one is not table.of(read_token(token(groups=["b"])))
    assert one is not table.of(read_token(token(groups=["a"], header={"typ": "JWT"})))
    assert one is not table.of(read_token(token(groups=["a"], iss="other")))
    assert one.claims() == {"iss": "https://id", "aud": "softstate", "groups": ["a"]}


@pytest.mark.parametrize(
    "value",
    [
        '"\\ud800"',
        f"1{40 * '0'}",
        "-0.0",
        "1.0",
        "1.50",
        "1",
        "true",
        "null",
        '{"a":[1,{}]}',
        '{ "a":[] }',
        '"\\u0000"',
    ],
)
def test_claims_are_what_they_were(value: str) -> None:
    read = read_token(made('{"iss":"i","sub":"u","exp":1,"x":' + value + "}"))
    found = CommonClaimsTable().of(read).claims()
    assert (repr(found["x"]), found["iss"]) == (repr(read.claims["x"]), "i")


def test_few_common_claims_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMON_KEPT", 2)
    table = CommonClaimsTable()
    found = [table.of(read_token(token(x=x))) for x in (1, 2, 1, 3, 1, 2)]
    assert found[0] is found[2] is found[4]
    assert found[1] is not found[5]


def test_rights_are_found_once_for_all_that_have_the_claims_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = node(own("users/{sub}/"))
    asked: list[Known] = []
    given = Rules.given

    def counted(self: Rules, known: Known) -> Iterator[Given]:
        asked.append(known)
        return given(self, known)

    monkeypatch.setattr(Rules, "given", counted)
    found = [authority.identify(token(sub=subject), NOW, WALL) for subject in ("u1", "u2", "u3")]
    assert [reads(identity) for identity in found] == [["users/u1/"], ["users/u2/"], ["users/u3/"]]
    assert len(asked) == 1
    authority.change(policy(own("people/{sub}/")), authority.keyrings)
    again = [authority.again(identity, NOW) for identity in found]
    assert [reads(identity) for identity in again] == [["people/u1/"], ["people/u2/"], ["people/u3/"]]
    assert len(asked) == 3, "once, and once for anyone"


def test_a_subject_with_rules_of_its_own_is_given_what_they_say() -> None:
    authority = node(own("users/{sub}/"), own("all/", sub="root"))
    for subject, wanted in (("u1", ["users/u1/"]), ("root", ["all/", "users/root/"]), ("u2", ["users/u2/"])):
        assert reads(authority.identify(token(sub=subject), NOW, WALL)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a/{claim:jti}/", ["a/j1/", "a/j2/"]),
        ("a/{claim:sub}/", ["a/u1/", "a/u2/"]),
        ("a/{claim:exp}/", ["a/1795900001/", "a/1795900002/"]),
        ("a/{claim:iat}/", ["a/1795899001/", "a/1795899002/"]),
        ("a/{claim:nbf}/", ["a/1795899501/", "a/1795899502/"]),
    ],
)
def test_a_claim_that_is_a_tokens_own_is_its_own_in_a_pattern_too(text: str, wanted: list[str]) -> None:
    whole = int(WALL)
    tokens = [
        token(sub=f"u{n}", jti=f"j{n}", exp=whole + n, iat=whole - 1_000 + n, nbf=whole - 500 + n) for n in (1, 2)
    ]
    authority = node(own(text))
    assert [read for one in tokens for read in reads(authority.identify(one, NOW, WALL))] == wanted
    authority = node(own("b/"))
    found = [authority.identify(one, NOW, WALL) for one in tokens]
    authority.change(policy(own(text)), authority.keyrings)
    assert [read for one in found for read in reads(authority.again(one, NOW))] == wanted
    known, _ = authority.known(tokens[0], NOW, WALL)
    assert known.claims == read_token(tokens[0]).claims


@pytest.mark.parametrize("name", ["groups_claim", "grants_claim"])
def test_groups_and_grants_may_be_a_claim_that_is_a_tokens_own(name: str) -> None:
    """Nobody should write such a policy; if somebody does, it says what it says."""
    authority = node(own("ops/", group="root"), **{name: "sub"})
    if name == "grants_claim":
        with Refused(Why.MALFORMED):
            authority.identify(token(), NOW, WALL)
        return
    found = [reads(authority.identify(token(sub=subject), NOW, WALL)) for subject in ("u1", "root", "u2")]
    assert found == [[], ["ops/"], []]


def test_what_is_wrong_with_claims_is_found_again_in_each_token() -> None:
    authority = node(own("users/{sub}/"))
    for _ in range(2):
        for subject in ("u1", "u2"):
            with Refused(Why.AUDIENCE):
                authority.identify(token(sub=subject, aud="shop"), NOW, WALL)
            with Refused(Why.MALFORMED):
                authority.identify(token(sub=subject, softstate="x"), NOW, WALL)
    identity = authority.identify(token(), NOW, WALL)
    authority.change(Policy((Issuer("https://id", ("other",)),)), authority.keyrings)
    for _ in range(2):
        with Refused(Why.AUDIENCE):
            authority.again(identity, NOW)


def test_times_are_of_each_token() -> None:
    authority = node(own("users/{sub}/"))
    authority.identify(token(), NOW, WALL)
    with Refused(Why.EXPIRED):
        authority.identify(token(sub="u2", exp=WALL - 31), NOW, WALL)
    with Refused(Why.NOT_YET):
        authority.identify(token(sub="u3", nbf=WALL + 31), NOW, WALL)
    with Refused(Why.TOO_LONG):
        authority.identify(token(sub="u4", exp=WALL + 90_000), NOW, WALL)


@contextmanager
def malformed_at_most() -> Iterator[None]:
    with pytest.raises(Unauthenticated) as caught:
        yield
        raise refused(Why.MALFORMED, "nothing was")
    assert caught.value.why == Why.MALFORMED


@pytest.mark.parametrize("depth", range(sys.getrecursionlimit() - 300, sys.getrecursionlimit(), 3))
def test_claims_of_any_depth_end_in_an_answer(depth: int) -> None:
    """Some that can be read cannot be written again, or read again by somebody who has been called from deeper."""
    text = json.dumps(claims())[:-1] + ',"x":' + "[" * depth + "]" * depth + "}"
    authority = node(own("users/{sub}/"))
    found: list[Identity] = []
    with malformed_at_most():
        found.append(authority.identify(made(text), NOW, WALL))

    def deeper(calls: int) -> None:
        if calls:
            deeper(calls - 1)
        else:
            authority.again(found[0], NOW)

    for calls in range(0, 60 if found else 0, 6):
        authority.change(policy(own("a/")), authority.keyrings)
        with malformed_at_most():
            deeper(calls)
