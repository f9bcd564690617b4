"""WebSocket frames that a node makes itself, once for all subscribers of a codec (RFC 6455 section 5).

Server frames are unmasked and nothing is compressed, so the same bytes serve every connection (P-WIRE-2). Everything
else about WebSocket is left to trio-websocket.
"""

from __future__ import annotations

OPCODE_TEXT = 0x1
OPCODE_BINARY = 0x2
OPCODE_CLOSE = 0x8
_FIN = 0x80


def frame(payload: bytes, *, text: bool) -> bytes:
    """Wrap one message into one finished frame."""
    first = _FIN | (OPCODE_TEXT if text else OPCODE_BINARY)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def is_close(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether bytes that begin at a frame boundary begin with a close frame."""
    return len(data) > 0 and data[0] & 0x0F == OPCODE_CLOSE and data[0] & _FIN != 0
