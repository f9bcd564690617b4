"""Reader of a client's frames: bytes in, whole messages and control frames out (RFC 6455 section 5).

The bytes may be cut anywhere. The reader holds a peer to all that the RFC says of a client's frames (P-CONN-14), and to
limits of our own (P-CONN-15). A violation is handed out like a message, with the close code that answers it; nothing is
raised.
"""

from __future__ import annotations

from softstate.wire.websocket.events import NO_CODE, PeerClose, Ping, Pong, Received, Violated, Violation, ViolationCode
from softstate.wire.websocket.frames import CONTROL_BYTES_MAX, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_TEXT
from softstate.wire.websocket.masking import rotate, unmask
from softstate.wire.websocket.partial_message import NOT_UTF8, PartialMessage

FRAGMENTS_MAX = 1_024
"""Most frames of one message. Empty ones cost the peer 6 bytes each, and add nothing to the message's size."""

CONTROLS_MAX = 1_024
"""Most pings and pongs between the ends of two messages; a client renews its lease, by a message, more often."""

_FIN = 0x80
_OPCODE = 0x0F
_CONTROL = 0x08
_MASKED = 0x80
_SIZE = 0x7F
_SIZE_IN_2_BYTES = 126
_CONTINUATION = 0x0
_WHOLE_TEXT = _FIN | OPCODE_TEXT
_WHOLE_BINARY = _FIN | OPCODE_BINARY
_WHOLE = frozenset({_WHOLE_TEXT, _WHOLE_BINARY})

_CLOSE_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))
"""The codes that a peer may send: those that the RFC and its registry define for a close frame, and two free ranges."""


def _faults() -> dict[int, str]:
    found = {}
    for first in range(256):
        opcode = first & _OPCODE
        if first & 0x70:
            found[first] = "a reserved bit is set: no extension was agreed"
        elif opcode & 0x07 > 2:
            found[first] = f"opcode {opcode} is reserved"
        elif opcode & _CONTROL and not first & _FIN:
            found[first] = "a control frame must not be fragmented"
    return found


_FAULTS = _faults()
"""The first bytes that no frame has, each with the reason."""


class FrameReader:
    """One connection's reader.

    A message has at most `message_bytes_max` bytes and `fragments_max` frames, and at most `controls_max` pings and
    pongs come between the ends of two messages. All are refused as soon as a frame's head tells of too many.
    """

    __slots__ = (
        "_controls", "_controls_max", "_final", "_fragments_max", "_head", "_mask", "_message_bytes_max", "_partial",
        "_room", "ended", "missing",
    )  # fmt: skip

    def __init__(
        self, message_bytes_max: int, *, fragments_max: int = FRAGMENTS_MAX, controls_max: int = CONTROLS_MAX
    ) -> None:
        self.ended = False
        """Whether a close frame or a violation came: nothing is read any more."""
        self.missing = 0
        """How many bytes of a data frame are still to come, as its head says; 0 between frames.

        So many can be received at once: they are of one frame, and make no work beside themselves.
        """
        self._message_bytes_max = message_bytes_max
        self._fragments_max = fragments_max
        self._controls_max = controls_max
        self._head = b""
        """A frame that is not complete, from its beginning: of a data frame the head alone, so 130 bytes at most."""
        self._partial: PartialMessage | None = None
        self._room = message_bytes_max
        """How many bytes more the message may have that is being received, or the next one."""
        self._mask = b""
        self._final = False
        """Whether the frame of which bytes are missing ends its message."""
        self._controls = 0

    @property
    def held_bytes(self) -> int:
        """The bytes of a message that is not complete."""
        return 0 if self._partial is None else self._partial.held_bytes

    def stop(self) -> None:
        """Read nothing any more, and forget what is not complete."""
        self.ended = True
        self.missing = 0
        self._partial = None

    def feed(self, data: bytes) -> list[Received]:
        """Return what is complete with these bytes, in order.

        A `PeerClose` or a `Violation` is the last that is ever returned; messages ahead of it, in the same bytes, are
        returned ahead of it. Takes time in proportion to `data` alone, so the caller bounds it.
        """
        received: list[Received] = []
        if not self.ended:
            try:
                self._read(data, received)
            except Violated as violated:
                self._end(received, violated.violation)
        return received

    def _read(self, data: bytes, received: list[Received]) -> None:
        at = 0
        if self.missing:
            at = self._read_missing(data, received)
        elif self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            # Nearly all that a node receives: whole messages, of one frame each.
            plain = first in _WHOLE and self._partial is None
            if not plain or second < _MASKED:
                self._check_start(first, second)
            size = second & _SIZE
            body = at + 6
            if size > CONTROL_BYTES_MAX:
                body += 2 if size == _SIZE_IN_2_BYTES else 8
                if body - 4 > end:
                    break
                size = _long_size(data[at + 2 : body - 4])
            if size > self._room and not first & _CONTROL:
                raise Violated(ViolationCode.TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")
            stop = body + size
            if stop > end:
                if body <= end and not first & _CONTROL:
                    self._begin_frame(first, data[body - 4 : body], data[body:], size)
                    return
                break
            payload = unmask(data[body:stop], data[body - 4 : body])
            at = stop
            if plain:
                received.append(payload if first == _WHOLE_BINARY else _text(payload))
                self._controls = 0
                continue
            self._take(first, size, payload, received)
            if self.ended:
                return
        self._head = data[at:]

    def _check_start(self, first: int, second: int) -> None:
        """Check all that the first two bytes of a frame tell."""
        if first in _FAULTS:
            raise Violated(ViolationCode.PROTOCOL, _FAULTS[first])
        if second < _MASKED:
            raise Violated(ViolationCode.PROTOCOL, "a client must mask its frames")
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            if second & _SIZE > CONTROL_BYTES_MAX:
                raise Violated(ViolationCode.PROTOCOL, f"a control frame has at most {CONTROL_BYTES_MAX} bytes")
            if self._controls >= self._controls_max and opcode != OPCODE_CLOSE:
                raise Violated(ViolationCode.TOO_MANY, f"more than {self._controls_max} pings and pongs in a row")
        elif self._partial is None:
            if opcode == _CONTINUATION:
                raise Violated(ViolationCode.PROTOCOL, "there is no message to continue")
        elif opcode != _CONTINUATION:
            raise Violated(ViolationCode.PROTOCOL, "a message must end before the next one begins")
        elif self._partial.fragments >= self._fragments_max:
            raise Violated(ViolationCode.TOO_MANY, f"a message has at most {self._fragments_max} fragments")

    def _take(self, first: int, size: int, payload: bytes, received: list[Received]) -> None:
        """Take a control frame, or a frame that is not all of its message."""
        if first & _CONTROL:
            self._take_control(first & _OPCODE, payload, received)
            return
        partial = self._begin_fragment(first, size)
        if payload:
            partial.add(payload)
        if first >= _FIN:
            self._end_message(partial, received)

    def _begin_frame(self, first: int, mask: bytes, begun: bytes, size: int) -> None:
        """Take the beginning of a data frame, which may be none of its bytes."""
        self.missing = size - len(begun)
        self._mask = rotate(mask, len(begun))
        self._final = first >= _FIN
        self._begin_fragment(first, size).add(unmask(begun, mask))

    def _begin_fragment(self, first: int, size: int) -> PartialMessage:
        partial = self._partial
        if partial is None:
            partial = self._partial = PartialMessage(text=first & _OPCODE == OPCODE_TEXT)
        partial.fragments += 1
        self._room -= size
        return partial

    def _read_missing(self, data: bytes, received: list[Received]) -> int:
        """Take what was missing of a data frame, or a part of it; return how many bytes of `data` that is."""
        assert self._partial is not None
        more = data[: self.missing]
        self._partial.add(unmask(more, self._mask))
        self._mask = rotate(self._mask, len(more))
        self.missing -= len(more)
        if not self.missing and self._final:
            self._end_message(self._partial, received)
        return len(more)

    def _end_message(self, partial: PartialMessage, received: list[Received]) -> None:
        received.append(partial.whole())
        self._partial = None
        self._room = self._message_bytes_max
        self._controls = 0

    def _take_control(self, opcode: int, payload: bytes, received: list[Received]) -> None:
        if opcode == OPCODE_CLOSE:
            self._end(received, _read_close(payload))
            return
        self._controls += 1
        received.append(Ping(payload) if opcode == OPCODE_PING else Pong(payload))

    def _end(self, received: list[Received], last: PeerClose | Violation) -> None:
        received.append(last)
        self.stop()


def _read_close(payload: bytes) -> PeerClose:
    if not payload:
        return PeerClose(NO_CODE, "")
    if len(payload) == 1:
        raise Violated(ViolationCode.PROTOCOL, "a close frame has a code of two bytes, or is empty")
    code = int.from_bytes(payload[:2], "big")
    if not any(code in codes for codes in _CLOSE_CODES):
        raise Violated(ViolationCode.PROTOCOL, f"{code} is no code of a close frame")
    return PeerClose(code, _text(payload[2:]))


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Violated(ViolationCode.NOT_UTF8, NOT_UTF8) from None


def _long_size(data: bytes) -> int:
    """Return the length of a frame, of 2 or 8 bytes, which must be the shortest form of it."""
    size = int.from_bytes(data, "big")
    if size < 65_536 if len(data) == 8 else size <= CONTROL_BYTES_MAX:
        raise Violated(ViolationCode.PROTOCOL, "the length of a frame must be written in its shortest form")
    if size >> 63:
        raise Violated(ViolationCode.PROTOCOL, "the highest bit of a frame's length must be 0")
    return size
