"""JSON (RFC 8259), as `softstate.v1.json` and ``application/json`` have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from softstate.errors import Invalid
from softstate.model import Change, Value
from softstate.wire.codec.base import Codec, MessageKinds, brief, names_unknown_op
from softstate.wire.codec.items import SCALAR_BYTES_MAX, Count, json_exceeds, json_fields
from softstate.wire.messages import PROTOCOL_JSON, Batch, BatchChange, Notify, Polled, Publish, Subscribed
from softstate.wire.value import VALUE_DEPTH_MAX, json_of, read_float, unwrap_bytes, wrap_bytes

T = TypeVar("T")

SHORT_BYTES = 1_024
"""A message of at most so many bytes is decoded without `read_float`: the worst numbers in it take 1 ms."""


class _Json(Codec):
    """Text messages, with bytes as ``{"$bytes": base64}`` (P-WIRE-6); reads binary messages as well.

    The interpreter's recursion limit bounds the nesting, until `check_value` applies the limit of values.
    """

    name = "json"
    protocol = PROTOCOL_JSON
    content_type = "application/json"
    text = True

    def dumps(self, obj: Any) -> bytes:
        return msgspec.json.encode(_map_values(obj, wrap_bytes) if isinstance(obj, msgspec.Struct) else obj)

    def number(self, number: int) -> bytes:
        return b"%d" % number

    def loads(self, data: bytes | str, kind: type[T]) -> T:
        return cast("T", _unwrapped(self.loads_syntax(data, kind), data))

    def loads_syntax(self, data: bytes | str, kind: type[T]) -> T:
        decoder = decoder_of(kind, long=len(data) > SHORT_BYTES)  # type: ignore[arg-type]  # a type is hashable
        return cast("T", self._decoded(data, decoder.decode))

    def plain(self, value: Value) -> Value:
        return unwrap_bytes(value)

    def _exceeds(self, data: bytes | str, items_max: int) -> Count:
        return (yield from json_exceeds(_text(data), items_max))

    def _op_and_id(self, data: bytes | str) -> tuple[object, object]:
        try:
            found = msgspec.json.decode(_text(data), type=_Identified)
        except (Invalid, msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            # Ill-formed: the fields before the fault count, as far as they are plain.
            fields = json_fields(data if isinstance(data, str) else data.decode(errors="replace"))
            return _scalar(fields.get("op")), _scalar(fields.get("id"))
        return _scalar(found.op), _scalar(found.id)

    def _one_of(self, data: bytes | str, kinds: MessageKinds) -> Any:
        try:
            item = self._decoded(data, (kinds.json if len(data) <= SHORT_BYTES else kinds.long_json).decode)
        except Invalid as error:
            # The decoder goes by the first `op`, and takes another for a value that it does not know.
            if names_unknown_op(error) and type(op := self._op_and_id(data)[0]) is str and op in kinds.by_op:
                raise Invalid("a message has one operation, and this names two in `$.op`: send one") from None
            raise
        return _unwrapped(item, data) if kinds.whole else item

    def _decoded(self, data: bytes | str, decode: Callable[[str], Any]) -> Any:
        text = _text(data)
        try:
            return decode(text)
        except msgspec.ValidationError as error:
            raise Invalid(brief(str(error))) from None
        except msgspec.DecodeError as error:
            raise Invalid(f"not one well-formed JSON text: {error}") from None
        except RecursionError:
            raise Invalid(f"nested too deep (a value may have {VALUE_DEPTH_MAX} levels)") from None
        except UnicodeEncodeError as error:
            raise Invalid(f"not valid Unicode: {error}") from None

    def value(self, cbor: bytes) -> bytes:
        return json_of(cbor)

    def _with(self, head: bytes, key: str, item: bytes) -> bytes:
        return head[:-1] + b',"' + key.encode() + b'":' + item + b"}"

    def _array(self, items: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(items) + b"]"


@lru_cache(16)
def decoder_of(kind: type[T], *, long: bool) -> msgspec.json.Decoder[T]:
    """Return the decoder of one kind of body."""
    return msgspec.json.Decoder(kind, float_hook=read_float if long else None)


class _Identified(msgspec.Struct):
    """A message of which two fields are read, as they are written."""

    op: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = msgspec.Raw(b"null")


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8: {error}") from None


def _scalar(item: msgspec.Raw | str | None) -> object:
    try:
        return None if item is None or len(item) > SCALAR_BYTES_MAX else msgspec.json.decode(item)
    except (msgspec.DecodeError, RecursionError):
        return None


def _unwrapped(item: Any, data: bytes | str) -> Any:
    holds_bytes = (
        '"$bytes"' in data or "\\u" in data if isinstance(data, str) else b'"$bytes"' in data or b"\\u" in data
    )
    return _map_values(item, unwrap_bytes) if holds_bytes else item


def _map_values(item: Any, convert: Callable[[Value], Value]) -> Any:
    if isinstance(item, Publish | Notify | Change | BatchChange):
        return msgspec.structs.replace(item, value=convert(item.value))
    if isinstance(item, Subscribed | Polled | Batch):
        return msgspec.structs.replace(item, changes=[_map_values(change, convert) for change in item.changes])
    if isinstance(item, msgspec.Struct):
        return item
    return convert(item)


JSON: Codec = _Json()
