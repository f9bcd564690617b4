"""Changes on their way to many connections: encoded and framed once per codec, when the first subscriber needs it.

Streams of events are a codec here: their events are frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from softstate.model import Record
from softstate.wire.codec import CBOR, Codec
from softstate.wire.codec.events import EVENTS
from softstate.wire.websocket.frames import frame


class EncodedChange:
    """A committed record together with its finished `notify` frames (P-WIRE-2)."""

    __slots__ = ("_cbor", "_events", "_json", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._cbor: bytes | None = None
        self._json: bytes | None = None
        self._events: bytes | None = None

    def frame(self, codec: Codec) -> bytes:
        """Return the frame for every subscriber of this codec, byte for byte the same."""
        if codec is CBOR:
            if self._cbor is None:
                self._cbor = frame(codec.notify(self.record), text=False)
            return self._cbor
        if codec is EVENTS:
            if self._events is None:
                self._events = codec.notify(self.record)
            return self._events
        if self._json is None:
            self._json = frame(codec.notify(self.record), text=True)
        return self._json


class PushBatch:
    """Changes that the same connections are owed: at most one per topic, in order, and their frames joined.

    `cbor`, `json` and `events` are the joined frames, None until `frames` was called for that codec.
    """

    __slots__ = ("cbor", "changes", "events", "json")

    def __init__(self, changes: Sequence[EncodedChange]) -> None:
        self.changes = changes
        self.cbor: bytes | None = None
        self.json: bytes | None = None
        self.events: bytes | None = None

    def __len__(self) -> int:
        """Return how many changes it holds."""
        return len(self.changes)

    def frames(self, codec: Codec) -> bytes:
        """Return the frames of all changes, one after the other."""
        frames = [change.frame(codec) for change in self.changes]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if codec is CBOR:
            self.cbor = data
        elif codec is EVENTS:
            self.events = data
        else:
            self.json = data
        return data
