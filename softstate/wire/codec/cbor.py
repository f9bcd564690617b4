"""CBOR (RFC 8949), as `softstate.v1.cbor` and ``application/cbor`` have it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import cbor2
import msgspec

from softstate.errors import Invalid, Unreadable
from softstate.model import Record, Value
from softstate.wire.codec.base import Codec, MessageKinds, brief, damaged
from softstate.wire.codec.items import MORE_FOLLOWS, SCALAR_BYTES_MAX, Count, cbor_exceeds, cbor_fields
from softstate.wire.codec.templates import dumps, encode, head
from softstate.wire.messages import PROTOCOL_CBOR, Message
from softstate.wire.value import NO_TAGS, VALUE_DEPTH_MAX, cbor_of, refuse_tag

T = TypeVar("T")

MESSAGE_DEPTH_MAX = VALUE_DEPTH_MAX + 8
"""Deepest nesting of a whole message: a value inside `changes` inside the map that is the message."""


class _Cbor(Codec):
    """Binary messages. Refuses tags, indefinite lengths, duplicate keys and keys that are not text (P-WIRE-4)."""

    name = "cbor"
    protocol = PROTOCOL_CBOR
    content_type = "application/cbor"
    text = False

    def dumps(self, obj: Any) -> bytes:
        return dumps(obj)

    def number(self, number: int) -> bytes:
        return head(0, number)

    def loads(self, data: bytes | str, kind: type[T]) -> T:
        return cast("T", _convert(self._item(data), kind))

    def loads_syntax(self, data: bytes | str, kind: type[T]) -> T:
        return self.loads(data, kind)

    def plain(self, value: Value) -> Value:
        return value

    def _exceeds(self, data: bytes | str, items_max: int) -> Count:
        return (yield from cbor_exceeds(data, items_max)) if isinstance(data, bytes) else False

    def _op_and_id(self, data: bytes | str) -> tuple[object, object]:
        fields = cbor_fields(data) if isinstance(data, bytes) else {}
        return self._scalar(fields.get(b"\x62op")), self._scalar(fields.get(b"\x62id"))

    def _scalar(self, item: bytes | None) -> object:
        try:
            return None if item is None or len(item) > SCALAR_BYTES_MAX else self._item(item)
        except Invalid:
            return None

    def _one_of(self, data: bytes | str, kinds: MessageKinds) -> Any:
        item = self._item(data)
        op = item.get("op") if type(item) is dict else None
        return _convert(item, kinds.by_op.get(op, kinds.union) if type(op) is str else kinds.union)

    def _item(self, data: bytes | str) -> Any:
        if isinstance(data, str):
            raise Invalid("this connection speaks CBOR: send binary messages")
        # cbor2 ignores what follows the first item. As the first of an array of two, followed by a guard that the
        # peer cannot know, the item must end exactly where its data ends. Each message has another: the text of
        # an error may tell a peer some of it.
        guard = os.urandom(8)
        try:
            items = cbor2.loads(
                b"\x82" + data + b"\x48" + guard,
                max_depth=MESSAGE_DEPTH_MAX + 1,
                allow_indefinite=False,
                allow_duplicate_keys=False,
                strict_hashable_types=True,
                semantic_decoders=NO_TAGS,
                tag_hook=refuse_tag,
            )
        except cbor2.CBORDecodeError as error:
            raise Invalid(brief(f"not one well-formed CBOR item of plain types: {_cause(error)}")) from None
        if items[1] != guard:
            raise Invalid(MORE_FOLLOWS)
        return items[0]

    def message(self, message: Message) -> bytes:
        return encode(message)

    def value(self, cbor: bytes) -> bytes:
        return cbor_of(cbor)

    # A page of fifty changes is fifty of these: written by hand, each takes 1.0 us instead of 3.5 (timeit). That made
    # 160 us of the 900 of polling them (`bench polls`).
    def change(self, record: Record) -> bytes:
        return b"\xa3" + _state(record)

    def notify(self, record: Record) -> bytes:
        try:
            return b"\xa4\x62op\x66notify" + _state(record)
        except Unreadable:
            return self._unknown(record)

    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        return bytes((head[0] + 1,)) + head[1:] + cbor2.dumps(key) + item

    def _array(self, items: Sequence[bytes]) -> bytes:
        size = len(items)
        head = bytes((0x80 | size,)) if size < 24 else b"\x9a" + size.to_bytes(4, "big")
        return head + b"".join(items)


def _state(record: Record) -> bytes:
    """Write the three entries of a CBOR map that tell a topic's state."""
    topic = record.topic.encode()
    if record.cbor is not None:
        state = b"\x65value" + cbor_of(record.cbor)
    elif record.unreadable:
        raise damaged(record)
    else:
        state = b"\x67deleted\xf5"
    return b"\x65topic%b%b\x67version%b%b" % (head(0x60, len(topic)), topic, head(0, record.version), state)


def _convert(item: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise Invalid(brief(str(error))) from None


def _cause(error: BaseException) -> str:
    return f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)


CBOR: Codec = _Cbor()
