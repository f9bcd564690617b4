"""One change on its way to many connections: encoded and framed once for each codec, whoever asks first."""

from __future__ import annotations

from softstate.model import Record
from softstate.wire.codec import CBOR, Codec
from softstate.wire.frames import frame


class Notice:
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
