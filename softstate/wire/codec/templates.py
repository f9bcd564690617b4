"""The messages that a node sends most, in CBOR, from bytes that are kept: what differs is written between them.

Equal, byte for byte, to what the general encoder makes of them. That takes 13 us for a `welcome`, 8 for a `subscribed`
and 6 for a `published`, most of it for fields that are the same for all clients at one moment; from templates 2, 5 and
3 (process time). In JSON, whose encoder is written in C, there is little to gain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import cbor2
import msgspec
from msgspec import UnsetType

from softstate.model import Durability
from softstate.position import Position
from softstate.wire.messages import (
    Id,
    Limits,
    Message,
    PollAdvice,
    Published,
    RecoverAdvice,
    Renewed,
    Subscribed,
    Welcome,
)

KEPT = 64
"""Forms of a message that are kept: at one moment there are few."""


def dumps(obj: Any) -> bytes:
    """Encode a struct, or an object made of the types that values are made of."""
    return cbor2.dumps(msgspec.to_builtins(obj, builtin_types=(bytes,)))


def head(major: int, argument: int) -> bytes:
    """Write the head of a CBOR item: its major type, shifted, and its argument in the fewest bytes."""
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x1_0000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x1_0000_0000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


def encode(message: Message) -> bytes:
    """Encode a message, without the changes that it may carry."""
    kind = type(message)
    if kind is Renewed:
        return _renewed(message)  # type: ignore[arg-type]
    if kind is Subscribed:
        return _subscribed(message)  # type: ignore[arg-type]
    if kind is Published:
        return _published(message)  # type: ignore[arg-type]
    if kind is Welcome:
        return _welcome(message)  # type: ignore[arg-type]
    return dumps(message)


def _id(number: Id) -> bytes:
    return head(0, number) if type(number) is int else cbor2.dumps(number)


def _text(text: str) -> bytes:
    data = text.encode()
    return head(0x60, len(data)) + data


@lru_cache(KEPT)
def _history(epoch: str, lineage: str) -> bytes:
    """Encode a position up to its revision."""
    return dumps(Position(epoch, lineage, 0))[:-1]


def _published(message: Published) -> bytes:
    position = message.position
    return b"%b\x62op\x69published\x62id%b\x65topic%b\x67version%b\x68position%b%b%b" % (
        b"\xa6" if message.repeated else b"\xa5",
        _id(message.id),
        _text(message.topic),
        head(0, message.version),
        _history(position.epoch, position.lineage),
        head(0, position.revision),
        b"\x68repeated\xf5" if message.repeated else b"",
    )


def _subscribed(message: Subscribed) -> bytes:
    if message.changes or message.compacted or message.denied or message.unreadable or message.narrow:
        return dumps(message)
    fields = 3
    rest = b""
    if message.more:
        fields += 1
        rest = b"\x64more\xf5"
    if message.digest:
        fields += 1
        rest += b"\x66digest" + _text(message.digest)
    if message.count:
        fields += 1
        rest += b"\x65count" + head(0, message.count)
    if message.lag_ms:
        fields += 1
        rest += b"\x66lag_ms" + head(0, message.lag_ms)
    if message.clock_ms is not None:
        fields += 1
        rest += b"\x68clock_ms" + head(0, message.clock_ms)
    position = message.position
    return b"%b\x62op\x6asubscribed\x62id%b\x68position%b%b%b" % (
        head(0xA0, fields),
        _id(message.id),
        _history(position.epoch, position.lineage),
        head(0, position.revision),
        rest,
    )


def _welcome(message: Welcome) -> bytes:
    position = message.position
    before, between, behind = _welcome_around(
        position.epoch, position.lineage, message.resumed, message.node, message.ttl_ms, message.renew_ms,
        message.timeout_ms, message.poll, message.recover, message.limits, message.durability, message.reset,
        message.level, message.beat_ms, message.clock_ms is not None,
        (message.credentials_ms is not None) + (message.subject is not None),
    )  # fmt: skip
    clock = head(0, message.clock_ms) if message.clock_ms is not None else b""
    identity = _credentials(message.credentials_ms)
    if message.subject is not None:
        identity += b"\x67subject" + _text(message.subject)
    return before + _text(message.session) + between + head(0, position.revision) + behind + clock + identity


def _credentials(credentials_ms: int | None) -> bytes:
    return b"" if credentials_ms is None else b"\x6ecredentials_ms" + head(0, credentials_ms)


@lru_cache(KEPT)
def _welcome_around(
    epoch: str, lineage: str, resumed: bool, node: str, ttl_ms: int, renew_ms: int, timeout_ms: int, poll: PollAdvice,
    recover: RecoverAdvice, limits: Limits, durability: Durability, reset: bool | UnsetType, level: int, beat_ms: int,
    clocked: bool, more: int,
) -> tuple[bytes, bytes, bytes]:  # fmt: skip
    """Encode the parts of a `welcome` before its `session`, between that and its revision, and behind it, to the clock.

    `more` fields follow: they are counted, and not written.

    No text comes before `session`, and none of a peer's or a store's behind the position, so neither is mistaken.
    """
    position = Position(epoch, lineage, 0)
    data = dumps(
        Welcome(
            "", resumed, node, position, ttl_ms, renew_ms, timeout_ms, poll, recover, limits, durability, reset, level,
            beat_ms, 0 if clocked else None,
        )
    )  # fmt: skip
    before, key, rest = data[1:].partition(b"\x67session\x60")
    between, revision, behind = rest.rpartition(_history(epoch, lineage) + b"\x00")
    before = head(0xA0, (data[0] & 0x1F) + more) + before
    return before + key[:-1], between + revision[:-1], behind[:-1] if clocked else behind


def _renewed(message: Renewed) -> bytes:
    lag = b"\x66lag_ms" + head(0, message.lag_ms) if message.lag_ms else b""
    beat = b"\x67beat_ms" + head(0, message.beat_ms) if message.beat_ms else b""
    clock = b"\x68clock_ms" + head(0, message.clock_ms) if message.clock_ms is not None else b""
    credentials = _credentials(message.credentials_ms)
    before, between, behind = _renewed_around(
        message.match, message.position, message.ttl_ms, message.renew_ms,
        message.poll, message.recover, message.store, bool(lag) + bool(beat) + bool(clock) + bool(credentials),
    )  # fmt: skip
    return b"".join((before, _id(message.id), between, head(0, message.sent), behind, lag, beat, clock, credentials))


@lru_cache(KEPT)
def _renewed_around(
    match: bool, position: Position, ttl_ms: int, renew_ms: int, poll: PollAdvice, recover: RecoverAdvice,
    store: Literal["ok", "down"], more: int,
) -> tuple[bytes, bytes, bytes]:  # fmt: skip
    """Encode the parts of a `renewed` before its `id`, between that and its `sent`, and behind it, up to `lag_ms`.

    `more` fields follow from there on: they are counted, and not written.

    Every text that is not ours comes behind `id` and before `sent`, so neither key is mistaken.
    """
    data = dumps(Renewed(0, match, position, 0, ttl_ms, renew_ms, poll, recover, store))
    before, key, rest = data[1:].partition(b"\x62id\x00")
    between, sent, behind = rest.rpartition(b"\x64sent\x00")
    return head(0xA0, (data[0] & 0x1F) + more) + before + key[:-1], between + sent[:-1], behind
