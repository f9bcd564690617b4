"""WebSocket handshakes and frames as bytes (RFC 6455), for generators that must cost little."""

from __future__ import annotations


def upgrade(path: str, protocol: str = "") -> bytes:
    """Return the head of a WebSocket handshake."""
    offer = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    ).encode()


def client_frame(payload: bytes) -> bytes:
    """Return a message of less than 64 KiB as a masked binary frame, with a mask of zeros (RFC 6455 section 5.3)."""
    size = len(payload)
    head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def count_frames(data: bytes) -> int:
    """Return the number of server frames in `data`; -1 if the last one is incomplete."""
    payloads, rest = take_frames(data)
    return -1 if rest else len(payloads)


def take_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the payloads of the complete server frames at the start of `data`, and the bytes after them."""
    payloads = []
    at, size_all = 0, len(data)
    while at + 2 <= size_all:
        size, head = data[at + 1], at + 2
        if size > 125:
            head = at + (4 if size == 126 else 10)
            if head > size_all:
                break
            size = int.from_bytes(data[at + 2 : head], "big")
        if head + size > size_all:
            break
        payloads.append(data[head : head + size])
        at = head + size
    return payloads, data[at:]
