"""WebSocket frames that a node makes (RFC 6455 section 5): messages once for all subscribers of a codec, and controls.

Server frames are unmasked and nothing is compressed, so the same bytes serve every connection (P-WIRE-2).
"""

from __future__ import annotations

from softstate.wire.websocket.events import NO_CODE

OPCODE_TEXT = 0x1
OPCODE_BINARY = 0x2
OPCODE_CLOSE = 0x8
OPCODE_PING = 0x9
OPCODE_PONG = 0xA
_FIN = 0x80

CONTROL_BYTES_MAX = 125
"""Longest payload of a control frame (RFC 6455 section 5.5)."""

_REASON_BYTES_MAX = CONTROL_BYTES_MAX - 2


def frame(payload: bytes, *, text: bool) -> bytes:
    """Wrap one message into one finished frame."""
    first = _FIN | (OPCODE_TEXT if text else OPCODE_BINARY)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping with this payload, at most 125 bytes."""
    assert len(payload) <= CONTROL_BYTES_MAX, "a ping is no longer"
    return bytes((_FIN | OPCODE_PONG, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame. A reason that does not fit is cut; `NO_CODE` makes a frame without code and reason."""
    if code == NO_CODE:
        return bytes((_FIN | OPCODE_CLOSE, 0))
    said = reason.encode()
    if len(said) > _REASON_BYTES_MAX:
        # Not within a character: the peer would have to refuse the frame.
        said = said[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return bytes((_FIN | OPCODE_CLOSE, 2 + len(said))) + code.to_bytes(2, "big") + said


def is_close(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether bytes that begin at a frame boundary begin with a close frame."""
    return len(data) > 0 and data[0] & 0x0F == OPCODE_CLOSE and data[0] & _FIN != 0
