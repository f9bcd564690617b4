"""An HTTP server over streams in memory: the base of what stands in for programs that a node asks."""

from __future__ import annotations

import json
from contextlib import suppress

import trio
from trio.testing import memory_stream_pair


class MemoryServer:
    """Answers any number of connections by `serve`, in `nursery`. The rest is what is odd about it.

    `opened` are the host, the port and whether TLS was wanted, of each connection.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | None = None
        """The body of every answer, in place of the document; None: the document."""
        self.down = False
        self.silent = False
        self.opened: list[tuple[str, int, bool]] = []
        self.nursery: trio.Nursery | None = None

    async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        """Open a stream to it. Raises `OSError` while it is down."""
        await trio.lowlevel.checkpoint()
        self.opened.append((host, port, tls))
        if self.down:
            raise OSError("refused")
        ours, theirs = memory_stream_pair()
        assert self.nursery is not None
        self.nursery.start_soon(self.serve, theirs)
        return ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection."""
        raise NotImplementedError

    async def answer(self, stream: trio.abc.Stream, document: object) -> None:
        """Answer one request, unless it is silent."""
        if self.silent:
            await trio.sleep_forever()
        body = self.body if self.body is not None else json.dumps(document).encode()
        head = f"HTTP/1.1 {self.status} X\r\nLocation: https://evil.example/\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(trio.BrokenResourceError):  # who asked has left: the body is too long, or its time is over
            await stream.send_all(head.encode() + body)
