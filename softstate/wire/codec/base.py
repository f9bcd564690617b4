"""A codec's common part: which messages there are, and how a change is embedded as it is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec

from softstate.errors import Invalid, TooLarge, Unreadable, Unsupported
from softstate.model import Record, SharedRecords, Value
from softstate.position import Position
from softstate.wire.codec.items import Count
from softstate.wire.messages import (
    Auth,
    Batch,
    ClientMessage,
    Id,
    Message,
    Notify,
    Poll,
    Polled,
    Publish,
    Renew,
    ServerMessage,
    Subscribe,
    Subscribed,
)
from softstate.wire.value import read_float
from softstate.wire.websocket.frames import frame

T = TypeVar("T")

ECHO_CHARS_MAX = 256
"""Longest error message that quotes what a peer sent."""

NOTHING_ENCODED: Mapping[int, bytes] = {}

DAMAGED = b""
"""Stands for the change of a record that is damaged."""

_CARRIES_CHANGES = (Subscribed, Polled)

_ANSWERED = {kind.__struct_config__.tag for kind in (Subscribe, Renew, Poll, Publish, Auth)}
"""The ops of clients that have an id, by which they are answered."""


def damaged(record: Record, position: Position | None = None) -> Unreadable:
    """Return the error for a record whose stored row is damaged, as a read at `position` found it."""
    message = f"the stored record of {record.topic!r} is damaged: publish it again, or restore a backup"
    return Unreadable(message, position=position)


class MessageKinds:
    """The messages that one side may send: `union` is all of them, `by_op` each by its tag.

    `whole`: their values are decoded with them, to what they mean.

    msgspec works out a union again for each message, which takes 8 of the 12 us of decoding a `renew` (timeit). It
    remembers a struct, and so does a decoder.
    """

    def __init__(self, union: Any, *, whole: bool) -> None:
        self.union = union
        self.whole = whole
        self.by_op: Mapping[object, Any] = {kind.__struct_config__.tag: kind for kind in get_args(union)}
        self.json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union)
        self.long_json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union, float_hook=read_float)


_FROM_CLIENTS = MessageKinds(ClientMessage, whole=False)
_FROM_SERVERS = MessageKinds(ServerMessage, whole=True)


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
        """Encode a struct, or an object made of the types that values are made of, as one item."""

    def cut(self, message: Message, field: str) -> tuple[bytes, bytes]:
        """Encode a message whose `field` is 0, and return what comes ahead of that number, and behind it.

        No text of a peer's, nor of a store's, may come ahead of the field.
        """
        key, zero = self.dumps({field: 0})[1:].removesuffix(b"}"), self.dumps(0)
        before, found, behind = self.encode(message).partition(key)
        assert found, f"{message} has no {field}"
        return before + key.removesuffix(zero), behind

    @abstractmethod
    def number(self, number: int) -> bytes:
        """Encode a number, 0 or more, such as goes between the parts of `cut`."""

    @abstractmethod
    def loads(self, data: bytes | str, kind: type[T]) -> T:
        """Decode one item of type `kind`. Raises `Invalid`, naming the field where there is one."""

    @abstractmethod
    def loads_syntax(self, data: bytes | str, kind: type[T]) -> T:
        """Decode as `loads` does, but leave the values in it as the syntax has them, for `plain`."""

    @abstractmethod
    def plain(self, value: Value) -> Value:
        """Return a value that `loads_syntax` or `request` decoded as it is meant. Raises `Invalid`."""

    def check_items(self, data: bytes | str, items_max: int) -> Generator[None, None, None]:
        """Raise `TooLarge` for a message or body that holds more than `items_max` items (P-WIRE-11).

        Raises `Invalid` for CBOR with a tag, or with bytes behind its item. Decodes nothing. Yields between portions,
        if there are several; see `softstate.wire.codec.items`.
        """
        # Cheap for nearly all: an item takes a byte at least.
        if len(data) > items_max and (yield from self._exceeds(data, items_max)):
            raise TooLarge(
                f"the message holds more items (members of lists and maps) than the limit (message_items_max),"
                f" {items_max}: send it in parts"
            )

    @abstractmethod
    def _exceeds(self, data: bytes | str, items_max: int) -> Count:
        """Count the items of what may be ill-formed."""

    def request_id(self, data: bytes | str) -> Id | None:
        """Return the id of a request that could not be decoded; None if none can be read, or its op has none."""
        op, number = self._op_and_id(data)
        if not isinstance(op, str) or op not in _ANSWERED:
            return None
        try:
            return msgspec.convert(number, Id)  # type: ignore[no-any-return]
        except msgspec.ValidationError:
            return None

    @abstractmethod
    def _op_and_id(self, data: bytes | str) -> tuple[object, object]:
        """Read two fields of what may be ill-formed; None for what cannot be read."""

    @abstractmethod
    def value(self, cbor: bytes) -> bytes:
        """Return a stored value in this codec. Raises `Unreadable` if it is none."""

    @abstractmethod
    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        """Add one entry to an encoded map that holds fewer than 23."""

    @abstractmethod
    def _array(self, items: Sequence[bytes]) -> bytes:
        """Make an array of encoded items."""

    def encode(
        self, message: Message, records: Sequence[Record] = (), encoded: Mapping[int, bytes] = NOTHING_ENCODED
    ) -> bytes:
        """Encode a message; `records` become its `changes`, and those that are damaged its `unreadable`.

        `encoded` are changes that are encoded already, by the `id` of their records: `DAMAGED` for one that cannot be.
        Those of `SharedRecords` are encoded and joined once.
        """
        if not isinstance(message, _CARRIES_CHANGES) or message.changes:
            return self.message(message)
        if type(records) is not SharedRecords:
            array, unreadable = self._changes(records, encoded)
        elif (made := records.made.get(self)) is not None:
            array, unreadable = made
        else:
            array, unreadable = records.made[self] = self._changes(records, encoded)
        if unreadable:
            message = msgspec.structs.replace(message, unreadable=unreadable)
        return self._with(self.message(message), "changes", array)

    def frame(self, data: bytes) -> bytes:
        """Return an encoded message as it is written to a connection: as one WebSocket frame."""
        return frame(data, text=self.text)

    def message(self, message: Message) -> bytes:
        """Encode a message, without the records that become its `changes`."""
        return self.dumps(message)

    def _changes(self, records: Sequence[Record], encoded: Mapping[int, bytes]) -> tuple[bytes, list[str]]:
        """Encode what can be encoded of records, as one array; return it, and the topics of the others."""
        if not encoded:
            try:
                return self._array([self.change(record) for record in records]), []
            except Unreadable:
                pass  # so few that they were not encoded ahead
        changes: list[bytes] = []
        unreadable: dict[str, None] = {}
        for record in records:
            try:
                change = encoded.get(id(record))
                if change is None:
                    change = self.change(record)
            except Unreadable:
                change = DAMAGED
            if change:
                changes.append(change)
            else:
                unreadable[record.topic] = None
        return self._array(changes), list(unreadable)

    def change(self, record: Record) -> bytes:
        """Encode a record as a change. Raises `Unreadable` if it is damaged."""
        return self._state({"topic": record.topic, "version": record.version}, record)

    def notify(self, record: Record) -> bytes:
        """Encode a record as a `notify` message: one that is damaged as `unknown` (P-KNOW-11)."""
        try:
            return self._state({"op": "notify", "topic": record.topic, "version": record.version}, record)
        except Unreadable:
            return self._unknown(record)

    def _unknown(self, record: Record) -> bytes:
        return self.dumps({"op": "notify", "topic": record.topic, "version": record.version, "unknown": True})

    def _state(self, head: dict[str, Any], record: Record) -> bytes:
        if record.cbor is None:
            if record.unreadable:
                raise damaged(record)
            head["deleted"] = True
            return self.dumps(head)
        return self._with(self.dumps(head), "value", self.value(record.cbor))

    def client_message(self, data: bytes | str) -> ClientMessage:
        """Decode what a client sent. Raises `Invalid`; `Unsupported` for an unknown `op`.

        `str` is what came in a text frame, `bytes` in a binary one. JSON reads both (HTTP bodies are bytes); CBOR
        refuses text.
        """
        message = self.request(data)
        if isinstance(message, Publish) and (value := self.plain(message.value)) is not message.value:
            return msgspec.structs.replace(message, value=value)
        return message

    def request(self, data: bytes | str) -> ClientMessage:
        """Decode as `client_message` does, but leave a value as the syntax has it: `plain` makes it what it means.

        So a node can answer a publish whose value is wrong by its id, and does not walk a value before it is counted.
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
    def _one_of(self, data: bytes | str, kinds: MessageKinds) -> Any:
        """Decode one item of the kind that its `op` names. Raises as `loads` does."""

    def _message(self, data: bytes | str, kinds: MessageKinds) -> Any:
        try:
            return self._one_of(data, kinds)
        except Invalid as error:
            if names_unknown_op(error):
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


def names_unknown_op(error: Invalid) -> bool:
    """Tell whether a message was refused for the value of its `op`."""
    return error.message.endswith("`$.op`") and "Invalid value" in error.message


def brief(message: str) -> str:
    """Cut an error message to `ECHO_CHARS_MAX` in its middle, since the place of the fault stands at its end."""
    if len(message) <= ECHO_CHARS_MAX:
        return message
    return f"{message[: ECHO_CHARS_MAX // 2]} … {message[-ECHO_CHARS_MAX // 2 :]}"
