import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from softstate.wire import digest_of, digest_text, fnv1a
from softstate.wire.subscription_digest import MASK, NAMES_CACHED

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=100)
NAMES = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=12)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("", "cbf29ce484222325"),
        ("a", "af63dc4c8601ec8c"),
        ("b", "af63df4c8601f1a5"),
        ("foo", "dcb27518fed9d577"),
        ("foobar", "85944171f73967e8"),
    ],
)
def test_the_published_vectors(name: str, published: str) -> None:
    assert digest_text(fnv1a(name)) == published
    assert digest_text(digest_of([name])) == published


def test_a_name_is_hashed_as_utf_8() -> None:
    expected = 0xCBF29CE484222325
    for byte in "für/☃/𝄞".encode():
        expected = (expected ^ byte) * 0x100000001B3 % 2**64
    assert fnv1a("für/☃/𝄞") == expected


@CHECKED
@given(NAMES, st.randoms(use_true_random=False))
def test_order_does_not_matter(names: set[str], chance: random.Random) -> None:
    shuffled = sorted(names)
    chance.shuffle(shuffled)
    assert digest_of(shuffled) == digest_of(sorted(names)) == digest_of(names)


@CHECKED
@given(NAMES, NAMES)
def test_adding_and_removing_names_is_arithmetic(held: set[str], other: set[str]) -> None:
    digest = digest_of(held)
    for name in other - held:
        digest = (digest + fnv1a(name)) & MASK
    assert digest == digest_of(held | other)
    for name in other:
        digest = (digest - fnv1a(name)) & MASK
    assert digest == digest_of(held - other)


def test_a_prefix_and_its_topic_differ() -> None:
    assert digest_of(["a"]) != digest_of(["a/"])
    assert digest_of(["a", "b"]) != digest_of(["ab"])


def test_the_empty_set_and_the_text_form() -> None:
    assert digest_of([]) == 0
    assert digest_text(0) == "0" * 16
    assert digest_text(0xAB) == "00000000000000ab"
    assert digest_text(MASK) == "f" * 16


def test_the_sum_wraps_at_64_bits() -> None:
    names = [str(number) for number in range(100)]
    assert sum(map(fnv1a, names)) > MASK
    assert digest_of(names) == sum(map(fnv1a, names)) % 2**64


def test_the_cache_of_hashes_is_bounded() -> None:
    fnv1a.cache_clear()
    for number in range(NAMES_CACHED + 10):
        fnv1a(str(number))
    assert fnv1a.cache_info().currsize == NAMES_CACHED
    assert fnv1a("0") == digest_of(["0"])
