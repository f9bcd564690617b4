"""Patterns against their definition: which topics of a small world a pattern reaches, counted out one by one."""

from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.identity import Grant, reach_of
from softstate.auth.patterns import Pattern, check_pattern, fill, least, pattern_of
from softstate.errors import Invalid
from softstate.names import check_topic

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=200)

LETTERS = ("a", "b", "$a")
WORLD = ["/".join(segments) for count in (1, 2, 3, 4) for segments in product(LETTERS, repeat=count)]
"""Every topic of up to four segments: patterns and names here have three at most, so one more shows any difference."""

NAMES = st.builds(
    lambda segments, prefix: "/".join(segments) + ("/" if prefix else ""),
    st.lists(st.sampled_from(LETTERS), min_size=1, max_size=3),
    st.booleans(),
) | st.just("/")
PATTERNS = st.builds(
    lambda segments, prefix: "/".join(segments) + ("/" if prefix else ""),
    st.lists(st.sampled_from([*LETTERS, "*"]), min_size=1, max_size=3),
    st.booleans(),
) | st.just("/")


def reaches(pattern: str, topic: str) -> bool:
    """Tell whether a pattern reaches a topic, by the definition: segment by segment."""
    segments = topic.split("/")
    if pattern == "/":
        return not segments[0].startswith("$")
    wanted = pattern.removesuffix("/").split("/")
    if pattern.endswith("/"):
        if len(segments) <= len(wanted):
            return False
    elif len(segments) != len(wanted):
        return False
    for at, (want, have) in enumerate(zip(wanted, segments, strict=False)):
        if want not in (have, "*") or (want == "*" and at == 0 and have.startswith("$")):
            return False
    return True


def world(pattern: str) -> set[str]:
    return {topic for topic in WORLD if reaches(pattern, topic)}


def topics_of(name: str) -> set[str]:
    """List the topics that a name stands for; ``/`` for all but those that are reserved."""
    if name == "/":
        return world("/")
    return {topic for topic in WORLD if topic == name or (name.endswith("/") and topic.startswith(name))}


@CHECKED
@given(PATTERNS, NAMES)
def test_one_pattern_covers_a_name_exactly_if_it_reaches_all_its_topics(pattern: str, name: str) -> None:
    grant = Grant(read=reach_of((pattern_of(pattern),)))
    assert grant.may_read(name) == (topics_of(name) <= world(pattern))


@CHECKED
@given(st.lists(PATTERNS, max_size=5), NAMES)
def test_no_decision_is_wider_than_the_patterns(patterns: list[str], name: str) -> None:
    grant = Grant(read=reach_of(tuple(map(pattern_of, patterns))))
    assert grant.may_read(name) == any(topics_of(name) <= world(pattern) for pattern in patterns)


@CHECKED
@given(PATTERNS, PATTERNS)
def test_a_pattern_covers_another_exactly_if_it_reaches_all_that_it_reaches(one: str, other: str) -> None:
    assert pattern_of(one).covers(pattern_of(other)) == (world(other) <= world(one))


@CHECKED
@given(PATTERNS, PATTERNS)
def test_two_patterns_meet_in_one_that_reaches_what_both_reach(one: str, other: str) -> None:
    met = pattern_of(one).within(pattern_of(other))
    assert (set() if met is None else world(str(met))) == world(one) & world(other)
    assert met == pattern_of(other).within(pattern_of(one))


@CHECKED
@given(st.lists(PATTERNS, max_size=6))
def test_the_least_patterns_reach_the_same_and_none_covers_another(patterns: list[str]) -> None:
    found = least(map(pattern_of, patterns))
    assert set().union(*(world(str(pattern)) for pattern in found)) == set().union(*map(world, patterns))
    assert not any(one.covers(other) for one in found for other in found if one != other)


@CHECKED
@given(st.lists(PATTERNS, max_size=5), NAMES)
def test_narrow_tells_names_that_are_allowed_and_below(patterns: list[str], prefix: str) -> None:
    grant = Grant(read=reach_of(tuple(map(pattern_of, patterns))))
    for name in grant.narrow(prefix):
        assert grant.may_read(name)
        assert topics_of(name) <= topics_of(prefix)


SUBJECTS = st.text(max_size=12) | st.sampled_from(
    ["x/../admin", "a/", "/", "*", "..", ".", "", "$a", "$softstate", "{sub}", "a\0", "é" * 300, "/a", "a//b", "\ud800"]
)


@CHECKED
@given(SUBJECTS, st.sampled_from(["users/{sub}/", "users/{sub}", "users/{sub}/cart", "{sub}/", "{sub}", "a/*/{sub}/"]))
def test_a_subject_never_widens_a_pattern_beyond_one_segment(subject: str, text: str) -> None:
    filled = fill(text, lambda _: subject)
    if filled is None:
        return
    around = pattern_of(text.replace("{sub}", "*"))
    assert around.covers(filled)
    assert [have for have, want in zip(filled.segments, around.segments, strict=True) if have != want] == [subject]
    assert "/" not in subject
    check_topic("/".join(filled.segments))


@CHECKED
@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12))
def test_a_subject_that_is_one_plain_segment_is_filled_in(subject: str) -> None:
    assert fill("users/{sub}/", lambda _: subject) == Pattern(("users", subject), prefix=True)


@pytest.mark.parametrize("value", [None, 1, True, ["a"], {"a": 1}, b"a"])
def test_a_value_that_is_not_text_makes_the_pattern_void(value: object) -> None:
    assert fill("users/{sub}/", lambda _: value) is None


def test_values_are_asked_for_by_name() -> None:
    asked: list[str] = []
    assert fill("{iss}/{claim:org}/{sub}", lambda name: asked.append(name) or name[:3]) is not None  # type: ignore[func-returns-value]
    assert asked == ["iss", "claim:org", "sub"]


@pytest.mark.parametrize(
    "text", ["/", "a", "a/", "*", "*/", "a/*/b", "{sub}", "{iss}/", "o/{claim:org}/", "a/{claim:https:x}"]
)
def test_a_pattern_is_taken(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "//", "/a", "a//b", "a/./b", "a/..", "a\n", "a*", "**", "a/*b/", "{", "a/{x}", "u-{sub}", "{sub}{iss}",
     "{claim:}", "{claim:a/b}", "{SUB}", "a" * 256, "\ud800", None, 1, ["a"]],
)  # fmt: skip
def test_a_pattern_is_refused(text: object) -> None:
    with pytest.raises(Invalid, match=r"^where"):
        check_pattern(text, "where")


def test_a_filled_pattern_that_is_too_long_is_void() -> None:
    assert fill("a" * 100 + "/{sub}/", lambda _: "b" * 154) is not None
    assert fill("a" * 100 + "/{sub}/", lambda _: "b" * 155) is None
