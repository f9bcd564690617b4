"""A client of streams against a node in memory."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import trio

from softstate.testing.event_reader import StreamReader
from tests.kit.fake_node import MemoryStream
from tests.kit.memory_node import MemoryNode, request


class EventClient:
    """One stream at a time; it goes on where the last one ended."""

    def __init__(self, running: MemoryNode, *names: str, **headers: str) -> None:
        self.running = running
        self.reader = StreamReader(names)
        self.headers = headers
        self.head = ""
        self.peer: MemoryStream | None = None
        self._rest = b""

    async def open(self, method: str = "GET", body: Any = None, **parameters: Any) -> EventClient:
        """Ask for a stream, and read its head."""
        named = [("prefix" if name.endswith("/") else "topic", name) for name in self.reader.names]
        query = urlencode([*(named if body is None else []), *parameters.items()])
        headers = dict(self.headers)
        if self.reader.last_id:
            headers["Last-Event-ID"] = self.reader.last_id
        self.peer = self.running.connect()
        self.reader.asked(trio.current_time())
        await self.peer.send_all(request(method, f"/v1/events?{query}", body, **headers))
        received = b""
        while b"\r\n\r\n" not in received:
            more = await self.peer.receive_some()
            assert more, received
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        self.head = head.decode()
        self.reader.feed(rest, trio.current_time())
        return self

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    async def read(self, seconds: float = 0.0) -> EventClient:
        """Read for a while, or what is there by now."""
        assert self.peer is not None
        with trio.move_on_after(seconds or 0.3):
            while data := await self.peer.receive_some():
                self.reader.feed(bytes(data), trio.current_time())
        return self

    async def to_end(self) -> str | None:
        """Read to the end; return why the node ended it."""
        assert self.peer is not None
        while data := await self.peer.receive_some():
            self.reader.feed(bytes(data), trio.current_time())
        await self.close()
        return self.reader.ended

    async def close(self) -> None:
        assert self.peer is not None
        await self.peer.aclose()
        await trio.testing.wait_all_tasks_blocked()

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.reader.events]

    @property
    def values(self) -> dict[str, Any]:
        return {topic: value for topic, (_, value) in self.reader.values.items()}

    @property
    def age(self) -> float:
        return self.reader.age_s(trio.current_time())
