"""The protocol's examples, read from the files that other languages read as well (`softstate/wire/examples`).

`EXAMPLES` holds every operation, every field (optional ones present and absent) and every error code. Nothing here uses
the codecs, so that these can be compared with it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cbor2
import msgspec

import softstate.wire
from softstate.model import Record
from softstate.wire.codec import Codec
from softstate.wire.messages import ClientMessage, Notify, Polled, ServerMessage, Subscribed

FOLDER = Path(softstate.wire.__file__).with_name("examples")

KINDS: dict[tuple[str, str], Any] = {
    (sender, kind.__struct_config__.tag): kind
    for sender, union in (("client", ClientMessage), ("node", ServerMessage))
    for kind in get_args(union)
}


def load(path: str) -> Any:
    return json.loads((FOLDER / path).read_text(encoding="utf-8"))


def expand(item: Any) -> Any:
    """Replace each ``$x*100`` by a text of 100 letters x, in keys as well; what follows the number stays."""
    if isinstance(item, str) and item[:1] == "$" and item[2:3] == "*":
        digits = item[3 : len(item.rstrip("/"))]
        return item[1] * int(digits) + item[3 + len(digits) :]
    if isinstance(item, list):
        return [expand(each) for each in item]
    if isinstance(item, dict):
        return {expand(key): expand(each) for key, each in item.items()}
    return item


def with_bytes(item: Any) -> Any:
    """Replace each ``{"$bytes": base64}`` by a bytes object."""
    if isinstance(item, dict) and list(item) == ["$bytes"] and isinstance(item["$bytes"], str):
        return base64.b64decode(item["$bytes"])
    if isinstance(item, list):
        return [with_bytes(each) for each in item]
    if isinstance(item, dict):
        return {key: with_bytes(each) for key, each in item.items()}
    return item


def json_text(item: Any) -> str:
    """Write JSON without blanks, by the standard library; a bytes object becomes ``$bytes``."""

    def default(data: object) -> dict[str, str]:
        assert isinstance(data, bytes)
        return {"$bytes": base64.b64encode(data).decode("ascii")}

    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, default=default)


def write(codec: Codec, item: Any) -> bytes:
    """Write a map in the form of a codec, without the codec and without any schema."""
    return json_text(item).encode() if codec.text else cbor2.dumps(item)


@dataclass(frozen=True)
class Example:
    """One message: its map on the wire, with bytes objects, in the order in which softstate writes it."""

    name: str
    sender: str
    fields: dict[str, Any]
    cbor: bytes

    @property
    def op(self) -> str:
        op: str = self.fields["op"]
        return op

    @property
    def json(self) -> str:
        return json_text(self.fields)

    @property
    def message(self) -> ClientMessage | ServerMessage:
        """The object that the map stands for, made by msgspec from the schema alone."""
        message: ClientMessage | ServerMessage = msgspec.convert(self.fields, KINDS[self.sender, self.op])
        return message

    @property
    def records(self) -> list[Record]:
        """The records of a store for the changes in a page, in order, or for a `notify`."""
        changes = [self.message] if isinstance(self.message, Notify) else getattr(self.message, "changes", [])
        return [Record(c.topic, c.version, None if c.deleted else cbor2.dumps(c.value)) for c in changes]

    def encode(self, codec: Codec) -> bytes:
        """Encode as a node or client does: changes come from records."""
        if isinstance(self.message, Subscribed | Polled):
            return codec.encode(msgspec.structs.replace(self.message, changes=[]), self.records)
        return codec.encode(self.message)

    def decode(self, codec: Codec, data: bytes | str) -> ClientMessage | ServerMessage:
        """Decode as the receiving side does."""
        return codec.client_message(data) if self.sender == "client" else codec.server_message(data)


@dataclass(frozen=True)
class Refused:
    """A message that must not be accepted, the code of the error, and a piece of the error's text."""

    name: str
    sender: str
    fields: dict[str, Any]
    code: str
    names: str


def _examples(path: Path) -> list[Example]:
    return [
        Example(f"{path.stem}: {each['name']}", each["from"], with_bytes(each["message"]), bytes.fromhex(each["cbor"]))
        for each in load(f"messages/{path.name}")
    ]


def _refused(path: Path) -> list[Refused]:
    return [
        Refused(f"{path.stem}: {each['name']}", each["from"], expand(each["message"]), each["code"], each["names"])
        for each in load(f"refused/{path.name}")
    ]


EXAMPLES = [each for path in sorted(FOLDER.glob("messages/*.json")) for each in _examples(path)]
REFUSED = [each for path in sorted(FOLDER.glob("refused/*.json")) for each in _refused(path)]
