"""Validators: text that a client sends back, so that the server sees whether it still holds (P-HTTP-3, P-HTTP-7).

An *entity tag* ``"epoch.lineage.version+json"`` names one version of a topic in one history, as one codec writes it
(RFC 9110 section 8.8.3). A version alone would not do: a store restored from a backup may reach the same version again
with another value. And one strong tag for two representations would let a cache answer with the wrong one.

A *cursor* carries all that paging needs, so that the server keeps no paging state: the end of the page before, the
position that the first page had read, and two digests. One binds it to the request that it came from; the other tells
whether the floor has passed a since-revision meanwhile (see `softstate.store.rules.paging.answer`). It is no secret and
no proof: a client that forges one misleads only itself.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

import msgspec

from softstate.errors import Invalid
from softstate.model import Page, Query
from softstate.position import REVISION_MAX, Position
from softstate.wire import CBOR, JSON, Codec

# Entity tags ---------------------------------------------------------------------------------------------------------

ANY = "*"

# Possessive (`*+`), so that a long run of blanks before a malformed tag is walked once, not once for each blank.
_TAGS = re.compile(r'\s*+(?:(W/)?"([^"]*+)"\s*+)?(?:,|$)')


def etag(position: Position, codec: Codec) -> str:
    """Write the tag of the version that `position` names, as `codec` writes its value."""
    return f'"{position}+{codec.name}"'


def position_of_tag(tag: str) -> Position | None:
    """Read the position that a tag names, without its quotes, in any representation; None if it names none."""
    for codec in (JSON, CBOR):
        tag = tag.removesuffix(f"+{codec.name}")
    return Position.parse(tag)


def parse_tags(header: str, name: str, *, strong: bool = False) -> list[str]:
    """Read the value of ``If-None-Match``, or of a read's ``If-Match``: `ANY`, or tags. Raises `Invalid`.

    A weak tag is compared as a strong one, or, if only `strong` ones count, matches nothing and is left out.
    """
    if header.strip() == ANY:
        return [ANY]
    tags: list[str] = []
    at, found = 0, False
    while at < len(header):
        match = _TAGS.match(header, at)
        if match is None:
            raise Invalid(
                f'{name} must be * or a list of entity tags, each in double quotes, such as "epoch.lineage.7"'
            )
        if match[2] is not None:
            found = True
            if not (strong and match[1]):
                tags.append(match[2])
        at = match.end()
    if not found:
        raise Invalid(f"{name} holds no entity tag")
    return tags


def matches(tags: Collection[str], position: Position | None, codec: Codec) -> bool:
    """Tell whether `tags`, as `parse_tags` read them, name `position` as `codec` writes it.

    A tag without a codec names the version in every representation: it comes from a client that learnt the version
    elsewhere, or from a node of before.
    """
    return position is not None and (str(position) in tags or f"{position}+{codec.name}" in tags)


def parse_strong(header: str) -> Position:
    """Read the value of ``If-Match`` of a write: exactly one strong tag that this server made. Raises `Invalid`.

    It is the version that counts there, not the representation in which the client has read it.
    """
    text = header.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise Invalid(
            "If-Match must be * or one entity tag in double quotes, as an ETag header had it (no W/, no list)"
        )
    position = position_of_tag(text[1:-1])
    if position is None:
        raise Invalid("If-Match must look like epoch.lineage.revision in double quotes, as an ETag header had it")
    return position


# Cursors -------------------------------------------------------------------------------------------------------------

_DIGEST_BYTES = 6
"""Against mistakes, not against malice: 48 bits are plenty."""

_FORM = re.compile(
    r"([0-9a-f]{1,14})-([0-9a-f]{0,14})-([\w-]{8})-([\w-]{8})"
    r"\.([^.\ud800-\udfff]+)\.([^.\ud800-\udfff]+)\.([0-9a-f]{1,14})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an answer: `after` and `listed` as in `Query`; `seen` is the position of the page before.

    `compacted` is a digest of the names in `Page.compacted` of the first page.
    """

    after: int
    listed: int | None
    seen: Position
    compacted: str

    def text(self, query: Query) -> str:
        """Write this cursor, bound to the names of `query`: at most 124 characters with the nonces of our stores."""
        listed = "" if self.listed is None else f"{self.listed:x}"
        seen = f"{self.seen.epoch}.{self.seen.lineage}.{self.seen.revision:x}"
        return f"{self.after:x}-{listed}-{self.compacted}-{self._tag(query)}.{seen}"

    @classmethod
    def parse(cls, text: str, query: Query) -> Cursor:
        """Read a cursor that came with `query`. Raises `Invalid` if it is malformed or of another request."""
        match = _FORM.fullmatch(text)
        if match is not None:
            after, listed, compacted, tag, epoch, lineage, revision = match.groups()
            seen = Position(epoch, lineage, int(revision, 16))
            cursor = cls(int(after, 16), int(listed, 16) if listed else None, seen, compacted)
            if tag == cursor._tag(query) and cursor._plausible():
                return cursor
        raise Invalid("cursor must be what the page before gave, unchanged, and come with the same topics and prefixes")

    def _tag(self, query: Query) -> str:
        asked = [sorted(query.topics.items()), sorted(query.prefixes.items())]
        return _digest([asked, self.after, self.listed, self.seen, self.compacted])

    def _plausible(self) -> bool:
        return 0 < self.after <= self.seen.revision <= REVISION_MAX and (self.listed or 0) <= REVISION_MAX

    def resume(self, query: Query) -> Query:
        """Ask for the page that begins here. The newer of both witnesses has to be on the history still."""
        witness = query.witness
        if witness is None or witness.revision < self.seen.revision:
            witness = self.seen
        return replace(query, after=self.after, listed=self.listed, witness=witness)

    def continues(self, page: Page) -> bool:
        """Tell whether `page` goes on where this cursor was, so that both belong to one answer."""
        return not page.restart and digest_names(page.compacted) == self.compacted


def next_cursor(query: Query, page: Page) -> Cursor:
    """Return the cursor behind `page`, which answered `query` and has `more`."""
    listed = query.listed
    if query.after == 0 and (page.compacted or not all(query.prefixes.values()) or not all(query.topics.values())):
        listed = page.position.revision
    return Cursor(page.next_after, listed, page.position, digest_names(page.compacted))


def digest_names(names: Iterable[str]) -> str:
    """Return a short digest of a set of names."""
    return _digest(sorted(names))


def _digest(item: object) -> str:
    return urlsafe_b64encode(blake2b(msgspec.json.encode(item), digest_size=_DIGEST_BYTES).digest()).decode()
