"""Streams in memory for targets that need a connection, and WebSocket frames of a hostile peer."""

from __future__ import annotations

from random import Random

import trio
from trio.testing import MemoryReceiveStream

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OPCODES = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}


class MemoryEdge(trio.abc.HalfCloseableStream):
    """One end of a connection in memory, with unlimited buffers; it is a `RawSocket` for an outbox."""

    def __init__(self, incoming: MemoryReceiveStream, outgoing: MemoryReceiveStream) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def try_send(self, data: bytes | memoryview) -> int:
        """Take all data. Raises `trio.BrokenResourceError` if either end has closed."""
        try:
            if data:  # Trio's stream refuses empty data
                self._outgoing.put_data(bytes(data))
        except trio.ClosedResourceError as error:
            raise trio.BrokenResourceError from error
        return len(data)

    async def wait_writable(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive data that the other end sent."""
        return bytes(await self._incoming.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; here for the HTTP server, which uses no outbox."""
        await trio.lowlevel.checkpoint()
        self.try_send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """End this direction."""
        self.shut()
        await trio.lowlevel.checkpoint()

    def shut(self) -> None:
        """End this direction."""
        self._outgoing.put_eof()

    async def aclose(self) -> None:
        """Close both directions."""
        self._incoming.close()
        self._outgoing.put_eof()
        await trio.lowlevel.checkpoint()


def connect() -> tuple[MemoryEdge, MemoryEdge]:
    """Return both ends of a new connection."""
    here, there = MemoryReceiveStream(), MemoryReceiveStream()
    return MemoryEdge(here, there), MemoryEdge(there, here)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end."""
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


def frame(opcode: int, payload: bytes, *, masked: bool, fin: bool = True) -> bytes:
    """Return a frame. The mask is zero, so that damage to the bytes damages the message likewise."""
    size = len(payload)
    flag = 0x80 if masked else 0
    head = bytes(((0x80 if fin else 0) | opcode,))
    if size < 126:
        head += bytes((flag | size,))
    elif size < 65_536:
        head += bytes((flag | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((flag | 127,)) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


def odd_frame(random: Random, *, masked: bool) -> bytes:
    """Return a frame that a correct peer does not send, or rarely."""
    payload = random.choice([b"", b"\x03\xe8bye", b"\x03", b"\x00\x00", b"\x0f\xa0\xff", b"x" * 126, b"\xf0\x9f"])
    wrong = random.random() < 0.1
    made = frame(random.randrange(16), payload, masked=masked != wrong, fin=random.random() < 0.7)
    if random.random() < 0.3:
        made = bytes((made[0] | random.choice([0x10, 0x20, 0x40, 0x70]),)) + made[1:]
    return made


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """Split a node's data into first bytes and payloads of frames, without an incomplete one at the end."""
    found = []
    while len(data) >= 2:
        size, head = data[1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[2:head], "big")
        if len(data) < head + size:
            break
        found.append((data[0], data[head : head + size]))
        data = data[head + size :]
    return found
