"""A tap on one direction of a connection: it reads the HTTP head, and then, on a WebSocket, whole frames.

It has a parser of its own (RFC 6455 section 5.2), independent of the product's. Frames of clients are masked, frames of
nodes are not. Neither side compresses or fragments messages; a frame that is compressed or fragmented passes unread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import cbor2

Kind: TypeAlias = Literal["unknown", "http", "websocket"]

HEAD_END = b"\r\n\r\n"
WEBSOCKET_TARGET = b"/v1/ws"

_TEXT = 0x1
_BINARY = 0x2
_CONTROL = {0x8: "close", 0x9: "ping", 0xA: "pong"}


@final
@dataclass(slots=True)
class Frame:
    """One frame as it was written, or bytes outside of any frame (`opcode` None): an HTTP head or body."""

    data: bytes
    opcode: int | None = None
    body_at: int = 0
    mask: bytes = b""
    _message: Any = None

    @property
    def payload(self) -> bytes:
        """The payload, unmasked."""
        body = self.data[self.body_at :]
        return _unmask(body, self.mask) if self.mask else body

    @property
    def message(self) -> dict[str, Any] | None:
        """The message that the frame carries, decoded; None if it carries none."""
        if self._message is None and self.opcode in (_TEXT, _BINARY):
            payload = self.payload
            self._message = json.loads(payload) if self.opcode == _TEXT else cbor2.loads(payload)
        return self._message if isinstance(self._message, dict) else None

    @property
    def op(self) -> str:
        """The message's `op`; ``close``, ``ping`` or ``pong`` for control frames; empty outside of frames."""
        if self.opcode is None:
            return ""
        if self.opcode in _CONTROL:
            return _CONTROL[self.opcode]
        message = self.message
        return str(message.get("op", "?")) if message is not None else "?"


@final
class FrameTap:
    """Cuts one direction's bytes into frames. `feed` returns complete frames, and keeps the rest."""

    def __init__(self, *, from_client: bool) -> None:
        self.kind: Kind = "unknown"
        self._from_client = from_client
        self._framed = False
        self._buffer = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they were written; return the frames that are complete."""
        if self.kind == "http":
            return [Frame(data)]
        self._buffer += data
        found: list[Frame] = []
        if not self._framed:
            end = self._buffer.find(HEAD_END)
            if end < 0:
                return []
            found.append(self._head(end + len(HEAD_END)))
        if self._framed:
            found.extend(self._frames())
        elif self._buffer:
            found.append(Frame(self._buffer))
            self._buffer = b""
        return found

    def flush(self) -> bytes:
        """Return the kept bytes, and forget them: no more will come."""
        kept, self._buffer = self._buffer, b""
        return kept

    def _head(self, size: int) -> Frame:
        head, self._buffer = self._buffer[:size], self._buffer[size:]
        line = head.split(b"\r\n", 1)[0].split(b" ")
        if self._from_client:
            self._framed = len(line) > 1 and line[0] == b"GET" and line[1].split(b"?")[0].endswith(WEBSOCKET_TARGET)
        else:
            self._framed = len(line) > 1 and line[1] == b"101"
        self.kind = "websocket" if self._framed else "http"
        return Frame(head)

    def _frames(self) -> Iterator[Frame]:
        at = 0
        buffer = self._buffer
        while (parsed := _frame_at(buffer, at)) is not None:
            frame, at = parsed
            yield frame
        self._buffer = buffer[at:]


def _frame_at(data: bytes, at: int) -> tuple[Frame, int] | None:
    """Read the frame that begins at `at`; return it and where the next one begins, None if it is incomplete."""
    if len(data) < at + 2:
        return None
    first, size = data[at], data[at + 1] & 0x7F
    body = at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < body + width:
            return None
        size = int.from_bytes(data[body : body + width], "big")
        body += width
    masked = data[at + 1] & 0x80
    mask = data[body : body + 4] if masked else b""
    body += len(mask)
    end = body + size
    if len(data) < end or (masked and len(mask) < 4):
        return None
    opcode = first & 0x0F if first & 0x80 else 0
    return Frame(data[at:end], opcode, body - at, mask), end


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
