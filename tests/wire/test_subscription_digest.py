import hashlib
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from softstate.wire import digest_of, digest_text, name_hash
from softstate.wire.subscription_digest import MASK

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=100)
NAMES = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=12)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("", "e3b0c44298fc1c14"),
        ("a", "ca978112ca1bbdca"),
        ("abc", "ba7816bf8f01cfea"),
        ("foobar", "c3ab8ff13720e8ad"),
        ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8"),
    ],
)
def test_the_published_vectors(name: str, published: str) -> None:
    assert digest_text(name_hash(name)) == published
    assert digest_text(digest_of([name])) == published


def test_a_name_is_hashed_as_utf_8() -> None:
    digest = hashlib.sha256(b"f\xc3\xbcr/\xe2\x98\x83/\xf0\x9d\x84\x9e").hexdigest()
    assert digest_text(name_hash("für/☃/𝄞")) == digest[:16]


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
        digest = (digest + name_hash(name)) & MASK
    assert digest == digest_of(held | other)
    for name in other:
        digest = (digest - name_hash(name)) & MASK
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
    assert sum(map(name_hash, names)) > MASK
    assert digest_of(names) == sum(map(name_hash, names)) % 2**64
