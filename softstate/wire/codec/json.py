"""JSON (RFC 8259), as `softstate.v1.json` and ``application/json`` have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from softstate.errors import Invalid
from softstate.model import Change, Value
from softstate.wire.codec.base import Codec, MessageKinds, brief
from softstate.wire.messages import PROTOCOL_JSON, Batch, BatchChange, Notify, Polled, Publish, Subscribed
from softstate.wire.value import VALUE_DEPTH_MAX, json_of, unwrap_bytes, wrap_bytes

T = TypeVar("T")


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

    def loads(self, data: bytes | str, kind: type[T]) -> T:
        return cast("T", self._decoded(data, lambda text: msgspec.json.decode(text, type=kind)))

    def _one_of(self, data: bytes | str, kinds: MessageKinds) -> Any:
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
            raise Invalid(brief(str(error))) from None
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


JSON: Codec = _Json()
