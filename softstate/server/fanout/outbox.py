"""The outbox: everything one connection is owed, in order, written without waiting for it (P-PUB-8).

It knows of its socket only how to write to it, and how to be told when the socket takes more. All frames of a
connection pass through it, pongs and closes too, so no frame is torn or interleaved with another. While the socket
takes what it is given, a push is one non-blocking write, straight from the hub's loop. Once it does not take the whole,
the outbox is *congested*: a newer change replaces the pending one of its topic in place, until the owner calls
`writable`.

Nothing here waits, and most connections owe nothing most of the time: the containers of what waits are made when they
are first needed, which saves half a KiB a connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import trio

from softstate.server.measure.traffic import Traffic
from softstate.wire.codec import Codec
from softstate.wire.push import PushBatch

WRITE_BYTES = 128 * 1024
"""Most bytes that one write offers: enough to fill a socket buffer, few enough to copy."""

GONE = (OSError, trio.BrokenResourceError)
"""Errors that a write raises once the connection is gone."""

_FIRST = -2
"""Key of the frame that waits right behind the anchor: of no reply, as that of no anchor."""

_BEAT = b"beat"
"""Key of the beat that waits: neither a push, whose key is its topic, nor a reply, whose key is a number."""

Key: TypeAlias = str | int | bytes

_NOTHING: dict[Key, bytes] = {}
_NO_KEYS: dict[int, None] = {}


@dataclass(frozen=True, slots=True)
class OutboxBounds:
    """The bounds of all outboxes of one node: entries and bytes that wait, and seconds of congestion, by `now`."""

    pending_max: int
    pending_bytes_max: int
    congested_s_max: float
    now: Callable[[], float] = trio.current_time


class Outbox:
    """One connection's queue; see the module docstring.

    `write` takes what can be taken without waiting, and returns how many bytes that was: 0, or `BlockingIOError`, if
    none, and another of `GONE` when the connection is gone. `want_write(True)` asks for calls of `writable` as soon as
    the socket takes more; it is also called when the connection is found gone, so that its owner finds the outbox
    `dead`. `traffic` counts what was written.

    `overdue` is called, from `flush`, when more entries or bytes wait than `bounds` allow, or the socket has been
    congested for too long (and again after each further such time; the owner has to call `check` from `overdue_at`
    on). Pushes have been lost by then: the owner revokes the lease, if there is one, and drops all that waits
    (P-CONN-6). A frame that the peer has begun to receive is no longer counted: it must be finished, and there is
    never more than one.
    """

    __slots__ = (
        "_bounds", "_bytes", "_closing", "_droppable", "_front", "_next_key", "_overdue", "_overflowed", "_pending",
        "_replies", "_rest", "_rest_key", "_traffic", "_want_write", "_write_to", "anchor", "congested", "dead", "idle",
        "overdue_at", "sent",
    )  # fmt: skip

    def __init__(
        self,
        write: Callable[[bytes | memoryview], int],
        want_write: Callable[[bool], None],
        overdue: Callable[[], None],
        bounds: OutboxBounds,
        traffic: Traffic | None = None,
    ) -> None:
        self.sent = 0
        """Number of `notify`s written, or waiting to be written ahead of the next message queued (P-REN-9)."""
        self.congested = False
        self.dead = False
        self.idle = True
        """Whether nothing waits and the socket may be written to: only then may `push` be called."""
        self.anchor = -1
        """Key of a reply that nothing may overtake: the welcome, before which a client knows no position."""
        self.overdue_at = math.inf
        """Time at which the socket will have been congested for too long."""
        self._write_to = write
        self._want_write = want_write
        self._overdue = overdue
        self._bounds = bounds
        self._traffic = traffic or Traffic()
        self._pending = _NOTHING
        self._bytes = 0
        self._front = b""
        self._rest: memoryview | None = None
        self._rest_key: Key | None = None
        self._next_key = 0
        self._droppable = _NO_KEYS
        self._replies = 0
        self._overflowed = False
        self._closing = False

    # Queueing -------------------------------------------------------------------------------------------------------

    def __contains__(self, topic: object) -> bool:
        """Tell whether a change of a topic waits."""
        return topic in self._pending

    def topics(self) -> Iterator[str]:
        """List the topics of which a change waits, in order."""
        return (key for key in self._pending if isinstance(key, str))

    @property
    def congested_s(self) -> float:
        """Seconds for which the socket has taken less than it was offered; 0 if it takes all."""
        return max(self._bounds.now() + self._bounds.congested_s_max - self.overdue_at, 0.0) if self.congested else 0.0

    @property
    def pending_bytes(self) -> int:
        """The bytes that wait."""
        return self._bytes

    def push(self, data: bytes, batch: PushBatch, codec: Codec) -> None:
        """Write the frames of a batch, joined in `data`, at once: for an `idle` outbox only. The rest is queued."""
        if len(data) > WRITE_BYTES:
            for change in batch.changes:
                self.notify(change.record.topic, change.frame(codec))
            self.flush()
            return
        try:
            taken = self._write_to(data)
        except BlockingIOError:
            taken = 0
        except GONE:
            self._find_gone()
            return
        self._traffic.sent += taken
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
            else:
                taken = self._count_off(change.record.topic, frame, taken)
                self.sent += 1
        self.flush()

    def notify(self, topic: str, frame: bytes) -> None:
        """Queue a push. One that waits already for this topic is replaced, and keeps its place (P-CONN-7, P-REN-4)."""
        if self._overflowed or self.dead or self._closing:
            return
        self.idle = False
        pending = self._pending or self._begin_pending()
        older = pending.get(topic)
        pending[topic] = frame
        if older is None:
            self.sent += 1
            self._bytes += len(frame)
        else:
            self._bytes += len(frame) - len(older)
        if len(pending) > self._bounds.pending_max or self._bytes > self._bounds.pending_bytes_max:
            self._check_bounds()

    def reply(self, frame: bytes, *, droppable: bool = False) -> int:
        """Queue a frame that nothing replaces, and return its key. `droppable`: `drop` drops it with the pushes."""
        key = self._next_key
        self._next_key += 1
        if self.dead or self._closing:
            return key
        self.idle = False
        pending = self._pending or self._begin_pending()
        pending[key] = frame
        self._bytes += len(frame)
        self._replies += 1
        if droppable:
            if not self._droppable:
                self._droppable = {}
            self._droppable[key] = None
        if len(pending) > self._bounds.pending_max or self._bytes > self._bounds.pending_bytes_max:
            self._check_bounds()
        return key

    def beat(self, frame: bytes) -> None:
        """Queue a beat behind all that waits, unless one waits already, which keeps its place (P-BEAT-4)."""
        if self.dead or self._closing or self._overflowed or _BEAT in self._pending:
            return
        self.idle = False
        pending = self._pending or self._begin_pending()
        pending[_BEAT] = frame
        self._bytes += len(frame)
        self.flush()

    def _begin_pending(self) -> dict[Key, bytes]:
        self._pending = {}
        return self._pending

    def first(self, frame: bytes) -> None:
        """Queue a frame ahead of everything pending but the `anchor`; it replaces an older such frame."""
        if self.dead or self._closing:
            return
        self.idle = False
        pending = self._pending
        older = pending.get(_FIRST)
        if older is not None:
            # Behind the anchor still, or ahead of all others, since the anchor was written.
            pending[_FIRST] = frame
            self._bytes += len(frame) - len(older)
        elif self.anchor in pending:
            pending = self._pending = self._with_first(frame)
            self._front = b""
            self._bytes += len(frame)
            self._replies += 1
        else:
            self._front = frame
            return
        if len(pending) > self._bounds.pending_max or self._bytes > self._bounds.pending_bytes_max:
            self._check_bounds()

    def ahead(self, frame: bytes) -> None:
        """Queue a reply ahead of everything pending but the `anchor`; nothing replaces it."""
        key = self.reply(frame)
        if key not in self._pending:
            return
        pending = self._pending
        del pending[key]
        order: dict[Key, bytes] = {} if self.anchor in pending else {key: frame}
        for each, waiting in pending.items():
            order[each] = waiting
            if each == self.anchor:
                order[key] = frame
        self._pending = order

    def _with_first(self, frame: bytes) -> dict[Key, bytes]:
        order: dict[Key, bytes] = {}
        for key, waiting in self._pending.items():
            order[key] = waiting
            if key == self.anchor:
                order[_FIRST] = frame
        return order

    def close(self, frame: bytes) -> None:
        """Queue the frame behind which nothing may follow (RFC 6455 section 5.5.1): what comes later is dropped."""
        self.reply(frame)
        self._closing, self.idle = True, False

    def drop(self) -> None:
        """Drop pending pushes, beats and the droppable replies; what the peer has begun to receive is finished."""
        kept: dict[Key, bytes] = {}
        for key, frame in self._pending.items():
            if isinstance(key, str):
                self.sent -= 1
            elif key in self._droppable:
                self._replies -= 1
            elif key != _BEAT:
                kept[key] = frame
        self._pending = kept or _NOTHING
        self._droppable = _NO_KEYS
        self._bytes = sum(map(len, kept.values()))
        self._overflowed = False

    def discard(self, kept: Callable[[str], bool]) -> None:
        """Drop pending pushes of topics that are not `kept`, and a beat, which tells how many were sent ahead of it.

        What the peer has begun to receive is finished.
        """
        dropped = [key for key in self._pending if key == _BEAT or (isinstance(key, str) and not kept(key))]
        for key in dropped:
            self._bytes -= len(self._pending.pop(key))
            self.sent -= key != _BEAT

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
        bounds = self._bounds
        if len(self._pending) - (_BEAT in self._pending) > bounds.pending_max or self._bytes > bounds.pending_bytes_max:
            self._overflowed = True

    # Writing --------------------------------------------------------------------------------------------------------

    def writable(self) -> None:
        """Go on writing: the socket takes more, or is found gone."""
        self._write()
        if not self.congested and not self.dead:
            self._want_write(False)

    def check(self, now: float) -> None:
        """Find the outbox overdue if it has been congested for too long."""
        if now >= self.overdue_at:
            self.overdue_at = now + self._bounds.congested_s_max
            self._overflowed = True
            self.flush()

    def _write(self) -> None:
        try:
            while self._rest is not None or self._front or self._pending:
                if not self._write_some():
                    if not self.congested:
                        self._congest()
                    return
        except GONE:
            self._find_gone()
            return
        self._pending, self._droppable = _NOTHING, _NO_KEYS
        self.congested, self.overdue_at = False, math.inf
        self.idle = not (self.dead or self._closing)

    def _congest(self) -> None:
        self.congested, self.idle = True, False
        self.overdue_at = self._bounds.now() + self._bounds.congested_s_max
        self._want_write(True)

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
        if taken == size and len(keys) == len(self._pending):
            # All that waited, as nearly always: `_write` forgets the entries.
            self._front = b""
            self._bytes = self._replies = 0
            self._pending = _NOTHING
        else:
            self._took(taken, keys)
        return taken == size

    def _offer(self, data: bytes | memoryview) -> int:
        try:
            taken = self._write_to(data)
        except BlockingIOError:
            return 0
        self._traffic.sent += taken
        return taken

    def _write_rest(self, rest: memoryview) -> bool:
        taken = self._offer(rest)
        if taken < len(rest):
            self._rest = rest[taken:]
            return False
        self._replies -= isinstance(self._rest_key, int)
        self._rest = self._rest_key = None
        return True

    def _took(self, taken: int, keys: list[Key]) -> None:
        if self._front and taken:
            taken = self._count_off(None, self._front, taken)
            self._front = b""
        for key in keys:
            if taken <= 0:
                return
            frame = self._pending.pop(key)
            self._bytes -= len(frame)
            if isinstance(key, int):
                self._droppable.pop(key, None)
            taken = self._count_off(key, frame, taken)

    def _count_off(self, key: Key | None, frame: bytes, taken: int) -> int:
        if taken < len(frame):
            self._rest, self._rest_key = memoryview(frame)[taken:], key
        else:
            self._replies -= isinstance(key, int)
        return taken - len(frame)

    # The end --------------------------------------------------------------------------------------------------------

    def _find_gone(self) -> None:
        self.end()
        self._want_write(True)

    def end(self) -> None:
        """Lose all that waits, and write no more: the descriptor may soon be another socket's."""
        self.dead = True
        self.idle = self.congested = False
        self.overdue_at = math.inf
        self._pending, self._droppable = _NOTHING, _NO_KEYS
        self._bytes = self._replies = 0
        self._overflowed = False
        self._front, self._rest, self._rest_key = b"", None, None
        self._write_to = _closed

    def replies_taken(self) -> bool:
        """Tell whether no reply waits, or is half written.

        Asked before requests are read: a peer that does not read its replies is not read either (back-pressure).
        """
        return not (self.congested and self._replies)

    def __len__(self) -> int:
        """Return how many entries wait."""
        return len(self._pending) - (_BEAT in self._pending) + bool(self._front) + (self._rest is not None)


def _closed(_data: bytes | memoryview) -> int:
    """Refuse to write: the descriptor may be another socket's by now."""
    raise BrokenPipeError("the connection was closed")
