"""Frames of messages that all connections get at about the same time."""

from __future__ import annotations

from functools import lru_cache

from softstate.wire import Codec, frame
from softstate.wire.messages import Message

FRAMES_KEPT = 8
"""Different frames that are remembered: of the last few lineage rows and farewells, in each codec."""


@lru_cache(FRAMES_KEPT)
def frame_for_all(codec: Codec, message: Message) -> bytes:
    """Frame a message, once for each codec."""
    return frame(codec.encode(message), text=codec.text)
