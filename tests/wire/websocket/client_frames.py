"""Frames as a client sends them, right or wrong in one thing."""

from __future__ import annotations

from collections.abc import Iterable

from softstate.wire.websocket import FrameReader, Received

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = bytes.fromhex("37fa213d")  # of the examples in RFC 6455 section 5.7


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """Return a masked frame."""
    size = len(payload)
    first = fin << 7 | rsv << 4 | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def cut(data: bytes, size: int) -> list[bytes]:
    """Cut into chunks of `size` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(chunks: Iterable[bytes], reader: FrameReader | None = None) -> list[Received]:
    """Return what a reader hands out for these chunks."""
    reader = reader or FrameReader(1 << 20)
    return [each for chunk in chunks for each in reader.feed(chunk)]
