import gc

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.rules import WILD_MAX, Allow, Known, Rules, Who
from tests.auth.test_patterns import PATTERNS, world


def known(**more: object) -> Known:
    return Known(**{"issuer": "https://id", "subject": "u1", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "fits"),
    [
        (Who(anyone=True), True),
        (Who(), True),
        (Who(sub="u1"), True),
        (Who(sub="u2"), False),
        (Who(issuer="https://id"), True),
        (Who(issuer="https://other"), False),
        (Who(group="staff"), True),
        (Who(group="sta"), False),
        (Who(scope="softstate:publish"), True),
        (Who(scope="staff"), False),
        (Who(sub="u1", group="staff"), True),
        (Who(sub="u1", group="ops"), False),
        (Who(sub="u2", group="staff"), False),
    ],
)
def test_a_rule_is_for_those_of_whom_all_that_it_says_is_true(who: Who, fits: bool) -> None:
    one = known(groups=frozenset({"staff"}), scopes=frozenset({"softstate:publish"}))
    assert who.fits(one) is fits
    assert Who(anyone=True).fits(Known())


@pytest.mark.parametrize("who", [Who(), Who(sub=""), Who(sub="u1"), Who(group="staff"), Who(issuer="")])
def test_an_anonymous_peer_is_for_rules_for_anyone_only(who: Who) -> None:
    assert not who.fits(Known())


def test_a_grant_is_the_union_of_the_token_and_of_all_rules_that_fit() -> None:
    rules = Rules(
        [
            Allow(Who(anyone=True), read=("public/",)),
            Allow(Who(), read=("users/{sub}/", "org/{claim:org}/"), write=("users/{sub}/cart",)),
            Allow(Who(group="ops"), admin=True),
        ]
    )
    grant = rules.grant_of(known(claims={"org": "acme"}, own=Allow(Who(), read=("extra/",))))
    assert [str(pattern) for pattern in grant.read.patterns()] == ["extra/", "org/acme/", "public/", "users/u1/"]
    assert [str(pattern) for pattern in grant.write.patterns()] == ["users/u1/cart"]
    assert not grant.admin
    assert rules.grant_of(known(groups=frozenset({"ops"}))).admin
    assert [str(pattern) for pattern in rules.grant_of(Known()).read.patterns()] == ["public/"]


@pytest.mark.parametrize(
    ("value", "read"),
    [("acme", ["org/acme/"]), (42, ["org/42/"]), (True, []), (None, []), ("a/b", []), ([], []), (1.5, [])],
)
def test_a_claim_that_is_no_segment_makes_its_pattern_void(value: object, read: list[str]) -> None:
    grant = Rules([Allow(Who(), read=("org/{claim:org}/",))]).grant_of(known(claims={"org": value}))
    assert [str(pattern) for pattern in grant.read.patterns()] == read


def test_an_issuer_that_is_a_segment_may_stand_in_a_pattern() -> None:
    rules = Rules([Allow(Who(), read=("by/{iss}/",))])
    assert rules.grant_of(known(issuer="id")).may_read("by/id/")
    assert not rules.grant_of(known(issuer="https://id")).read.patterns()


def test_an_issuer_gives_nothing_beyond_its_ceiling_but_what_anyone_may() -> None:
    rules = Rules(
        [
            Allow(Who(anyone=True), read=("public/",)),
            Allow(Who(group="ops"), read=("/",), write=("tenants/*/x", "other/x"), admin=True),
        ]
    )
    one = known(
        groups=frozenset({"ops"}), own=Allow(Who(), read=("b/secret", "tenants/b/")), ceiling=("tenants/{claim:t}/",),
        claims={"t": "a"},
    )  # fmt: skip
    grant = rules.grant_of(one)
    assert [str(pattern) for pattern in grant.read.patterns()] == ["public/", "tenants/a/"]
    assert [str(pattern) for pattern in grant.write.patterns()] == ["tenants/a/x"]
    assert not grant.admin


def test_an_empty_ceiling_lets_nothing_through() -> None:
    grant = Rules([Allow(Who(), read=("/",))]).grant_of(known(ceiling=()))
    assert not grant.read.patterns()


def test_a_decision_can_be_explained() -> None:
    rules = Rules([Allow(Who(), read=("a/",), where="line 1"), Allow(Who(group="ops"), admin=True, where="line 5")])
    found = [(given.action, str(given.pattern), given.where) for given in rules.given(known(groups=frozenset({"ops"})))]
    assert found == [("read", "a/", "line 1"), ("admin", "None", "line 5")]


def test_equal_grants_are_one_object_as_long_as_it_lives() -> None:
    rules = Rules([Allow(Who(anyone=True), read=("a/",))])
    one = rules.grant_of(known())
    assert rules.grant_of(known(subject="u2")) is one
    assert len(rules._made) == 1
    del one
    gc.collect()
    assert len(rules._made) == 0


def test_only_a_rule_for_anyone_lets_a_stranger_in() -> None:
    assert Rules([Allow(Who(anyone=True))]).know_anyone
    assert not Rules([Allow(Who())]).know_anyone


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.lists(PATTERNS, max_size=4), st.lists(PATTERNS, max_size=4), st.lists(PATTERNS, max_size=3))
def test_nothing_is_granted_beyond_a_ceiling_and_nothing_below_it_is_lost(
    own: list[str], rule: list[str], ceiling: list[str]
) -> None:
    rules = Rules([Allow(Who(group="ops"), read=tuple(rule))])
    one = known(own=Allow(Who(), read=tuple(own)), groups=frozenset({"ops"}), ceiling=tuple(ceiling))
    given_: set[str] = set().union(*(world(str(pattern)) for pattern in rules.grant_of(one).read.patterns()))
    said: set[str] = set().union(*map(world, [*own, *rule]))
    assert given_ == said & set().union(*map(world, ceiling))


def test_few_patterns_with_a_wildcard_are_made_of_those_of_a_token() -> None:
    """They are compared with each other: 64 of a token under a ceiling of 64 took 5.5 s, and 1.3 ms for each name."""
    own = Allow(Who(), read=tuple(f"*/w{number}/*/" for number in range(WILD_MAX)))
    ceiling = tuple(f"c{number}/" for number in range(10))
    grant = Rules().grant_of(known(own=own, ceiling=ceiling))
    assert len(grant.read.wild) == WILD_MAX
    assert grant.may_read("c0/w0/x/")
    rule = Rules([own])  # an operator's own patterns are as many as he likes
    assert len(rule.grant_of(known(ceiling=ceiling)).read.wild) == 10 * WILD_MAX
