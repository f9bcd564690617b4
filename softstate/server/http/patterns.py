"""The forms of names and validators as regular expressions, for the description of the HTTP requests.

What a node accepts is decided by the functions that each one cites; tests hold both together. JSON Schema counts
characters, so that the length of a topic in bytes of UTF-8 is said in words beside these.
"""

from __future__ import annotations

_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_SEGMENT = rf"(?:[^./{_CONTROL}]|\.[^./{_CONTROL}]|\.\.[^/{_CONTROL}])[^/{_CONTROL}]*"
"""One segment of a topic: it is neither ``.`` nor ``..``."""

_TOPIC = rf"{_SEGMENT}(?:/{_SEGMENT})*"
_HISTORY = r"[^.]+\.[^.]+"
"""The epoch and the lineage of a position."""

_REVISION = r"(?:0|[1-9][0-9]{0,15})"

TOPIC = rf"^{_TOPIC}$"
"""See `softstate.names.check_topic`."""

PREFIX = rf"^(?:/|{_TOPIC}/)$"
"""See `softstate.names.check_prefix`."""

POSITION = rf"^{_HISTORY}\.{_REVISION}$"
"""As `softstate.position.Position` is written."""

EVENT_ID = rf"^{_HISTORY}\.[1-9][0-9]{{0,15}}$"
"""The position that the ``id`` of an event is: above revision 0."""

EVENT_ID_OR_NONE = rf"^(?:{EVENT_ID[1:-1]})?$"
"""The same, or nothing: the `id` of a `reset`."""

TAG = rf'^"{_HISTORY}\.{_REVISION}\+(?:json|cbor)"$'
"""As `softstate.server.http.validators.etag` writes one."""

TAGS = r'^(?:\*|(?:W/)?"[^"]*"(?:, ?(?:W/)?"[^"]*")*)$'
"""See `softstate.server.http.validators.parse_tags`, which takes more blanks."""

ANY_OR_TAG = rf'^(?:\*|"{_HISTORY}\.[0-9]{{1,16}}(?:\+(?:json|cbor))?")$'
"""See `softstate.server.http.validators.parse_strong`."""

CURSOR = (
    r"^[0-9a-f]{1,14}-(?:[0-9a-f]{1,14})?-[A-Za-z0-9_-]{8}-[A-Za-z0-9_-]{8}"
    rf"\.{_HISTORY}\.[0-9a-f]{{1,14}}$"
)
"""See `softstate.server.http.validators.Cursor`."""

TICKET = r"^tkt_[A-Za-z0-9_-]{43}$"
"""See `softstate.auth.tickets.ticket_of`."""

KEY = r"^[ -~]{1,128}$"
"""An idempotency key in a header: printable ASCII."""

BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
"""Bytes in JSON: standard base64."""
