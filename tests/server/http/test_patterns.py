"""The described form of names and validators matches what the functions take that read them, and nothing else."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.tickets import ticket_of, topic_of
from softstate.errors import Invalid, Unauthenticated
from softstate.model import Page, Query, Record
from softstate.names import check_prefix, check_topic
from softstate.position import Position
from softstate.server.http import patterns
from softstate.server.http.validators import Cursor, etag, next_cursor, parse_strong, parse_tags
from softstate.wire import CODECS

NAMES = st.lists(st.sampled_from([".", "..", "/", "a", "é", "\n", "\x7f", "\x85", "$", " "]), max_size=6).map("".join)
TEXTS = st.text('W/*"ab,. +j0', max_size=8)


def takes(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (Invalid, Unauthenticated):
        return False
    return True


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern of JSON Schema matches, where ``$`` is the end and nothing else."""
    return re.search(pattern.removesuffix("$") + r"\Z", text) is not None


@settings(deadline=None)
@given(NAMES)
def test_a_topic_matches(text: str) -> None:
    assert matches(patterns.TOPIC, text) == takes(check_topic, text)


@settings(deadline=None)
@given(NAMES)
def test_a_prefix_matches(text: str) -> None:
    assert matches(patterns.PREFIX, text) == takes(check_prefix, text)


@settings(deadline=None)
@given(TEXTS)
def test_entity_tags_that_match_are_taken(text: str) -> None:
    if matches(patterns.TAGS, text):
        assert takes(lambda given: parse_tags(given, "If-None-Match"), text)


@pytest.mark.parametrize("text", ["e.l.7", "f0.a.1", "e.l.9007199254740991"])
def test_a_position_matches(text: str) -> None:
    position = Position.parse(text)
    assert str(position) == text
    for pattern in (patterns.POSITION, patterns.EVENT_ID):
        assert matches(pattern, text)
        assert not matches(pattern, f"{text}.1")
    assert position is not None
    for codec in CODECS.values():
        tag = etag(position, codec)
        assert matches(patterns.TAG, tag)
        assert matches(patterns.ANY_OR_TAG, tag)
        assert parse_strong(tag) == position


@pytest.mark.parametrize("text", ["e.l", "e.l.", "e..1", ".l.1", "e.l.1.2", "e.l.x", ""])
def test_another_text_is_no_position(text: str) -> None:
    assert Position.parse(text) is None
    assert not matches(patterns.POSITION, text)


def test_the_first_revision_is_no_id_of_an_event() -> None:
    assert matches(patterns.POSITION, "e.l.0")
    assert not matches(patterns.EVENT_ID, "e.l.0")


def test_a_cursor_and_a_ticket_match() -> None:
    query = Query({}, {"a/": 0})
    page = Page(Position("e", "l", 9), 0, [Record("a/b", 3, b"\0")], more=True)
    cursor = next_cursor(query, page).text(query)
    assert matches(patterns.CURSOR, cursor)
    assert takes(lambda text: Cursor.parse(text, query), cursor)
    ticket = ticket_of(bytes(32))
    assert matches(patterns.TICKET, ticket)
    assert takes(topic_of, ticket)
    assert not matches(patterns.TICKET, ticket[:-1])
