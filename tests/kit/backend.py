"""The program behind a callout, for tests: it answers questions about tokens over streams in memory."""

from __future__ import annotations

import json
from typing import Any

import trio

from tests.kit.memory_server import MemoryServer


class Backend(MemoryServer):
    """`subjects` are those of the tokens that it accepts; an answer `takes_s`, and says `more`.

    `asked` is each question, `heads` the head that it came with; `most` is how many were answered at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.subjects: dict[str, str] = {}
        self.names: dict[str, set[str]] = {}
        """The rights of each subject: ``read a``, ``write b``."""
        self.more: dict[str, Any] = {}
        self.takes_s = 0.0
        self.closes = False
        """Whether it closes each connection once it has answered, without saying so."""
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.answering = self.most = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one question after the other."""
        data = b""
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
            size = int(fields["content-length"])
            while len(data) < size:
                more = await stream.receive_some()
                assert more, "a question that broke off"
                data += more
            body, data = data[:size], data[size:]
            self.heads.append(head.decode())
            await self._answer(stream, json.loads(body))
            if self.closes:
                await stream.aclose()
                return

    async def _answer(self, stream: trio.abc.Stream, question: dict[str, Any]) -> None:
        self.asked.append(question)
        self.answering += 1
        self.most = max(self.most, self.answering)
        await trio.sleep(self.takes_s)
        self.answering -= 1
        if "ask" in question:
            names = self.names.get(question["identity"]["subject"], ())
            allowed = [f"{each['action']} {each['name']}" in names for each in question["ask"]]
            await self.answer(stream, {"allowed": allowed, **self.more})
            return
        subject = self.subjects.get(question["credentials"])
        await self.answer(stream, {"identity": None if subject is None else {"subject": subject}, **self.more})
