"""Changes as server-sent events (HTML Living Standard, section 9.2): the third framing, beside CBOR and JSON (P-SSE).

An event is ``field: value`` lines and an empty one. JSON has no raw line ends, so that a change is one line of data.
"""

from __future__ import annotations

from softstate.errors import Unreadable
from softstate.model import Record
from softstate.wire.codec.json import _Json

EVENT_STREAM = "text/event-stream"
"""The media type of a stream (IANA)."""


class _Events(_Json):
    """Changes as whole events; `change` and `notify` are the same, since a stream knows no answers."""

    name = "events"
    content_type = EVENT_STREAM

    def change(self, record: Record) -> bytes:
        return b"data: %b\n\n" % super().change(record)

    def notify(self, record: Record) -> bytes:
        try:
            return self.change(record)
        except Unreadable:
            told = self.dumps({"topic": record.topic, "version": record.version, "unknown": True})
            return b"data: %b\n\n" % told

    def frame(self, data: bytes) -> bytes:
        return data


EVENTS = _Events()
