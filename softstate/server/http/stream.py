"""HTTP/1.1 over one stream: a thin shell of `softstate.server.http1`, with every deadline that a server needs.

It does without the compromises that example servers make: a head has a deadline, and so has a body; silence and slow
reading end; a peer that is refused while it still sends can read why. Sizes are held to by the conversation below.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from softstate.errors import Invalid
from softstate.server.config import ServerConfig
from softstate.server.http1 import Conversation, Refused, Reply, RequestHead

RECEIVE_BYTES = 16 * 1024
"""Most bytes that are received, and read, in one turn of the loop: 2,700 chunks of a body at most, in 2 ms."""

LINGER_S_MAX = 2.0
"""Time that a refused peer may go on sending before its connection is closed all the same."""

LINGER_BYTES_MAX = 1024 * 1024
"""Bytes that a refused peer may go on sending; all of them are thrown away."""


class PeerGone(Exception):
    """The connection is of no more use: lost, or its peer does not take its replies."""


class HttpStream:
    """One connection as a sequence of requests and replies. Used by one task.

    `date` writes the ``Date`` of replies; a server without a clock sends none.
    """

    def __init__(self, stream: trio.abc.Stream, config: ServerConfig, date: Callable[[], str] | None = None) -> None:
        self._stream = stream
        self._config = config
        self._date = date or str
        self._conversation = Conversation(config)
        self._fresh = True
        self._idle_scope: trio.CancelScope | None = None
        self.answering = False
        """Whether a reply to the present request has begun to go out."""

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, now that a reply has been sent."""
        return self._conversation.reusable

    def take_rest(self) -> bytes:
        """Return the bytes received behind an upgrade request; nothing more is read here."""
        return self._conversation.take_rest()

    # Reading --------------------------------------------------------------------------------------------------------

    async def read_head(self) -> RequestHead | None:
        """Return the next request's head; None once the peer has left, or has been silent for too long.

        A new connection has ``head_s_max`` to send a head; a kept one may be silent for ``idle_s_max``, then has
        ``head_s_max`` from the first byte on. Raises `Refused` or `PeerGone`.
        """
        config, conversation = self._config, self._conversation
        self.answering = False
        deadline = trio.current_time() + config.head_s_max
        event = conversation.feed()
        if event is None and not conversation.begun and not conversation.ended:
            with trio.move_on_at(deadline if self._fresh else trio.current_time() + config.idle_s_max) as silence:
                self._idle_scope = None if self._fresh else silence
                event = await self._receive()
            self._idle_scope = None
            if silence.cancelled_caught:
                return None
        if not self._fresh:
            deadline = trio.current_time() + config.head_s_max
        self._fresh = False
        # Nearly every head, and body, is here whole by now, and gets no cancel scope of its own: one scope costs 10 us,
        # a twentieth of a poll (cProfile and `bench polls`).
        if event is None and not conversation.ended:
            with trio.move_on_at(deadline) as slow:
                while event is None and not conversation.ended:
                    event = await self._receive()
            if slow.cancelled_caught:
                limit = f"{config.head_s_max:g} s (head_s_max)"
                raise Refused(408, Invalid(f"the request's head took longer than {limit}"))
        if isinstance(event, Refused):
            raise event
        assert not isinstance(event, bytes)
        return event

    def stop_waiting(self) -> None:
        """End the connection if it is a kept one without a request under way.

        A new one is left alone: its request may be on its way, and clients do not repeat a first request by themselves.
        """
        if self._idle_scope is not None:
            self._idle_scope.cancel()

    async def read_body(self, head: RequestHead) -> bytes:
        """Return the body that follows `head`. Raises `Refused` (413, 408) or `PeerGone`.

        A peer that waits for ``100 Continue`` is told to go on, unless it has announced too much.
        """
        if head.body is not None:
            return head.body
        interim = self._conversation.go_on()
        if interim:
            await self._send(interim)
        event = self._conversation.feed()
        if event is None:
            with trio.move_on_after(self._config.body_s_max) as slow:
                while event is None:
                    event = await self._receive()
            if slow.cancelled_caught:
                limit_s = f"{self._config.body_s_max:g} s (body_s_max)"
                raise Refused(408, Invalid(f"the request's body took longer than {limit_s}"))
        if isinstance(event, Refused):
            raise event
        assert isinstance(event, bytes)
        return event

    async def hang_up(self) -> None:
        """Return once the peer has ended its side, or was lost, while its request is held.

        The bytes that it sends meanwhile are kept, up to the size of a head; a peer that sends more does not wait for
        its answer, and counts as gone.
        """
        conversation = self._conversation
        while not conversation.ended and conversation.buffered <= self._config.head_bytes_max:
            try:
                await self._receive()
            except PeerGone:
                return

    async def _receive(self) -> RequestHead | bytes | Refused | None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGone from None
        return self._conversation.feed(bytes(data)) if data else self._conversation.end()

    # Writing --------------------------------------------------------------------------------------------------------

    async def reply(self, reply: Reply, *, close: bool = False) -> None:
        """Send a reply whole, in one write. Raises `PeerGone` also when it is not taken within ``send_s_max``."""
        data = self._conversation.reply(reply, self._date(), close=close)
        self.answering = True
        await self._send(data)

    async def _send(self, data: bytes) -> None:
        sent = self._try_send(data)
        if sent == len(data):
            # Reading on is a checkpoint, unless the next request is here already.
            if self._conversation.buffered:
                await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(self._config.send_s_max):
            try:
                await self._stream.send_all(data[sent:])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise PeerGone from None
            return
        raise PeerGone

    def _try_send(self, data: bytes) -> int:
        """Write what the socket takes now, which is all of it if the peer reads; return the number of bytes.

        Saves a cancel scope, a lock and a turn of the loop: 35 us, an eighth of a poll (cProfile and `bench polls`).
        """
        if not isinstance(self._stream, trio.SocketStream):
            return 0
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            raise PeerGone from None

    async def linger(self) -> None:
        """Let the peer read the last reply: closing with its bytes unread would reset the connection under it.

        Ends when the peer closes, at the latest after `LINGER_S_MAX` seconds or `LINGER_BYTES_MAX` bytes. RFC 9112
        section 9.6 asks for it.
        """
        left = 0 if self._conversation.ended else LINGER_BYTES_MAX
        with trio.move_on_after(LINGER_S_MAX):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while left > 0:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                    left = left - len(data) if data else 0
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
