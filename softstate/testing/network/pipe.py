"""One direction of one simulated connection: bytes under way, faults as TCP shows them, and waiting tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeAlias, final

import trio

from softstate.testing.network.frame_tap import Frame, FrameTap
from softstate.testing.network.route import Medium, Route


class _Mark(Enum):
    END = "end"
    RESET = "reset"


_Item: TypeAlias = bytes | _Mark


class Carrier(Protocol):
    """The connection that a pipe is one direction of."""

    number: int

    def reset(self) -> None:
        """Break both ends at once."""

    def check_blocked(self) -> None:
        """Lose or reset the connection if its kind is blocked on its way."""


@final
class Pipe:
    """Carries bytes from one end of a connection to the other, in order, through a tap and a route.

    `lost`: nothing arrives any more, and neither end notices. `sender_gone`: the sending process has ended; its
    later writes are dropped. `broken`: the receiving end was reset. `receiver_closed`: data that arrives is answered
    with a reset.
    """

    def __init__(self, medium: Medium, route: Route, connection: Carrier, *, from_client: bool) -> None:
        self.route = route
        self.tap = FrameTap(from_client=from_client)
        self._from_client = from_client
        self.reverse: Pipe
        self.lost = False
        self.sender_gone = False
        self.broken = False
        self.receiver_closed = False
        self._medium = medium
        self._connection = connection
        self._reads = 0
        self._used = 0
        self._last_arrival_s = 0.0
        self._held: deque[_Item] = deque()
        self._inbox: deque[bytes] = deque()
        self._ended: _Mark | None = None
        self._marked: _Mark | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    # The sending end -------------------------------------------------------------------------------------------------

    def try_send(self, data: bytes | memoryview) -> int:
        """Take as many bytes as fit; return how many. Raises `trio.BrokenResourceError` after a reset."""
        if self.broken:
            raise trio.BrokenResourceError("connection reset by peer")
        if self.sender_gone:
            return len(data)
        size = min(len(data), self.route.window_bytes - self._used)
        if self.route.chunk_bytes is not None and size > 1:
            size = self._medium.random.randint(1, size)
        if size <= 0:
            return 0
        self._pass(self.tap.feed(bytes(data[:size])))
        return size

    async def wait_writable(self) -> None:
        """Return when there may be room, or the connection is broken."""
        while self._used >= self.route.window_bytes and not (self.broken or self.sender_gone):
            await self._writers.park()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """End the direction: nothing follows."""
        self._mark(_Mark.END)

    def abort(self) -> None:
        """Reset the connection, as seen by the receiving end."""
        self._mark(_Mark.RESET)

    def _mark(self, mark: _Mark) -> None:
        if self.sender_gone or self._marked in (mark, _Mark.RESET):
            return
        self._marked = mark
        if rest := self.tap.flush():
            self._transmit(rest)
        self._schedule(mark)

    def _pass(self, frames: Sequence[Frame]) -> None:
        out = bytearray()
        medium, route = self._medium, self.route
        for frame in frames:
            medium.on_frame(self._connection.number, route, frame)
            rule = medium.rule_for(route, frame)
            match rule.fault if rule is not None else "observe":
                case "drop":
                    pass
                case "duplicate":
                    out += frame.data * 2
                case "delay":
                    assert rule is not None
                    medium.at(trio.current_time() + rule.delay_s, lambda data=frame.data: self._transmit(data))  # type: ignore[misc]
                case "cut":
                    self._transmit(bytes(out))
                    self._connection.reset()
                    return
                case _:
                    out += frame.data
        self._transmit(bytes(out))
        if self.tap.kind != "unknown" and route.blocked:
            self._connection.check_blocked()

    def _transmit(self, data: bytes) -> None:
        chunk_max = self.route.chunk_bytes
        if chunk_max is None:
            if data:
                self._schedule(data)
            return
        while data:
            size = self._medium.random.randint(1, chunk_max)
            self._schedule(data[:size])
            data = data[size:]

    def _schedule(self, item: _Item) -> None:
        if isinstance(item, bytes):
            self._used += len(item)
        at_s = max(trio.current_time() + self.route.delay(self._medium.random), self._last_arrival_s)
        self._last_arrival_s = at_s
        self._medium.at(at_s, lambda: self._arrive(item))

    # On the way ------------------------------------------------------------------------------------------------------

    def _arrive(self, item: _Item) -> None:
        if self.lost:
            return
        if self.route.stalled or self._held:
            self._held.append(item)
        else:
            self._deliver(item)

    def release(self) -> None:
        """Deliver the bytes that a stall has held up, unless the route is still stalled."""
        while self._held and not self.route.stalled and not self.lost:
            self._deliver(self._held.popleft())

    def reset_receiver(self) -> None:
        """Break the receiving end at once."""
        self._deliver(_Mark.RESET)

    def _deliver(self, item: _Item) -> None:
        if isinstance(item, bytes):
            if self.receiver_closed:
                self._used -= len(item)
                self.reverse.abort()
                return
            if self._ended is None:
                self._inbox.append(item)
        elif self._ended is not _Mark.RESET:
            self._ended = item
            if item is _Mark.RESET:
                self.reverse.break_off()
        self.wake_reader()

    # The receiving end -----------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int) -> bytes:
        """Return the next piece as it arrived, cut to `max_bytes`; empty at the end."""
        await trio.lowlevel.checkpoint()
        host = self.route.receiver
        if pause_s := self._medium.reading_pause_s.get(host):
            await trio.sleep(pause_s)
        processor = self._medium.processors.get(host) if self._from_client else None
        while not self.receiver_closed:
            if host in self._medium.not_reading:
                pass
            elif self._inbox and processor is not None:
                work, cost_s = processor.capacity.of_read(self.tap.kind, self._reads)
                self._reads += 1
                await processor.serve(work, cost_s, wasted=self.reverse.receiver_closed)
                processor = None
                continue
            elif self._inbox:
                return self._take(max_bytes)
            elif self._ended is _Mark.RESET:
                raise trio.BrokenResourceError("connection reset by peer")
            elif self._ended is _Mark.END:
                return b""
            await self._readers.park()
        raise trio.ClosedResourceError("this end was closed")

    def _take(self, max_bytes: int) -> bytes:
        chunk = self._inbox.popleft()
        if len(chunk) > max_bytes:
            self._inbox.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._used -= len(chunk)
        self._writers.unpark_all()
        return chunk

    def close_receiver(self) -> bool:
        """Close the receiving end; return whether data was left unread, which resets the connection."""
        self.receiver_closed = True
        self.wake_reader()
        self._writers.unpark_all()
        return bool(self._inbox)

    def break_off(self) -> None:
        """Refuse to send: the other end has reset the connection."""
        self.broken = True
        self._writers.unpark_all()

    def end_sender(self) -> None:
        """Drop later writes of the sender: its process has ended."""
        self.sender_gone = True
        self._writers.unpark_all()

    def lose(self) -> None:
        """Let nothing arrive any more, not even bytes that are under way."""
        self.lost = True
        self._held.clear()

    def wake_reader(self) -> None:
        """Wake a waiting receiver."""
        self._readers.unpark_all()
