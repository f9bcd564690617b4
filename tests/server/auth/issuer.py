"""An issuer for tests: it answers requests for its keys over streams in memory."""

from __future__ import annotations

import json
from contextlib import suppress

import trio
from trio.testing import memory_stream_pair

from tests.auth.keys import key


class FakeIssuer:
    """Answers any number of connections; `keys` may be set, and what else is odd about it."""

    def __init__(self, *keys: str) -> None:
        self.keys = [key(name).public_jwk() for name in keys]
        self.status = 200
        self.down = False
        self.silent = False
        self.body: bytes | None = None
        self.documents: dict[str, object] = {}
        self.asked: list[str] = []
        self.opened: list[tuple[str, int, bool]] = []
        self.nursery: trio.Nursery | None = None

    async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.opened.append((host, port, tls))
        if self.down:
            raise OSError("refused")
        ours, theirs = memory_stream_pair()
        assert self.nursery is not None
        self.nursery.start_soon(self.answer, theirs)
        return ours

    async def answer(self, stream: trio.abc.Stream) -> None:
        """Answer one request."""
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        target = request.split()[1].decode()
        self.asked.append(target)
        if self.silent:
            await trio.sleep_forever()
        document = self.documents.get(target, {"keys": self.keys})
        body = self.body if self.body is not None else json.dumps(document).encode()
        head = f"HTTP/1.1 {self.status} X\r\nLocation: https://evil.example/\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(trio.BrokenResourceError):  # who asked has left: the body is too long
            await stream.send_all(head.encode() + body)
