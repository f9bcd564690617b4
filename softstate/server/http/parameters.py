"""The parameters of each request, in its query string and in its headers: type, limits, form and meaning."""

from __future__ import annotations

from collections.abc import Mapping

from softstate.auth.tickets import TICKET_CHARS_MAX
from softstate.model import PAGE_RECORDS_MAX
from softstate.names import ALL, TOPIC_BYTES_MAX
from softstate.server.http import patterns
from softstate.server.http.arguments import Number, Parameters, Text, Texts
from softstate.wire.messages import KEY_CHARS_MAX, NAME_CHARS_MAX

CURSOR_CHARS_MAX = 128
"""Longest cursor; a node's own have at most 124."""

POSITION_CHARS_MAX = 128
"""Longest position as text; a node's own have at most 70."""

HEADER_CHARS_MAX = 4_096
"""Longest header of a condition, as it is described; a node holds the whole head to its limit."""

TICKET = "ticket"
"""The parameter of a stream that presents a ticket."""

_AT_LEAST = Number(what="Answer from this revision on; waited for up to `timeout_ms`, then `behind` (P-HTTP-6).")
_EXPECT = Number(what="Only if the topic is at this version; 0: only if it has no value.")
_SINCE = Text(
    POSITION_CHARS_MAX, "Go on from here: the `id` of an event of a stream (P-SSE-1).", patterns.EVENT_ID
)  # fmt: skip

PATH_TOPIC = Text(
    TOPIC_BYTES_MAX,
    "The topic, at most 255 bytes of UTF-8, percent-encoded; its `/` may stand as they are.",
    patterns.TOPIC,
)

READ: Parameters = {
    "wait_ms": Number(what="Hold the answer for so long while there is no news; 25 s at most by default (P-HTTP-4)."),
    "at_least": _AT_LEAST,
}
WRITE: Parameters = {"expect": _EXPECT}
LIST: Parameters = {
    "prefix": Text(TOPIC_BYTES_MAX + 1, "The topics below this prefix.", patterns.PREFIX, ALL),
    "since": Number(what="Only what changed after this revision; 0: all that there is.", default=0),
    "limit": Number(1, PAGE_RECORDS_MAX, "Most topics of a page.", PAGE_RECORDS_MAX),
    "cursor": Text(CURSOR_CHARS_MAX, "The next page, as the page before named it (P-HTTP-7).", patterns.CURSOR),
    "at_least": _AT_LEAST,
}
STREAM: Parameters = {
    "topic": Texts(TOPIC_BYTES_MAX, "A topic to follow; may be repeated.", patterns.TOPIC),
    "prefix": Texts(TOPIC_BYTES_MAX + 1, "A prefix to follow; may be repeated.", patterns.PREFIX),
    TICKET: Text(TICKET_CHARS_MAX, "Stands for a token, once (P-AUTH-14).", patterns.TICKET),
    "since": _SINCE,
}
STREAM_BY_BODY: Parameters = {"since": _SINCE}

EXPLAIN: Parameters = {
    "client": Text(NAME_CHARS_MAX, "The name that a client has given itself; this, or `topic`."),
    "topic": Text(TOPIC_BYTES_MAX, "The topic to explain.", patterns.TOPIC),
}

_IF_NONE_MATCH = Text(
    HEADER_CHARS_MAX, "304 if the topic is at one of these tags; with `wait_ms`, held so long.", patterns.TAGS
)  # fmt: skip
_IF_MATCH = Text(HEADER_CHARS_MAX, "412 unless the topic is at one of these tags.", patterns.TAGS)

READ_HEADERS: Mapping[str, Text] = {"If-None-Match": _IF_NONE_MATCH, "If-Match": _IF_MATCH}
WRITE_HEADERS: Mapping[str, Text] = {
    "If-Match": Text(
        HEADER_CHARS_MAX,
        "Only at the version of this tag; `*`: only if it has a value. Not beside `expect` or `If-None-Match`.",
        patterns.ANY_OR_TAG,
    ),
    "If-None-Match": Text(1, "`*`: only if it has no value.", r"^\*$"),
    "Idempotency-Key": Text(KEY_CHARS_MAX, "Makes it safe to repeat the request (P-PUB-4).", patterns.KEY),
}
STREAM_HEADERS: Mapping[str, Text] = {
    "Last-Event-ID": Text(
        POSITION_CHARS_MAX, "Go on from here, ahead of `since`; empty: from none.", patterns.EVENT_ID_OR_NONE
    )
}
