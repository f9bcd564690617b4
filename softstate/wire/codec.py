"""The two codecs: messages to bytes and back.

Both refuse, with `Invalid`, everything but exactly one well-formed message (P-WIRE-1): trailing bytes, non-text keys,
nesting that would exhaust the stack; in CBOR also duplicate keys, indefinite lengths and every tag (P-WIRE-4). cbor2
would decode tags eagerly (tag 35 compiles a regular expression that the peer chose) and ignores trailing bytes, so both
are dealt with here. Of duplicate JSON keys the last one counts, as RFC 8259 section 4 allows: finding them would cost a
second pass (P-WIRE-5).

A message's `value` is whatever the syntax can carry (CBOR: undefined, NaN; JSON: long integers, deep nesting): before
use it goes through `check_value`, which refuses the rest by the rules of values.

Records are embedded into messages as stored, without decoding: a change is encoded once, not once per reader.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast, get_args

import cbor2
import msgspec

from softstate.errors import Invalid, Unsupported
from softstate.model import Change, Record, Value
from softstate.position import Position
from softstate.wire.messages import (
    PROTOCOL_CBOR,
    PROTOCOL_JSON,
    Batch,
    BatchChange,
    ClientMessage,
    Message,
    Notify,
    PollAdvice,
    Polled,
    Publish,
    RecoverAdvice,
    Renewed,
    ServerMessage,
    Subscribed,
)
from softstate.wire.value import VALUE_DEPTH_MAX, json_of, unwrap_bytes, wrap_bytes

T = TypeVar("T")

MESSAGE_DEPTH_MAX = VALUE_DEPTH_MAX + 8
"""Deepest nesting of a whole CBOR message: a value inside `changes` inside the map that is the message.

JSON text is bounded by the interpreter's recursion limit instead, until `check_value` applies its own.
"""

ECHO_CHARS_MAX = 256
"""How much of an error's message a peer gets back that put its own text into it."""

RENEWED_KEPT = 64
"""How many forms of `renewed` are remembered as bytes; at one moment there are few."""

_CARRIES_CHANGES = (Subscribed, Polled)
_BUILTIN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


class _Kinds:
    """The messages that one side may send: `union` is all of them, `by_op` each by its tag.

    What a union is, msgspec works out anew for each message, which takes 8 of the 12 us of decoding a `renew`
    (timeit). What a struct is, it remembers, and so does a decoder.
    """

    def __init__(self, union: Any) -> None:
        self.union = union
        self.by_op: Mapping[object, Any] = {kind.__struct_config__.tag: kind for kind in get_args(union)}
        self.json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union)


_FROM_CLIENTS = _Kinds(ClientMessage)
_FROM_SERVERS = _Kinds(ServerMessage)


class Codec(ABC):
    """One way of writing messages. There are two, `CBOR` and `JSON`; both are stateless."""

    name: str
    protocol: str
    """The WebSocket subprotocol that selects this codec."""
    content_type: str
    text: bool
    """Whether messages travel in text frames."""

    @abstractmethod
    def dumps(self, obj: Any) -> bytes:
        """Encode a struct, or a builtin object made of what values are made of, as one item."""

    @abstractmethod
    def loads(self, data: bytes | str, kind: type[T]) -> T:
        """Decode one item of type `kind`. Raises `Invalid`, naming the field where there is one."""

    @abstractmethod
    def value(self, cbor: bytes) -> bytes:
        """Return a stored value in this codec."""

    @abstractmethod
    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        """Add one entry to an encoded map that holds fewer than 23."""

    @abstractmethod
    def _array(self, items: Sequence[bytes]) -> bytes:
        """Make an array of encoded items."""

    def encode(self, message: Message, records: Sequence[Record] = ()) -> bytes:
        """Encode a message; `records` become its `changes`."""
        data = self.dumps(message)
        if isinstance(message, _CARRIES_CHANGES) and not message.changes:
            return self._with(data, "changes", self._array([self.change(record) for record in records]))
        return data

    def change(self, record: Record) -> bytes:
        """Encode a record as a change."""
        return self._state({"topic": record.topic, "version": record.version}, record)

    def notify(self, record: Record) -> bytes:
        """Encode a record as a `notify` message."""
        return self._state({"op": "notify", "topic": record.topic, "version": record.version}, record)

    def _state(self, head: dict[str, Any], record: Record) -> bytes:
        if record.cbor is None:
            head["deleted"] = True
            return self.dumps(head)
        return self._with(self.dumps(head), "value", self.value(record.cbor))

    def client_message(self, data: bytes | str) -> ClientMessage:
        """Decode what a client sent. Raises `Invalid`; `Unsupported` for an unknown `op`.

        `str` is what came in a text frame, `bytes` in a binary one. JSON reads both (HTTP bodies are bytes); CBOR
        refuses text.
        """
        message = self._message(data, _FROM_CLIENTS)
        if isinstance(message, Publish):
            return _publish(message)
        return message  # type: ignore[no-any-return]

    def server_message(self, data: bytes | str) -> ServerMessage:
        """Decode what a node sent. Raises `Invalid`; `Unsupported` for an unknown `op`."""
        message = self._message(data, _FROM_SERVERS)
        if isinstance(message, Notify):
            return _notify(message)
        return message  # type: ignore[no-any-return]

    @abstractmethod
    def _one_of(self, data: bytes | str, kinds: _Kinds) -> Any:
        """Decode one item of the kind that its `op` names. Raises as `loads` does."""

    def _message(self, data: bytes | str, kinds: _Kinds) -> Any:
        try:
            return self._one_of(data, kinds)
        except Invalid as error:
            if error.message.endswith("`$.op`") and "Invalid value" in error.message:
                raise Unsupported(f"unknown op: {error.message}") from None
            raise


def _publish(message: Publish) -> Publish:
    if message.deleted == (message.value is not msgspec.UNSET):
        raise Invalid("publish needs either value or deleted: true, and not both")
    return message


def _notify(message: Notify) -> Notify:
    if (message.value is not msgspec.UNSET) + message.deleted + message.unknown != 1:
        raise Invalid("notify needs one of value, deleted: true and unknown: true, and no more")
    return message


def check_batch(batch: Batch) -> Batch:
    """Refuse a batch in which a change has neither or both of `value` and `deleted`."""
    for index, change in enumerate(batch.changes):
        if change.deleted == (change.value is not msgspec.UNSET):
            raise Invalid(f"changes[{index}] needs either value or deleted: true, and not both")
    return batch


class _Cbor(Codec):
    name = "cbor"
    protocol = PROTOCOL_CBOR
    content_type = "application/cbor"
    text = False

    def dumps(self, obj: Any) -> bytes:
        return cbor2.dumps(msgspec.to_builtins(obj, builtin_types=(bytes,)))

    def loads(self, data: bytes | str, kind: type[T]) -> T:
        return cast("T", _convert(self._item(data), kind))

    def _one_of(self, data: bytes | str, kinds: _Kinds) -> Any:
        item = self._item(data)
        op = item.get("op") if type(item) is dict else None
        return _convert(item, kinds.by_op.get(op, kinds.union) if type(op) is str else kinds.union)

    def _item(self, data: bytes | str) -> Any:
        if isinstance(data, str):
            raise Invalid("this connection speaks CBOR: send binary messages")
        # cbor2 ignores what follows the first item. As the first of an array of two, followed by a guard that the
        # peer cannot know, the item must end exactly where its data ends.
        guard = os.urandom(8)
        try:
            items = cbor2.loads(
                b"\x82" + data + b"\x48" + guard,
                max_depth=MESSAGE_DEPTH_MAX + 1,
                allow_indefinite=False,
                allow_duplicate_keys=False,
                strict_hashable_types=True,
                semantic_decoders=_NO_TAGS,
                tag_hook=_no_tag,
            )
        except cbor2.CBORDecodeError as error:
            raise Invalid(f"not one well-formed CBOR item of plain types: {_cause(error)}") from None
        if items[1] != guard:
            raise Invalid("not one well-formed CBOR item: more bytes follow it")
        return items[0]

    def encode(self, message: Message, records: Sequence[Record] = ()) -> bytes:
        if type(message) is Renewed:
            return _renewed(message)
        return super().encode(message, records)

    def value(self, cbor: bytes) -> bytes:
        return cbor

    # A page of fifty changes is fifty of these: written by hand, each takes 1.0 us instead of 3.5 (timeit). That made
    # 160 us of the 900 of polling them (`bench polls`).
    def change(self, record: Record) -> bytes:
        return b"\xa3" + _state(record)

    def notify(self, record: Record) -> bytes:
        return b"\xa4\x62op\x66notify" + _state(record)

    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        return bytes((head[0] + 1,)) + head[1:] + cbor2.dumps(key) + item

    def _array(self, items: Sequence[bytes]) -> bytes:
        size = len(items)
        head = bytes((0x80 | size,)) if size < 24 else b"\x9a" + size.to_bytes(4, "big")
        return head + b"".join(items)


def _renewed(message: Renewed) -> bytes:
    """Encode a `renewed`. The others of its moment differ by `id` and `sent`: 3 us instead of 7.5 (timeit)."""
    before, between, behind = _renewed_around(
        message.match, message.position, message.ttl_ms, message.renew_ms,
        message.poll, message.recover, message.store, message.lag_ms,
    )  # fmt: skip
    number = message.id
    return (
        before
        + (_head(0, number) if type(number) is int else cbor2.dumps(number))
        + between
        + _head(0, message.sent)
        + behind
    )


@lru_cache(RENEWED_KEPT)
def _renewed_around(
    match: bool, position: Position, ttl_ms: int, renew_ms: int, poll: PollAdvice, recover: RecoverAdvice,
    store: Literal["ok", "down"], lag_ms: int,
) -> tuple[bytes, bytes, bytes]:  # fmt: skip
    """Encode a `renewed` but for its `id` and its `sent`, which come before, and behind, all that is anybody's text."""
    data = CBOR.dumps(Renewed(0, match, position, 0, ttl_ms, renew_ms, poll, recover, store, lag_ms))
    before, key, rest = data.partition(b"\x62id\x00")
    between, sent, behind = rest.rpartition(b"\x64sent\x00")
    return before + key[:-1], between + sent[:-1], behind


def _state(record: Record) -> bytes:
    """Write the three entries of a CBOR map that tell a topic's state."""
    topic = record.topic.encode()
    state = b"\x67deleted\xf5" if record.cbor is None else b"\x65value" + record.cbor
    return b"\x65topic%b%b\x67version%b%b" % (_head(0x60, len(topic)), topic, _head(0, record.version), state)


def _head(major: int, argument: int) -> bytes:
    """Write what a CBOR item begins with: its major type, shifted, and its argument in the fewest bytes."""
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x1_0000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x1_0000_0000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


def _convert(item: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise Invalid(_brief(str(error))) from None


def _brief(message: str) -> str:
    """Leave out the middle of a message that quotes much of its input; where the fault is, stands at its end."""
    if len(message) <= ECHO_CHARS_MAX:
        return message
    return f"{message[: ECHO_CHARS_MAX // 2]} … {message[-ECHO_CHARS_MAX // 2 :]}"


def _cause(error: BaseException) -> str:
    return f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)


def _no_tag(_decoder: object, _tag: object = None) -> Any:
    raise cbor2.CBORDecodeError("CBOR tags are not accepted")


_NO_TAGS: Any = dict.fromkeys(_BUILTIN_TAGS, _no_tag)


class _Json(Codec):
    name = "json"
    protocol = PROTOCOL_JSON
    content_type = "application/json"
    text = True

    def dumps(self, obj: Any) -> bytes:
        return msgspec.json.encode(_map_values(obj, wrap_bytes) if isinstance(obj, msgspec.Struct) else obj)

    def loads(self, data: bytes | str, kind: type[T]) -> T:
        return cast("T", self._decoded(data, lambda text: msgspec.json.decode(text, type=kind)))

    def _one_of(self, data: bytes | str, kinds: _Kinds) -> Any:
        return self._decoded(data, kinds.json.decode)

    def _decoded(self, data: bytes | str, decode: Callable[[str], Any]) -> Any:
        if not isinstance(data, str):
            try:
                data = data.decode()
            except UnicodeDecodeError as error:
                raise Invalid(f"not UTF-8: {error}") from None
        try:
            item = decode(data)
        except msgspec.ValidationError as error:
            raise Invalid(_brief(str(error))) from None
        except msgspec.DecodeError as error:
            raise Invalid(f"not one well-formed JSON text: {error}") from None
        except RecursionError:
            raise Invalid(f"nested too deep (a value may have {VALUE_DEPTH_MAX} levels)") from None
        except UnicodeEncodeError as error:
            raise Invalid(f"not valid Unicode: {error}") from None
        return _map_values(item, unwrap_bytes) if '"$bytes"' in data or "\\u" in data else item

    def value(self, cbor: bytes) -> bytes:
        return json_of(cbor)

    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        return head[:-1] + b',"' + key.encode() + b'":' + item + b"}"

    def _array(self, items: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(items) + b"]"


def _map_values(item: Any, convert: Callable[[Value], Value]) -> Any:
    if isinstance(item, Publish | Notify | Change | BatchChange):
        return msgspec.structs.replace(item, value=convert(item.value))
    if isinstance(item, Subscribed | Polled | Batch):
        return msgspec.structs.replace(item, changes=[_map_values(change, convert) for change in item.changes])
    if isinstance(item, msgspec.Struct):
        return item
    return convert(item)


CBOR: Codec = _Cbor()
JSON: Codec = _Json()

CODECS = {codec.protocol: codec for codec in (CBOR, JSON)}
"""The codec for each WebSocket subprotocol, the preferred one first."""


def encode_value_for(codec: Codec, value: Value) -> bytes:
    """Encode a value that was checked, as the whole body of a request."""
    return codec.dumps(wrap_bytes(value) if codec is JSON else value)
