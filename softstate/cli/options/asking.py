"""Asking each of several nodes the same, for commands that show what each one says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from softstate.cli.options.credentials import Presented, read_token
from softstate.errors import SoftstateError


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer of the node at `url`: the fields of its reply, or the error."""

    url: str
    told: dict[str, Any] | None
    error: SoftstateError | None = None


class Asked:
    """Several nodes, each of which is asked by itself; connections are kept."""

    def __init__(self, urls: Sequence[str], credentials: Presented, timeout_s: float) -> None:
        from softstate.client.machine.credentials import TokenCell  # noqa: PLC0415 - --help does without
        from softstate.client.shell.http import HttpClient  # noqa: PLC0415
        from softstate.client.shell.trust import opening  # noqa: PLC0415
        from softstate.client.url import parse_url  # noqa: PLC0415
        from softstate.http_client.streams import open_tcp  # noqa: PLC0415
        from softstate.wire import JSON  # noqa: PLC0415

        self.urls = tuple(dict.fromkeys(urls))
        """The nodes as they were named, each once."""
        self._urls = [parse_url(url) for url in self.urls]
        tls = credentials.tls(urls)
        credentials.for_client()  # it refuses two tokens, and warns of one on the command line
        self._credentials, self._cell = credentials, TokenCell(credentials.token)
        self._http = HttpClient(open_tcp if tls is None else opening(tls), JSON, self._cell)
        self._timeout_s = timeout_s

    async def ask(self, path: str) -> list[Answered]:
        """Ask all of them at once; return their answers in the order of the URLs. `path` is encoded."""
        if self._credentials.token_file is not None:
            self._cell.token = await trio.to_thread.run_sync(read_token, self._credentials.token_file)
        answers: dict[int, Answered] = {}
        async with trio.open_nursery() as nursery:
            for at in range(len(self._urls)):
                nursery.start_soon(self._ask, at, path, answers)
        return [answers[at] for at in range(len(self._urls))]

    async def _ask(self, at: int, path: str, answers: dict[int, Answered]) -> None:
        url = self._urls[at]
        try:
            reply = await self._http.request(url, "GET", path, timeout_s=self._timeout_s)
            answers[at] = Answered(str(url), reply.decode(dict))
        except SoftstateError as error:
            answers[at] = Answered(str(url), None, error)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


@asynccontextmanager
async def asking(urls: Sequence[str], credentials: Presented, timeout_s: float) -> AsyncIterator[Asked]:
    """Ask nodes for the length of a block; each answer within `timeout_s`. Raises `ConfigError`."""
    asked = Asked(urls, credentials, timeout_s)
    try:
        yield asked
    finally:
        with trio.CancelScope(shield=True):
            await asked.aclose()
