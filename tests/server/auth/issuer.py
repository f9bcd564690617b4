"""An issuer for tests: it answers requests for its keys over streams in memory."""

from __future__ import annotations

import trio

from tests.auth.keys import key
from tests.kit.memory_server import MemoryServer


class FakeIssuer(MemoryServer):
    """Answers with its `keys`, or with one of `documents` by its target; `asked` is the target of each request."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.keys = [key(name).public_jwk() for name in keys]
        self.documents: dict[str, object] = {}
        self.asked: list[str] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one request."""
        request = b""
        while b"\r\n\r\n" not in request:
            more = await stream.receive_some()
            assert more, "a request that broke off"
            request += more
        target = request.split()[1].decode()
        self.asked.append(target)
        await self.answer(stream, self.documents.get(target, {"keys": self.keys}))
