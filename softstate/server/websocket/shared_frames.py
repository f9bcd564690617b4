"""Frames of messages that go ahead of what waits; some of them all connections get at about the same time."""

from __future__ import annotations

from functools import lru_cache

from softstate.server.fanout.outbox import Outbox
from softstate.session import SendAhead, SendFirst
from softstate.wire import Codec, frame
from softstate.wire.messages import Message

FRAMES_KEPT = 8
"""Different frames that are remembered: of the last few lineage rows and farewells, in each codec."""


def send_ahead(outbox: Outbox, codec: Codec, effect: SendFirst | SendAhead) -> None:
    """Queue a message ahead of what waits."""
    if isinstance(effect, SendFirst):
        outbox.first(frame_for_all(codec, effect.message))
    else:
        outbox.ahead(frame(codec.encode(effect.message), text=codec.text))


@lru_cache(FRAMES_KEPT)
def frame_for_all(codec: Codec, message: Message) -> bytes:
    """Frame a message, once for each codec."""
    return frame(codec.encode(message), text=codec.text)
