"""Changes on their way to many connections: encoded and framed once for each codec, whoever asks first."""

from __future__ import annotations

from collections.abc import Sequence

from softstate.model import Record
from softstate.wire.codec import CBOR, Codec
from softstate.wire.frames import frame


class EncodedChange:
    """A committed record together with its finished `notify` frames."""

    __slots__ = ("_cbor", "_json", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._cbor: bytes | None = None
        self._json: bytes | None = None

    def frame(self, codec: Codec) -> bytes:
        """Return the frame that every subscriber of this codec is sent, byte for byte the same."""
        if codec is CBOR:
            if self._cbor is None:
                self._cbor = frame(codec.notify(self.record), text=False)
            return self._cbor
        if self._json is None:
            self._json = frame(codec.notify(self.record), text=True)
        return self._json


class PushBatch:
    """What many connections are owed at once: one notice a topic, in order, and their frames in one piece.

    `cbor` and `json` are those pieces, None until `frames` was asked for them first.
    """

    __slots__ = ("cbor", "json", "notices")

    def __init__(self, notices: Sequence[EncodedChange]) -> None:
        self.notices = notices
        self.cbor: bytes | None = None
        self.json: bytes | None = None

    def __len__(self) -> int:
        """Return how many notices it holds."""
        return len(self.notices)

    def frames(self, codec: Codec) -> bytes:
        """Return the frames of all notices, one after the other."""
        frames = [notice.frame(codec) for notice in self.notices]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if codec is CBOR:
            self.cbor = data
        else:
            self.json = data
        return data
