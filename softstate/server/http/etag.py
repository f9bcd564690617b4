"""Entity tags: ``"epoch.lineage.version"``, the name of one version of a topic in one history (RFC 9110 section 8.8.3).

A version alone would not do: a store restored from a backup may reach the same version again with another value
(P-HTTP-3).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from softstate.errors import Invalid
from softstate.position import Position

ANY = "*"

# Possessive (`*+`), so that a long run of blanks before what is no tag is walked once, not once for each of its blanks.
_TAGS = re.compile(r'\s*+(?:(?:W/)?"([^"]*+)"\s*+)?(?:,|$)')


def etag(position: Position) -> str:
    """Write the tag of the version that `position` names."""
    return f'"{position}"'


def parse_tags(header: str, name: str) -> list[str]:
    """Read what ``If-None-Match`` may hold: `ANY`, or tags, weak ones compared as strong ones. Raises `Invalid`."""
    if header.strip() == ANY:
        return [ANY]
    tags: list[str] = []
    at = 0
    while at < len(header):
        match = _TAGS.match(header, at)
        if match is None:
            raise Invalid(
                f'{name} must be * or a list of entity tags, each in double quotes, such as "epoch.lineage.7"'
            )
        if match[1] is not None:
            tags.append(match[1])
        at = match.end()
    if not tags:
        raise Invalid(f"{name} holds no entity tag")
    return tags


def matches(tags: Collection[str], position: Position | None) -> bool:
    """Tell whether `tags`, as `parse_tags` read them, name `position`, which is None when there is no value."""
    return position is not None and (ANY in tags or str(position) in tags)


def parse_strong(header: str) -> Position:
    """Read what ``If-Match`` may hold here: exactly one strong tag that this server made. Raises `Invalid`."""
    text = header.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise Invalid(
            "If-Match must be * or one entity tag in double quotes, as an ETag header had it (no W/, no list)"
        )
    position = Position.parse(text[1:-1])
    if position is None:
        raise Invalid("If-Match must look like epoch.lineage.revision in double quotes, as an ETag header had it")
    return position
