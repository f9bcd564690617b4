"""The outbox: everything one connection is owed, in order, written without waiting for it (P-PUB-8).

The answer to the handshake, pongs and close frames pass through the same queue as messages, so no frame is torn or
interleaved with another, whichever task is cancelled. While the socket takes what it is given, a push is one
non-blocking write, straight from the hub's loop. Once it does not take the whole, the outbox is *congested*: a newer
change replaces the pending one of its topic in place, and a task that lives only as long as it is needed waits until
the socket is writable.

The outbox writes to a `RawSocket`: simulation replaces it by one that takes partial writes, and so tests this very
code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol, runtime_checkable

import trio

from softstate.wire.codec import Codec
from softstate.wire.push import PushBatch
from softstate.wire.websocket.frames import is_close

WRITE_BYTES = 128 * 1024
"""Most bytes that one write offers: enough to fill a socket buffer, few enough to copy."""

RECEIVE_BYTES = 4 * 1024

CLOSED_FD = -1
"""A descriptor that every system call refuses."""

GONE = (OSError, trio.BrokenResourceError)
"""Errors that a write raises once the connection is gone."""


@runtime_checkable
class RawSocket(Protocol):
    """The part of a socket that an outbox needs."""

    @property
    def try_send(self) -> Callable[[bytes | memoryview], int]:
        """Write what can be written without waiting; return how many bytes were taken.

        Returns 0 or raises `BlockingIOError` if none was. Raises `trio.BrokenResourceError` or another `OSError` when
        the connection is gone.
        """

    async def wait_writable(self) -> None:
        """Return when `try_send` may take something, or the connection is gone."""

    async def receive_some(self, max_bytes: int) -> bytes:
        """Receive as `trio.abc.ReceiveStream` does."""

    async def aclose(self) -> None:
        """Close at once, as `trio.abc.AsyncResource` does."""


class SystemSocket:
    """A socket of the system, by its file descriptor: no flag, no lock, no task switch on the way out."""

    __slots__ = ("_fd", "_stream", "try_send")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        # Only `aclose` may close the stream: after that, the number may be another socket's.
        self._fd = stream.socket.fileno()
        # The system call itself, without a frame of Python around it: with the slots of the session's machine that is
        # 4 to 8 % of a delivery's time outside of the kernel (bench fanout, 10,000 subscribers).
        self.try_send: Callable[[bytes | memoryview], int] = partial(os.write, self._fd)

    async def wait_writable(self) -> None:
        """Wait for the socket; a closed one counts as writable, since `try_send` reports it."""
        if self._fd < 0:
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except (trio.ClosedResourceError, OSError):
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int) -> bytes:
        """Receive from the socket."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        """Close the socket."""
        self._fd = CLOSED_FD
        self.try_send = partial(os.write, CLOSED_FD)
        await self._stream.aclose()


def raw_socket_of(stream: trio.abc.Stream | RawSocket) -> RawSocket:
    """Return the raw socket of a stream; in simulation, that is the stream itself."""
    if isinstance(stream, trio.SocketStream):
        return SystemSocket(stream)
    assert isinstance(stream, RawSocket), f"{stream!r} is neither a socket nor a raw one"
    return stream


class Outbox(trio.abc.Stream):
    """One connection's queue and its stream; see the module docstring.

    `before` holds bytes that were received already and are to be read again (frames behind an upgrade's head).
    `overdue` is called, from `flush`, when more than `pending_max` entries or `pending_bytes_max` bytes wait, or the
    socket has been congested for `congested_s_max` (and again after each further one). Pushes have been lost by then:
    the owner revokes the lease, if there is one, and drops all that waits (P-CONN-6). A frame that the peer has begun
    to receive is no longer counted: it must be finished, and there is never more than one.

    `nursery` runs the task that waits for a congested socket, within a block that `contained` makes. Once it is
    cancelled, the outbox is `dead` as soon as it would have to wait.
    """

    __slots__ = (
        "_before", "_bytes", "_closing", "_congested_s_max", "_contained", "_droppable", "_front", "_next_key",
        "_nursery", "_overdue", "_overflowed", "_pending", "_pending_bytes_max", "_pending_max", "_progress",
        "_replies", "_rest", "_rest_key", "_socket", "_try_send", "anchor", "congested", "dead", "idle", "sent",
    )  # fmt: skip

    def __init__(
        self,
        socket: RawSocket,
        nursery: trio.Nursery,
        *,
        before: bytes = b"",
        pending_max: int,
        pending_bytes_max: int,
        congested_s_max: float,
        overdue: Callable[[], None],
        contained: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.sent = 0
        """Number of `notify`s written, or waiting to be written ahead of the next message queued (P-REN-9)."""
        self.congested = False
        self.dead = False
        self.idle = True
        """Whether nothing waits and the socket may be written to: only then may `push` be called."""
        self.anchor = -1
        """Key of a reply that nothing may overtake: the welcome, before which a client knows no position."""
        self._socket = socket
        self._try_send = socket.try_send
        self._nursery = nursery
        self._before = before
        self._pending_max = pending_max
        self._pending_bytes_max = pending_bytes_max
        self._congested_s_max = congested_s_max
        self._overdue = overdue
        self._contained = contained
        self._pending: dict[str | int, bytes] = {}
        self._bytes = 0
        self._front = b""
        self._rest: memoryview | None = None
        self._rest_key: str | int | None = None
        self._next_key = 0
        self._droppable: set[int] = set()
        self._replies = 0
        self._overflowed = False
        self._closing = False
        self._progress = trio.lowlevel.ParkingLot()

    # Queueing: never waits ------------------------------------------------------------------------------------------

    def push(self, data: bytes, batch: PushBatch, codec: Codec) -> None:
        """Write the frames of a batch, joined in `data`, at once: for an `idle` outbox only. The rest is queued."""
        if len(data) > WRITE_BYTES:
            for change in batch.changes:
                self.notify(change.record.topic, change.frame(codec))
            self.flush()
            return
        try:
            taken = self._try_send(data)
        except BlockingIOError:
            taken = 0
        except GONE:
            self._die()
            return
        if taken == len(data):
            self.sent += len(batch.changes)
        else:
            self._queue_rest(batch, codec, taken)

    def _queue_rest(self, batch: PushBatch, codec: Codec, taken: int) -> None:
        self._congest()
        for change in batch.changes:
            frame = change.frame(codec)
            if taken <= 0:
                self.notify(change.record.topic, frame)
            elif not self.dead:
                taken = self._count_off(change.record.topic, frame, taken)
                self.sent += 1
        self.flush()

    def notify(self, topic: str, frame: bytes) -> None:
        """Queue a push. One that waits already for this topic is replaced, and keeps its place (P-CONN-7, P-REN-4)."""
        if self._overflowed or self.dead or self._closing:
            return
        self.idle = False
        pending = self._pending
        older = pending.get(topic)
        pending[topic] = frame
        if older is None:
            self.sent += 1
            self._bytes += len(frame)
        else:
            self._bytes += len(frame) - len(older)
        if len(pending) > self._pending_max or self._bytes > self._pending_bytes_max:
            self._check_bounds()

    def reply(self, frame: bytes, *, droppable: bool = False) -> int:
        """Queue a frame that nothing replaces, and return its key. `droppable`: `drop` drops it with the pushes."""
        key = self._next_key
        self._next_key += 1
        if self.dead or self._closing:
            return key
        self.idle = False
        self._pending[key] = frame
        self._bytes += len(frame)
        self._replies += 1
        if droppable:
            self._droppable.add(key)
        if len(self._pending) > self._pending_max or self._bytes > self._pending_bytes_max:
            self._check_bounds()
        return key

    def first(self, frame: bytes) -> None:
        """Queue a frame ahead of everything pending but the `anchor`; it replaces an older such frame."""
        if self.dead or self._closing:
            return
        self.idle = False
        if self.anchor not in self._pending:
            self._front = frame
            return
        order: dict[str | int, bytes] = {}
        for key, waiting in self._pending.items():
            order[key] = waiting
            if key == self.anchor:
                order[self._next_key] = frame
        self._pending = order
        self._next_key += 1
        self._bytes += len(frame)
        self._replies += 1

    def drop(self) -> None:
        """Drop pending pushes, and the droppable replies; what the peer has begun to receive is finished."""
        kept: dict[str | int, bytes] = {}
        for key, frame in self._pending.items():
            if isinstance(key, str):
                self.sent -= 1
            elif key in self._droppable:
                self._replies -= 1
            else:
                kept[key] = frame
        self._pending = kept
        self._droppable.clear()
        self._bytes = sum(map(len, kept.values()))
        self._overflowed = False
        self._progress.unpark_all()

    def flush(self) -> None:
        """Write as much as the socket takes now. To be called once after each turn of queueing."""
        if not self.congested:
            self._write()
        if self._overflowed:
            # Cleared here: an owner without a lease does not call `drop`, and may have a lease again later.
            self._overflowed = False
            self._overdue()

    def _check_bounds(self) -> None:
        # A burst for a healthy connection may exceed the bound before the first flush: that is no congestion.
        if not self.congested:
            self._write()
        if len(self._pending) > self._pending_max or self._bytes > self._pending_bytes_max:
            self._overflowed = True

    # Writing --------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            while self._rest is not None or self._front or self._pending:
                if not self._write_some():
                    if not self.congested:
                        self._congest()
                    return
            self.congested = False
            self.idle = not (self.dead or self._closing)
        except GONE:
            self._die()

    def _congest(self) -> None:
        if self._nursery.cancel_scope.cancel_called:
            self._die()
            return
        self.congested, self.idle = True, False
        self._nursery.start_soon(self._drain)

    def _write_some(self) -> bool:
        """Offer the socket one chunk; return whether it took all of it."""
        if self._rest is not None:
            return self._write_rest(self._rest)
        frames, keys, size = [], [], 0
        if self._front:
            frames.append(self._front)
            size = len(self._front)
        for key, frame in self._pending.items():
            if frames and size + len(frame) > WRITE_BYTES:
                break
            frames.append(frame)
            keys.append(key)
            size += len(frame)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        taken = self._offer(data)
        self._took(taken, keys)
        return taken == size

    def _offer(self, data: bytes | memoryview) -> int:
        try:
            return self._try_send(data)
        except BlockingIOError:
            return 0

    def _write_rest(self, rest: memoryview) -> bool:
        taken = self._offer(rest)
        if taken < len(rest):
            self._rest = rest[taken:]
            return False
        self._replies -= isinstance(self._rest_key, int)
        self._rest = self._rest_key = None
        return True

    def _took(self, taken: int, keys: list[str | int]) -> None:
        if self._front and taken:
            taken = self._count_off(None, self._front, taken)
            self._front = b""
        for key in keys:
            if taken <= 0:
                return
            frame = self._pending.pop(key)
            self._bytes -= len(frame)
            if isinstance(key, int):
                self._droppable.discard(key)
            taken = self._count_off(key, frame, taken)

    def _count_off(self, key: str | int | None, frame: bytes, taken: int) -> int:
        if taken < len(frame):
            self._rest, self._rest_key = memoryview(frame)[taken:], key
        else:
            self._replies -= isinstance(key, int)
        return taken - len(frame)

    async def _drain(self) -> None:
        """Write as the socket becomes writable, until all is written. Runs only while congested."""
        try:
            with self._contained():
                while self.congested:
                    with trio.move_on_after(self._congested_s_max) as waited:
                        await self._drain_all()
                    if waited.cancelled_caught and self.congested:
                        self._overflowed = True
                        self.flush()
        finally:
            if self.congested:
                self._die()

    async def _drain_all(self) -> None:
        while self.congested:
            await self._socket.wait_writable()
            if self.congested:
                self._write()
                self._progress.unpark_all()

    def _die(self) -> None:
        self.dead = True
        self.idle = self.congested = False
        self._pending.clear()
        self._droppable.clear()
        self._bytes = self._replies = 0
        self._overflowed = False
        self._front, self._rest, self._rest_key = b"", None, None
        self._progress.unpark_all()

    async def replies_taken(self) -> None:
        """Return when no reply waits or is half written.

        Called before reading requests: a peer that does not read its replies is not read either (back-pressure).
        """
        while self.congested and self._replies:
            await self._progress.park()

    async def written(self) -> None:
        """Return when nothing waits, or the connection is gone. It may never return while pushes keep coming in."""
        self.flush()
        while self.congested:
            await self._progress.park()

    def __len__(self) -> int:
        """Return how many entries wait."""
        return len(self._pending) + bool(self._front) + (self._rest is not None)

    # The stream of the connection -------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes, and wait until they are written. If cancelled, they still are written."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.dead:
            raise trio.BrokenResourceError("the connection is gone")
        if not data:
            await trio.lowlevel.checkpoint()
            return
        key = self.reply(bytes(data))
        if is_close(data):
            self._closing, self.idle = True, False
        self.flush()
        while key in self._pending or key == self._rest_key:
            await self._progress.park()
        if self.dead:
            raise trio.BrokenResourceError("the connection is gone")
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until nothing waits."""
        await self.written()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return `before`, then what the socket receives."""
        if self._before:
            await trio.lowlevel.checkpoint()
            size = max_bytes or len(self._before)
            data, self._before = self._before[:size], self._before[size:]
            return data
        return await self._socket.receive_some(max_bytes or RECEIVE_BYTES)

    async def aclose(self) -> None:
        """Close the socket; all that waits is lost."""
        self._die()
        self._try_send = _closed
        await self._socket.aclose()


def _closed(_data: bytes | memoryview) -> int:
    """Refuse to write: the descriptor may be another socket's by now."""
    raise trio.BrokenResourceError("the connection was closed")
