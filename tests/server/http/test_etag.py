"""Entity tags."""

import re

import pytest

from softstate.errors import Invalid
from softstate.server.http import etag
from softstate.server.http.etag import parse_tags


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


@pytest.mark.parametrize("header", ["", "a", '"a', '"a" "b"', "W/a", ",", '"a",' + " " * 200_000 + "x"])
def test_what_is_no_tag_is_refused(header: str) -> None:
    with pytest.raises(Invalid, match="If-None-Match"):
        parse_tags(header, "If-None-Match")


def test_blanks_are_never_walked_twice() -> None:
    """Found by fuzzing: 16 KB of blanks before what is no tag kept a node busy for seconds."""
    assert not re.search(r"\\s\*(?!\+)", etag._TAGS.pattern)
