"""Entity tags and cursors."""

import re

import pytest

from softstate.errors import Invalid
from softstate.model import Page, Query, Record
from softstate.position import REVISION_MAX, Position
from softstate.server.http import validators
from softstate.server.http.validators import Cursor, digest_names, next_cursor, parse_tags


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ('"a"', ["a"]),
        ('W/"a" , "b"', ["a", "b"]),
        (' , "a",, ', ["a"]),
        (" * ", ["*"]),
        ('"a"' + " " * 50_000 + ',"b"' + " " * 50_000, ["a", "b"]),
    ],
)
def test_tags_are_read(header: str, tags: list[str]) -> None:
    assert parse_tags(header, "If-None-Match") == tags


def test_a_weak_tag_matches_nothing_where_only_strong_ones_count() -> None:
    """RFC 9110 section 13.1.1: ``If-Match`` compares strongly."""
    assert parse_tags('W/"a" , "b"', "If-Match", strong=True) == ["b"]
    assert parse_tags('W/"a"', "If-Match", strong=True) == []


@pytest.mark.parametrize("header", ["", "a", '"a', '"a" "b"', "W/a", ",", '"a",' + " " * 200_000 + "x"])
def test_a_malformed_tag_is_refused(header: str) -> None:
    with pytest.raises(Invalid, match="If-None-Match"):
        parse_tags(header, "If-None-Match")


def test_blanks_are_walked_once() -> None:
    """Found by fuzzing: 16 KB of blanks before a malformed tag kept a node busy for seconds."""
    assert not re.search(r"\\s\*(?!\+)", validators._TAGS.pattern)


SEEN = Position("e" * 32, "f" * 16, REVISION_MAX)
QUERY = Query({"a": 1}, {"p/": 2})
CURSOR = Cursor(7, 5, SEEN, digest_names([]))


@pytest.mark.parametrize("listed", [None, 0, 5, REVISION_MAX])
@pytest.mark.parametrize("after", [1, REVISION_MAX])
def test_a_cursor_comes_back_as_it_went(after: int, listed: int | None) -> None:
    cursor = Cursor(after, listed, SEEN, digest_names(["p/"]))
    assert Cursor.parse(cursor.text(QUERY), QUERY) == cursor
    assert len(cursor.text(QUERY)) <= 128


def test_the_order_of_names_does_not_matter() -> None:
    text = CURSOR.text(Query({"a": 1, "b": 2}))
    assert Cursor.parse(text, Query({"b": 2, "a": 1})) == CURSOR


@pytest.mark.parametrize("other", [Query({"a": 2}, {"p/": 2}), Query({"a": 1}), Query({}, {"p/": 2}), Query({"p/": 2})])
def test_a_cursor_of_another_request_is_invalid(other: Query) -> None:
    with pytest.raises(Invalid, match="same topics"):
        Cursor.parse(CURSOR.text(QUERY), other)


@pytest.mark.parametrize("at", range(len(CURSOR.text(QUERY))))
def test_a_cursor_cut_or_garbled_is_invalid(at: int) -> None:
    text = CURSOR.text(QUERY)
    for garbled in (
        text[:at],
        text[:at] + text[at + 1 :],
        text[:at] + "!" + text[at + 1 :],
        text[:at] + "!" + text[at:],
    ):
        with pytest.raises(Invalid):
            Cursor.parse(garbled, QUERY)


@pytest.mark.parametrize(
    ("after", "listed", "revision"), [(0, 5, 9), (10, 5, 9), (7, 2**54, 9), (2**54, 5, 2**55), (7, 5, 2**53)]
)
def test_numbers_out_of_range_are_invalid(after: int, listed: int, revision: int) -> None:
    # Position itself checks nothing: msgspec does when it decodes.
    text = Cursor(after, listed, Position("e", "l", revision), digest_names([])).text(QUERY)
    with pytest.raises(Invalid):
        Cursor.parse(text, QUERY)


def test_resuming_uses_the_newer_witness() -> None:
    cursor = Cursor(7, 5, Position("e", "l", 9), digest_names([]))
    assert cursor.resume(QUERY).witness == Position("e", "l", 9)
    assert cursor.resume(Query(witness=Position("e", "l", 8))).witness == Position("e", "l", 9)
    assert cursor.resume(Query(witness=Position("e", "l", 10))).witness == Position("e", "l", 10)
    assert (cursor.resume(QUERY).after, cursor.resume(QUERY).listed) == (7, 5)


@pytest.mark.parametrize(
    ("query", "compacted", "listed"),
    [
        (Query({}, {"p/": 0}), [], 9),
        (Query({}, {"p/": 3}), [], None),
        (Query({}, {"p/": 3}), ["p/"], 9),
        (Query({"a": 0}, {"p/": 3}), [], 9),
        (Query({"a": 2}, {}), [], None),
        (Query({}, {"p/": 0}, after=3, listed=4), [], 4),
    ],
)
def test_a_cursor_of_a_list_from_zero_carries_its_first_read(
    query: Query, compacted: list[str], listed: int | None
) -> None:
    page = Page(Position("e", "l", 9), 0, [Record("p/a", 7, None)], more=True, compacted=compacted)
    cursor = next_cursor(query, page)
    assert (cursor.after, cursor.listed, cursor.seen) == (7, listed, page.position)
    assert cursor.continues(page)
    assert not cursor.continues(Page(page.position, 0, compacted=[*compacted, "q/"]))
    assert not cursor.continues(Page(page.position, 0, compacted=compacted, restart=True))


def test_a_cursor_that_is_no_unicode_is_refused() -> None:
    """Found by fuzzing."""
    with pytest.raises(Invalid):
        Cursor.parse("f--AbCdEfGh-AbCdEfGh.\udcff.d.2", Query())
