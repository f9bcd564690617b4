"""One connection to one peer: the shell around `Exchange`, under Trio and asyncio."""

from __future__ import annotations

import select
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import final

import anyio
import trio

from softstate.http_client.exchange import (
    RESPONSE_BYTES_MAX,
    ConnectionBroken,
    Exchange,
    Request,
    Response,
    ResponseTooLong,
)
from softstate.http_client.streams import RECEIVE_BYTES, STREAM_ERRORS, Stream, cut, reason, socket_of


@final
class HttpConnection:
    """A stream that carries one request after the other to `peer`. Once a method has raised, `usable` is false.

    It has no deadlines of its own: cancel what takes too long.
    """

    def __init__(self, stream: Stream, peer: Hashable) -> None:
        self.peer = peer
        self.kept = False
        """Whether it has answered a request before the present one."""
        self.idle_since_s = anyio.current_time()
        """Since when it waits for a request, on the loop's clock."""
        self._stream = stream
        self._exchange = Exchange()
        self._ready = True
        self._torn = False

    async def request(self, request: Request, body_bytes_max: int = RESPONSE_BYTES_MAX) -> Response:
        """Send a request and return the whole response, of any status. Raises `ExchangeFailed`."""
        head = await self.start(request)
        body = bytearray()
        while part := await self.part():
            body += part
            if len(body) > body_bytes_max:
                raise ResponseTooLong(f"the response is longer than {body_bytes_max} bytes")
        return Response(head.status, head.headers, bytes(body))

    async def start(self, request: Request) -> Response:
        """Send a request and return the head of the response; `part` brings the body. Raises `ExchangeFailed`."""
        self._ready = False
        data = self._exchange.start(request)
        with self._failures():
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, anyio.BrokenResourceError) as error:
                return await self._early_head(error)
            return await self._head()

    async def part(self) -> bytes:
        """Return more of the body, b"" at its end. Raises `ExchangeFailed`. Cancelling loses nothing."""
        with self._failures():
            while (part := self._exchange.part()) is None:
                await self._receive()
        if not part and self._exchange.finish() and not self._torn:
            self._ready = self.kept = True
            self.idle_since_s = anyio.current_time()
        return part

    @property
    def usable(self) -> bool:
        """Whether it can take another request, as far as this machine knows."""
        if not self._ready or (descriptor := socket_of(self._stream)) is None:
            return self._ready
        if descriptor < 0:
            return False
        # Nothing is due on an idle connection: what can be read is its end, or the notice of it.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)

    async def aclose(self) -> None:
        """Cut the connection, at once."""
        await cut(self._stream)

    async def _head(self) -> Response:
        while (head := self._exchange.head()) is None:
            await self._receive()
        return head

    async def _early_head(self, error: Exception) -> Response:
        """Read the response to a request that could not be sent whole (413, for one); raise `error` if none came."""
        self._torn = True
        try:
            return await self._head()
        except (ConnectionBroken, *STREAM_ERRORS):
            raise error from error.__cause__

    async def _receive(self) -> None:
        self._exchange.receive(bytes(await self._stream.receive_some(RECEIVE_BYTES)))

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except STREAM_ERRORS as error:
            raise ConnectionBroken(reason(error), answered=self._exchange.answered) from error
