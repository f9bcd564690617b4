"""The answers to each request, declared: the part of the table of routes that its description is made of.

`softstate.server.http.routes.ROUTES` names one `About` for each operation; `softstate.server.http.describe` writes them
down, and tests hold real answers to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from softstate.errors import (
    Behind,
    Compacted,
    Conflict,
    Denied,
    Invalid,
    KeyReused,
    NotFound,
    Overloaded,
    RequestError,
    Rewound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreadable,
    Unsupported,
)
from softstate.server.http.arguments import VALUE, Text
from softstate.server.http.explanations import ClientExplained, TopicExplained
from softstate.server.http.parameters import READ_HEADERS, STREAM_HEADERS, WRITE_HEADERS
from softstate.server.http.replies import Event, Health, Status, Ticket, WhoAmI
from softstate.wire import CBOR, JSON
from softstate.wire.codec.events import EVENT_STREAM
from softstate.wire.messages import BatchResults, Polled, Published

BOTH_CODECS = (JSON.content_type, CBOR.content_type)

POSITION, LAG, LEVEL, HELD = "Softstate-Position", "Softstate-Lag-Ms", "Softstate-Level", "Softstate-Held-Ms"
ETAG, RETRY, CHALLENGE, LEFT = "ETag", "Retry-After", "WWW-Authenticate", "Softstate-Credentials-Ms"


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer that is no error: its body, `VALUE` for any value and None for none, and its headers.

    `always` are headers that it never lacks, `sometimes` others.
    """

    what: str
    body: Any = None
    media: tuple[str, ...] = BOTH_CODECS
    always: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """One operation: a sentence on it, its answers by status, its errors beside `ANY_REQUEST`, and its headers."""

    summary: str
    answers: Mapping[int, Answer]
    errors: tuple[tuple[int, type[RequestError]], ...] = ()
    headers: Mapping[str, Text] = field(default_factory=dict)


def errors(*kinds: type[RequestError]) -> tuple[tuple[int, type[RequestError]], ...]:
    """Return errors with the statuses that they have by themselves."""
    return tuple((kind.http_status, kind) for kind in kinds)


ANY_REQUEST: tuple[tuple[int, type[RequestError]], ...] = (
    *errors(Invalid, Denied, TooLarge, Unsupported, Overloaded, Unavailable),
    (408, Invalid),
    (431, TooLarge),
    (500, Unavailable),
    (501, Unsupported),
    (503, Overloaded),
    (505, Unsupported),
)
"""The errors that any request may get: at fault as HTTP, from where it must not come, or at a bad time."""

_V1 = (LEVEL,)
_READ = (LEVEL, POSITION, LAG)

GET_TOPIC = About(
    "The value of a topic, at once or once there is news.",
    {
        200: Answer("The value.", VALUE, always=(*_READ, ETAG), sometimes=(HELD, LEFT)),
        304: Answer("It is what the request says is known.", always=(*_READ, ETAG), sometimes=(HELD, LEFT)),
    },
    errors(NotFound, Conflict, Unreadable, Behind),
    READ_HEADERS,
)
_PUBLISHED = {200: Answer("It is durable.", Published, always=_READ, sometimes=(ETAG, LEFT))}
_WRITE_ERRORS = errors(Conflict, KeyReused)
PUT_TOPIC = About("Set a topic's value: the body.", _PUBLISHED, _WRITE_ERRORS, WRITE_HEADERS)
DELETE_TOPIC = About("Delete a topic.", _PUBLISHED, _WRITE_ERRORS, WRITE_HEADERS)
LIST_TOPICS = About(
    "The topics below a prefix, page by page.",
    {200: Answer("A page.", Polled, always=_READ, sometimes=(LEFT,))},
    errors(Compacted, Rewound, Behind),
)
POLL = About(
    "The changes of many topics and prefixes, at once or once there is one.",
    {200: Answer("A page of them; none if nothing has changed.", Polled, always=_READ, sometimes=(HELD, LEFT))},
    errors(NotFound, Compacted, Rewound, Behind),
)
STREAM = About(
    "A stream of events: the topics' values, then each change, with what certifies their age.",
    {
        200: Answer(
            "The stream, also if it only tells that it is over (P-SSE-7).",
            Event,
            (EVENT_STREAM,),
            always=_V1,
            sometimes=(POSITION, LAG, LEFT),
        )
    },
    errors(NotFound),
    STREAM_HEADERS,
)
PUBLISH = About(
    "Publish many changes, in order, each with a verdict of its own.",
    {200: Answer("The verdicts.", BatchResults, always=_READ, sometimes=(LEFT,))},
    errors(Denied),
)
TICKET = About(
    "A ticket that stands for the token of this request.",
    {200: Answer("The ticket.", Ticket, always=_V1, sometimes=(POSITION, LAG, LEFT))},
)
WHOAMI = About(
    "Whose the credentials of this request are, and what they allow.",
    {200: Answer("The identity.", WhoAmI, always=_V1, sometimes=(POSITION, LAG, LEFT))},
)
STATUS = About(
    "What this node holds, for people. It asks for the right `admin`.",
    {200: Answer("Counts and states.", Status, always=_V1, sometimes=(POSITION, LAG, LEFT))},
)
EXPLAIN = About(
    "What this node knows of a client's sessions, or of a topic, for people. It asks for the right `admin`.",
    {200: Answer("The explanation.", ClientExplained | TopicExplained, always=_V1, sometimes=(POSITION, LAG, LEFT))},
)
METRICS = About(
    "Counters for Prometheus. It asks for the right `admin`.",
    {200: Answer("Prometheus's text format.", media=(CONTENT_TYPE_PLAIN_0_0_4,))},
)
HEALTHZ = About("Whether the process lives. It asks for no credentials.", {200: Answer("It does.", Health)})
READYZ = About(
    "Whether clients should be sent here, else 503. It asks for no credentials.", {200: Answer("They should.", Health)}
)
OPENAPI = About(
    "This description. It asks for no credentials.",
    {200: Answer("An OpenAPI document.", dict, (JSON.content_type,), _V1)},
)

AUTHENTICATED = errors(Unauthenticated)
"""The errors that any request may get which asks for credentials."""
