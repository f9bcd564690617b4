"""The messages of one connection: frames are read from its outbox, pings answered, and the closing handshake is kept.

Everything that is written goes through the outbox, so that no frame is torn, and none follows a close frame.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from softstate.server.fanout.outbox import RECEIVE_BYTES, Outbox
from softstate.wire.websocket import FrameReader, PeerClose, Ping, Violation, close_frame, pong_frame

HANDSHAKE_S_MAX = 5.0
"""Time to write the answer to a handshake that is complete and valid already."""

CLOSE_S_MAX = 2.0
"""Time for a slow peer to take what is queued, and for the closing handshake; then the socket is closed without it."""

QUIET_S_MAX = 0.25
"""Time until the socket of a peer that broke a rule is closed after the last bytes that it sent, within `CLOSE_S_MAX`:
they may be its close frame, which cannot be told from other bytes any more."""

RECEIVE_BYTES_MAX = 64 * 1024
"""Most bytes of one frame that are received at once; what lies behind a frame is received in smaller portions."""


class PeerGone(Exception):
    """The connection was lost, or ended without a close frame."""


class Ended(Exception):
    """No further message comes: the connection is to be closed with `code`, as the peer closed it or broke a rule."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class MessageStream:
    """A server's end of a WebSocket, used by one task. It receives and closes; the outbox sends."""

    __slots__ = ("_last", "_outbox", "_reader", "_received")

    def __init__(self, outbox: Outbox, message_bytes_max: int) -> None:
        self._outbox = outbox
        self._reader = FrameReader(message_bytes_max)
        self._received: list[bytes | str] = []
        """Messages that `receive` has not returned yet, the next one last. (An empty deque takes 0.7 KiB.)"""
        self._last: PeerClose | Violation | None = None

    async def accept(self, answer: bytes) -> None:
        """Write the answer to the handshake. Raises `PeerGone` if that is not taken within `HANDSHAKE_S_MAX`."""
        try:
            with trio.fail_after(HANDSHAKE_S_MAX):
                await self._outbox.send_all(answer)
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise PeerGone(f"handshake not completed: {error!r}") from None

    def waiting(self) -> bool:
        """Whether a message was received that `receive` has not returned yet."""
        return bool(self._received)

    async def receive(self) -> bytes | str:
        """Return the next message. If cancelled, no message is lost.

        Raises `PeerGone`, or, behind all messages that came ahead of it, `Ended`.
        """
        if self._received:
            # One message in each turn of the loop: a peer that sends many at once holds up no other (P-CONN-15).
            await trio.lowlevel.checkpoint()
        while not self._received:
            match self._last:
                case PeerClose(code, _):
                    raise Ended(code, "")
                case Violation(code, reason):
                    raise Ended(code, reason)
            await self._receive_some()
        return self._received.pop()

    async def _receive_some(self) -> None:
        """Receive once, when no message waits, and answer pings.

        None is answered while the outbox is congested: the answer would have to wait, and the peer reads nothing.
        """
        outbox = self._outbox
        size = max(RECEIVE_BYTES, min(self._reader.missing, RECEIVE_BYTES_MAX))
        try:
            data = await outbox.receive_some(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone(str(error)) from None
        if not data:
            raise PeerGone("the peer ended the connection")
        answered = False
        for event in self._reader.feed(data):
            if isinstance(event, bytes | str):
                self._received.append(event)
            elif isinstance(event, Ping):
                if not outbox.congested:
                    outbox.reply(pong_frame(event.payload))
                    answered = True
            elif isinstance(event, PeerClose | Violation):
                self._last = event
        self._received.reverse()
        if answered:
            outbox.flush()

    async def close(self, code: int, reason: str) -> None:
        """Close, behind all that is queued, with a closing handshake if it takes no longer than `CLOSE_S_MAX`."""
        with trio.move_on_after(CLOSE_S_MAX), suppress(trio.BrokenResourceError, PeerGone):
            await self._outbox.send_all(close_frame(code, reason))
            # Closing a socket of which bytes were not received makes the system reset the connection, and the close
            # frame may be lost with that.
            patience_s = CLOSE_S_MAX
            while not isinstance(self._last, PeerClose):
                self._received.clear()
                with trio.move_on_after(patience_s) as quiet:
                    await self._receive_some()
                if quiet.cancelled_caught:
                    return
                patience_s = QUIET_S_MAX if self._reader.ended else CLOSE_S_MAX
