"""The program behind a callout, for tests: it answers questions about tokens over streams in memory."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import trio
from trio.testing import memory_stream_pair


class Backend:
    """Answers any number of connections. `subjects` are those of the tokens that it accepts; the rest is what is odd.

    `asked` is each question; `open` counts the connections that are, and `most` how many questions were answered at a
    time.
    """

    def __init__(self) -> None:
        self.subjects: dict[str, str] = {}
        self.more: dict[str, Any] = {}
        self.status = 200
        self.body: bytes | None = None
        self.down = False
        self.silent = False
        self.takes_s = 0.0
        self.closes = False
        """Whether it closes each connection once it has answered, without saying so."""
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.opened: list[tuple[str, int, bool]] = []
        self.answering = self.most = 0
        self.nursery: trio.Nursery | None = None

    async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        """Open a stream to it."""
        await trio.lowlevel.checkpoint()
        self.opened.append((host, port, tls))
        if self.down:
            raise OSError("refused")
        ours, theirs = memory_stream_pair()
        assert self.nursery is not None
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        data = b""
        with suppress(trio.BrokenResourceError):
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := await stream.receive_some()):
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                fields = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
                }
                while len(data) < int(fields["content-length"]):
                    data += await stream.receive_some()
                body, data = data[: int(fields["content-length"])], data[int(fields["content-length"]) :]
                self.heads.append(head.decode())
                await self._answer(stream, json.loads(body))
                if self.closes:
                    await stream.aclose()
                    return

    async def _answer(self, stream: trio.abc.Stream, question: dict[str, Any]) -> None:
        self.asked.append(question)
        self.answering += 1
        self.most = max(self.most, self.answering)
        if self.silent:
            await trio.sleep_forever()
        await trio.sleep(self.takes_s)
        self.answering -= 1
        subject = self.subjects.get(question["credentials"])
        said = {"identity": None if subject is None else {"subject": subject}, **self.more}
        body = self.body if self.body is not None else json.dumps(said).encode()
        head = f"HTTP/1.1 {self.status} X\r\nLocation: https://evil.example/\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
