"""Reads what a request carries, query string and body, and refuses by name what its route does not know (P-HTTP-13).

A misspelt condition that is ignored is worse than none: ``PUT ?expct=7`` would overwrite all that came between.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qsl, unquote_plus

from msgspec import UNSET, Meta, UnsetType, field
from msgspec.inspect import Field, ListType, Metadata, StructType, Type, UnionType, type_info

from softstate.errors import Invalid, TooLarge
from softstate.names import TOPIC_BYTES_MAX
from softstate.position import REVISION_MAX, Position, Revision
from softstate.server.config import ServerConfig
from softstate.server.http.patterns import CURSOR, PREFIX, TOPIC
from softstate.wire import Codec
from softstate.wire.messages import Batch, BatchChange, Cursor, Id, Poll, Subscribe

PARAMETERS_MAX = 64
"""Parameters in one query string: a stream names its topics there."""

NAME_SHOWN_CHARS_MAX = 64
"""Characters of an unknown name that its refusal repeats."""

LIKENESS_MIN = 0.65
"""Names less like the one sent than this (`difflib`'s ratio) are no guess at what was meant."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


# The query string ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a whole number from `low` to `high`, in decimal without leading zeros.

    `what` says for people what it means, `default` what holds without it.
    """

    low: int = 0
    high: int = REVISION_MAX
    what: str = ""
    default: int | None = None

    def read(self, name: str, text: str) -> int:
        """Convert the parameter `name`. Raises `Invalid`."""
        if not (_NUMBER.fullmatch(text) and self.low <= int(text) <= self.high):
            raise Invalid(f"{name} must be a whole number from {self.low} to {self.high}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Text:
    """A parameter that is text of 1 to `chars_max` characters; its handler knows its form, `pattern` describes it."""

    chars_max: int
    what: str = ""
    pattern: str = ""
    default: str | None = None

    def read(self, name: str, text: str) -> str:
        """Return the parameter `name`. Raises `Invalid`."""
        if not 1 <= len(text) <= self.chars_max:
            raise Invalid(f"{name} must have 1 to {self.chars_max} characters")
        return text


@dataclass(frozen=True, slots=True)
class Texts(Text):
    """A parameter that may be given several times; its value is the list of all."""


Parameters: TypeAlias = Mapping[str, Number | Text]
"""The parameters that a route knows, by name."""


def read_query(query: str, known: Parameters) -> dict[str, Any]:
    """Read a query string. Raises `Invalid`, naming a parameter that is unknown, given twice, or wrong."""
    if not query:
        return {}
    check_escapes(query)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        raise Invalid(f"malformed query string (at most {PARAMETERS_MAX} parameters, in UTF-8): {error}") from None
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            raise unknown("query parameter", name, known)
        parameter = known[name]
        if isinstance(parameter, Texts):
            given.setdefault(name, []).append(parameter.read(name, text))
            continue
        if name in given:
            raise Invalid(f"the query parameter {name!r} is given twice")
        given[name] = parameter.read(name, text)
    return given


def names_of(query: str) -> set[str]:
    """Return the names in a query string, known or not, as `read_query` understands them."""
    return {unquote_plus(pair.partition("=")[0]) for pair in query.split("&")}


def check_escapes(text: str) -> None:
    """Raise `Invalid` for malformed percent-encoding."""
    if _BAD_ESCAPE.search(text):
        raise Invalid("a '%' in the request's target must be followed by two hex digits")


def unknown(what: str, name: str, known: Collection[str], place: str = "") -> Invalid:
    """Return the refusal of a name that is not `known`: with the nearest known one, and all of them."""
    text = f"unknown {what} {name[:NAME_SHOWN_CHARS_MAX]!r}{place}"
    if not known:
        return Invalid(f"{text}: this request takes none")
    nearest = difflib.get_close_matches(name[:NAME_SHOWN_CHARS_MAX].lower(), known, 1, LIKENESS_MIN)
    guess = f" did you mean {nearest[0]!r}?" if nearest else ""
    return Invalid(f"{text}:{guess} known are {', '.join(known)}")


# The body ------------------------------------------------------------------------------------------------------------

VALUE_SCHEMA = "#/components/schemas/Value"
"""The place of the schema of values in the description of the requests."""

TopicName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": TOPIC, "minLength": 1, "maxLength": TOPIC_BYTES_MAX})
]
PrefixName: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": PREFIX, "minLength": 1, "maxLength": TOPIC_BYTES_MAX + 1})
]
"""Names, described; they are checked by `softstate.names`, in portions."""

AnyValue: TypeAlias = Annotated[Any, Meta(extra_json_schema={"$ref": VALUE_SCHEMA})]
"""A value, described."""


class StrictPosition(Position, frozen=True, forbid_unknown_fields=True):
    """A position in the body of a request."""


class PollBody(Poll, frozen=True, tag="poll", forbid_unknown_fields=True):
    """The body of ``POST /v1/poll``."""

    position: StrictPosition | None = None
    topics: dict[TopicName, Revision] = field(default_factory=dict)
    prefixes: dict[PrefixName, Revision] = field(default_factory=dict)
    cursor: Annotated[Cursor, Meta(extra_json_schema={"pattern": CURSOR})] | None = None

    @property
    def witness(self) -> Position | None:
        """The position, as the kind that others compare it with."""
        held = self.position
        return None if held is None else Position(held.epoch, held.lineage, held.revision)


class StreamBody(Subscribe, frozen=True, tag="subscribe", forbid_unknown_fields=True):
    """The body of ``POST /v1/events``: what a subscribe says, and a position that its sender has seen."""

    id: Id = 0
    position: StrictPosition | None = None
    topics: dict[TopicName, Revision] = field(default_factory=dict)
    prefixes: dict[PrefixName, Revision] = field(default_factory=dict)

    @property
    def witness(self) -> Position | None:
        """The position, as the kind that others compare it with."""
        held = self.position
        return None if held is None else Position(held.epoch, held.lineage, held.revision)


AnyNames: TypeAlias = Annotated[
    StreamBody,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"required": [names], "properties": {names: {"minProperties": 1}}} for names in ("topics", "prefixes")
            ]
        }
    ),
]
"""The body of a stream that names anything."""


class ChangeBody(BatchChange, frozen=True, forbid_unknown_fields=True):
    """One change of ``POST /v1/publish``; one whose topic is none is refused alone."""

    value: AnyValue | UnsetType = UNSET


OneOfBoth: TypeAlias = Annotated[
    ChangeBody,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["value"], "properties": {"deleted": {"const": False}}},
                {"required": ["deleted"], "properties": {"deleted": {"const": True}, "value": False}},
            ]
        }
    ),
]
"""A change with either a value or ``deleted``; that is checked by `softstate.wire.check_batch`."""


class BatchBody(Batch, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/publish``."""

    changes: list[OneOfBoth]  # type: ignore[assignment]  # a list is only read here


MEMBERS_LOOKED_AT_MAX = 1_000
"""Members of a list in which an unknown field is looked for: 5 ms."""

JSON_PER_CBOR = 6
"""Most bytes of JSON for one of the same value in CBOR: a control character is escaped as ``\\u0001``."""

VALUE: Any = Any
"""The kind of a body that is one value: it has no fields."""


def check_size(data: bytes, codec: Codec, kind: Any, config: ServerConfig) -> None:
    """Check the size of a body before anything of it is decoded. Raises `TooLarge`."""
    if kind is VALUE:
        limit = config.value_bytes_max * (JSON_PER_CBOR if codec.text else 1)
        what = f"this value cannot fit into the limit (value_bytes_max), {config.value_bytes_max} bytes as CBOR"
    else:
        limit = config.body_bytes_max if kind is BatchBody else config.message_bytes_max
        what = f"the limit (message_bytes_max) is {limit}: ask in several requests"
    if len(data) > limit:
        raise TooLarge(f"the body has {len(data)} bytes: {what}")


def read_body(data: bytes, codec: Codec, kind: Any) -> Any:
    """Read a body as `kind`, None for a request that takes none. Raises `Invalid`, naming a field that is unknown.

    Values are left as the codec's syntax has them: `Codec.plain` makes them what they mean.
    """
    if kind is None:
        if data:
            raise Invalid("this request takes no body: leave it out")
        return None
    try:
        return codec.loads_syntax(data, kind)
    except Invalid:
        # Looked for only now: a request that is in order is read once.
        if kind is not VALUE and (refusal := _unknown_field(data, codec, kind)) is not None:
            raise refusal from None
        raise


def _unknown_field(data: bytes, codec: Codec, kind: Any) -> Invalid | None:
    try:
        item = codec.loads_syntax(data, VALUE)
    except Invalid:
        return None
    return next(_unknown_in(item, type_info(kind), ""), None)


def _unknown_in(item: Any, kind: Type, path: str) -> Iterator[Invalid]:
    """Find the fields of `item` that `kind` does not know, at any depth that a schema describes."""
    if isinstance(kind, Metadata):
        kind = kind.type
    if isinstance(kind, UnionType):
        for each in kind.types:
            yield from _unknown_in(item, each, path)
    elif isinstance(kind, ListType) and isinstance(item, list):
        for index, each in enumerate(islice(item, MEMBERS_LOOKED_AT_MAX)):
            yield from _unknown_in(each, kind.item_type, f"{path}[{index}]")
    elif isinstance(kind, StructType) and isinstance(item, dict):
        fields: dict[str, Field] = {field.encode_name: field for field in kind.fields}
        place = f" in {path}" if path else ""
        for name, value in item.items():
            if name in fields:
                yield from _unknown_in(value, fields[name].type, f"{path}.{name}" if path else name)
            elif name != kind.tag_field:
                yield unknown("field", name, list(fields), place)
