"""Frames of messages that go ahead of what waits; some of them all connections get at about the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from softstate.model import Record
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


def replay(outbox: Outbox, codec: Codec, records: Sequence[Record], encoded: Mapping[int, bytes]) -> None:
    """Queue records as pushes; some are encoded already, by their identity."""
    for record in records:
        outbox.notify(record.topic, codec.frame(encoded.get(id(record)) or codec.notify(record)))


@lru_cache(FRAMES_KEPT)
def frame_for_all(codec: Codec, message: Message) -> bytes:
    """Frame a message, once for each codec."""
    return frame(codec.encode(message), text=codec.text)
