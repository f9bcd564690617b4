import pytest
from hypothesis import assume, given, settings, strategies as st

from softstate.errors import Invalid
from softstate.names import (
    ALL,
    TOPIC_BYTES_MAX,
    check_prefix,
    check_topic,
    covered,
    covers,
    is_prefix,
    prefixes_of,
    reaching,
)

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=300)

SEGMENTS = st.text(st.sampled_from("ab.☃"), min_size=1, max_size=3).filter(lambda segment: segment not in (".", ".."))
TOPICS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PREFIXES = st.just(ALL) | TOPICS.map(lambda topic: topic + "/")

VALID = [
    "a",
    "orders/42",
    "a/b/c/d/e",
    " ",
    "a b",
    "...",
    ".a",
    "a.",
    "a/.../b",
    "..a/b..",
    "für/☃/𝄞",
    "\u00a0",
    "\ufeff",
    "e\u0301",
    "\u202e",
    "\U0010ffff",
    "%2f",
    "\\",
    '"',
    "*",
    "#",
    "?x=1",
    "a" * TOPIC_BYTES_MAX,
    "é" * 127 + "a",
    "𝄞" * 63 + "abc",
    "/".join("a" * 128),
]
BROKEN = [
    ("", "1 to 255 bytes"),
    ("a" * (TOPIC_BYTES_MAX + 1), "1 to 255 bytes of UTF-8, this one has 256"),
    ("é" * 128, "this one has 256"),
    ("𝄞" * 64, "this one has 256"),
    ("/", "'/'"),
    ("//", "'/'"),
    ("/a", "'/'"),
    ("a/", "'/'"),
    ("a//b", "'/'"),
    (".", "'.'"),
    ("..", "'..'"),
    ("./a", "'.'"),
    ("a/.", "'.'"),
    ("a/./b", "'.'"),
    ("../a", "'..'"),
    ("a/..", "'..'"),
    ("a/../b", "'..'"),
    ("\ud800", "surrogate"),
    ("a/\udfff", "surrogate"),
    ("\ud834\udd1e", "surrogate"),
    *((f"a{chr(code)}b", "control characters") for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))),
    ("\n", "control characters"),
    ("a\n", "control characters"),
]
NO_TEXT: list[object] = [None, 5, True, b"a", ["a"], ("a",)]


@pytest.mark.parametrize("name", VALID, ids=ascii)
def test_a_valid_topic_is_returned_as_it_is_and_its_prefix_too(name: str) -> None:
    assert check_topic(name) is name
    assert not is_prefix(name)
    assert check_prefix(name + "/") == name + "/"
    assert is_prefix(name + "/")
    with pytest.raises(Invalid, match=r"^prefix must be '/' or a topic followed by '/'"):
        check_prefix(name)


@pytest.mark.parametrize(("name", "rule"), BROKEN, ids=ascii)
def test_a_broken_rule_is_named_with_the_field(name: str, rule: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_topic(name)
    assert caught.value.message.startswith("topic must ")
    assert rule in caught.value.message
    with pytest.raises(Invalid, match=r"^changes\[1\]\.topic must "):
        check_topic(name, "changes[1].topic")


@pytest.mark.parametrize("name", [name for name, _rule in BROKEN if name], ids=ascii)
def test_a_broken_topic_makes_a_broken_prefix(name: str) -> None:
    for prefix in (name + "/", "/" + name):
        with pytest.raises(Invalid, match=r"^prefixes\.x must "):
            check_prefix(prefix, "prefixes.x")


@pytest.mark.parametrize("name", NO_TEXT, ids=repr)
def test_a_name_is_text(name: object) -> None:
    with pytest.raises(Invalid, match="topic must be text"):
        check_topic(name)
    with pytest.raises(Invalid, match="prefix must be"):
        check_prefix(name)


def test_the_prefix_of_everything() -> None:
    assert check_prefix("/") == ALL == "/"
    assert is_prefix(ALL)
    for name in ("", "//", "/a", "a"):
        with pytest.raises(Invalid):
            check_prefix(name)


@pytest.mark.parametrize(
    ("name", "topic", "covered"),
    [
        ("a", "a", True),
        ("a", "a/b", False),
        ("a/", "a", False),
        ("a/", "a/b", True),
        ("a/", "a/b/c", True),
        ("a/", "ab", False),
        ("a/b/", "a/b", False),
        ("a/b/", "a/bc/d", False),
        ("a/b", "a/b", True),
        ("/", "a", True),
        ("/", "a/b/c", True),
        ("A", "a", False),
        ("é", "e\u0301", False),
    ],
)
def test_what_covers_what(name: str, topic: str, covered: bool) -> None:
    assert covers(name, topic) is covered


@CHECKED
@given(PREFIXES, TOPICS)
def test_a_prefix_covers_exactly_the_topics_that_list_it(prefix: str, topic: str) -> None:
    assert check_topic(topic)
    assert check_prefix(prefix)
    assert covers(prefix, topic) == (prefix in prefixes_of(topic))


@CHECKED
@given(TOPICS, TOPICS)
def test_a_topic_covers_itself_alone_and_its_prefix_what_is_below(one: str, other: str) -> None:
    assert covers(one, other) == (one == other)
    assert covers(one + "/", one + "/" + other)
    assert not covers(one + "/", one)
    assume(one.partition("/")[0] != other.partition("/")[0])
    assert not covers(one + "/", other)


@CHECKED
@given(TOPICS)
def test_the_prefixes_of_a_topic_are_valid_and_widest_first(topic: str) -> None:
    prefixes = prefixes_of(topic)
    assert prefixes == [ALL, *("/".join(topic.split("/")[:n]) + "/" for n in range(1, len(topic.split("/"))))]
    assert [check_prefix(prefix) for prefix in prefixes] == prefixes
    assert all(covers(prefix, topic) for prefix in prefixes)


def test_a_store_finds_below_the_widest_prefix_what_no_subscription_to_it_reaches() -> None:
    for topic in ("$a/b", "$a", "$"):
        assert covers("/", topic)
        assert "/" in prefixes_of(topic)
        assert "/" not in reaching(topic)
        assert not covered({"/"}, topic)
        assert covered({"/", topic}, topic)
    assert reaching("$a/b") == ["$a/"]
    assert reaching("a/$b") == ["/", "a/"]
