"""Target: the reader of a client's frames, against wsproto and ``websockets``.

An input is the seed of a split (2 bytes) and a stream of frames. All three are fed with the same bytes, cut at the same
places. They must hand out the same messages and control frames, then refuse, close, or wait for more. Differences that
are no fault of the reader:

- neither has the reader's limit of size (so what they hand out beyond it is not compared);
- wsproto takes half a surrogate for the beginning of a character, as CPython's incremental decoder does, does not know
  close code 1014, and looks at the first two bytes of a frame when it has the whole length;
- ``websockets`` looks at nothing but mask, opcode and size before it has all of a frame, leaves text to its caller,
  does not insist on the shortest form of a length, and refuses a close frame within a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol
from wsproto.frame_protocol import Frame as WsprotoFrame, FrameProtocol, Opcode as WsprotoOpcode, ParseFailed

from bench.trials.fuzz.mutation import damage
from bench.trials.fuzz.streams import frame, odd_frame
from bench.trials.fuzz.target import Broken, Target
from softstate.wire.websocket import FrameReader, PeerClose, Ping, Pong, Violation, ViolationCode

MESSAGE_BYTES_MAX = 300
TEXTS = ("", "a", "für ☃", "𝄞" * 9, "\ud800", "\x00\uffff", "x" * 126, "y" * 299)
LENGTHS = ("shortest form", "at most 125 bytes")
"""Words of refusals that ``websockets`` does not have: the second, too, is told by the form of a length."""

UNKNOWN_CODE = "CLOSE with unknown reserved code"
"""The words of wsproto's refusal of close code 1014."""

CLOSES = (b"", b"\x03\xe8bye", b"\x0f\xa0", b"\x03\xf6", b"\x03", b"\x03\xe8\xe2\x98", b"\x03\xec")


@dataclass
class Told:
    """The events that one reader has handed out, and its end."""

    events: list[bytes | str | Ping | Pong] = field(default_factory=list)
    end: PeerClose | int | None = None
    """The peer's close frame, or the close code of a violation."""
    reason: str = ""


class FramesTarget(Target):
    """Streams of frames, most of them right."""

    name = "frames"

    def make(self, random: Random) -> bytes:
        """Write messages in fragments with control frames between, and damage some."""
        parts: list[bytes] = []
        for _ in range(random.randrange(1, 6)):
            if random.random() < 0.15:
                parts.append(odd_frame(random, masked=True))
            else:
                parts += _message(random)
        if random.random() < 0.3:
            parts.append(_masked(random, 8, random.choice(CLOSES)))
        data = b"".join(parts)
        return random.randbytes(2) + (damage(data, random) if random.random() < 0.4 else data)

    async def check(self, data: bytes) -> str:
        """Feed all three; compare the reader with the others, and with itself when it gets all at once."""
        chunks = _split(data[2:], Random(data[:2].hex()))
        ours = _read(chunks)
        at_once = _read([data[2:]])
        if at_once != ours:
            raise Broken(f"cut as {chunks} the reader told {ours}, at once {at_once}")
        _compare_with_wsproto(ours, chunks)
        _compare_with_websockets(ours, chunks)
        if isinstance(ours.end, int):
            return str(ours.end)
        return "waits" if ours.end is None else "closed"


def _message(random: Random) -> list[bytes]:
    """Return the frames of one message, with control frames between them."""
    opcode = random.choice([1, 1, 2])
    payload = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    if opcode == 2:
        payload = random.randbytes(random.choice([0, 5, 125, 126, 300, 301]))
    cuts = sorted(random.randrange(len(payload) + 1) for _ in range(random.choice([0, 0, 1, 2, 4])))
    frames = list(zip([0, *cuts], [*cuts, len(payload)], strict=True))
    made = []
    for index, (begin, end) in enumerate(frames):
        made.append(_masked(random, 0 if index else opcode, payload[begin:end], fin=index == len(frames) - 1))
        if random.random() < 0.2:
            made.append(_masked(random, random.choice([9, 10]), random.randbytes(random.choice([0, 3, 125]))))
    return made


def _masked(random: Random, opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    made = frame(opcode, payload, masked=True, fin=fin)
    if random.random() < 0.3:
        return made
    mask = random.randbytes(4)
    head = len(made) - len(payload) - 4
    return made[:head] + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def _split(data: bytes, random: Random) -> list[bytes]:
    if random.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(6)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _read(chunks: Sequence[bytes]) -> Told:
    reader = FrameReader(MESSAGE_BYTES_MAX)
    told = Told()
    for chunk in chunks:
        for event in reader.feed(chunk):
            if told.end is not None:
                raise Broken(f"{event!r} after the end")
            if isinstance(event, Violation):
                told.end, told.reason = event.code, event.reason
            elif isinstance(event, PeerClose):
                told.end = event
            else:
                told.events.append(event)
    return told


def _differ(ours: Told, theirs: Told, library: str) -> Broken:
    return Broken(f"the reader told {ours}\n{library} told {theirs}")


def _compare_with_wsproto(ours: Told, chunks: Sequence[bytes]) -> None:
    protocol = FrameProtocol(client=False, extensions=[])
    theirs = Told()
    parts: list[bytes | str] = []
    for chunk in chunks:
        _feed_wsproto(protocol, theirs, parts, chunk)
    if ours.end == ViolationCode.TOO_BIG:
        if theirs.events[: len(ours.events)] != ours.events:
            raise _differ(ours, theirs, "wsproto")
        return
    if ours.end == ViolationCode.PROTOCOL and theirs.end is None:
        _feed_wsproto(protocol, theirs, parts, bytes(8))
    if ours.end == ViolationCode.NOT_UTF8 and (theirs.events, theirs.end) != (ours.events, ours.end):
        if theirs.reason == UNKNOWN_CODE and theirs.events == ours.events:
            return  # it does not look at the reason behind that code
        decoder = protocol._message_decoder.decoder  # noqa: SLF001 - its only trace of half a character
        half = decoder.getstate()[0] if decoder is not None else b""
        surrogate = (half[:1] == b"\xed" and half[1:2] >= b"\xa0") or "0xed" in theirs.reason
        if not surrogate or theirs.events[: len(ours.events)] != ours.events:
            raise _differ(ours, theirs, "wsproto")
        return
    unknown = isinstance(ours.end, PeerClose) and ours.end.code == 1014 and theirs.end == ViolationCode.PROTOCOL
    if theirs.events != ours.events or (theirs.end != ours.end and not unknown):
        raise _differ(ours, theirs, "wsproto")


def _feed_wsproto(protocol: FrameProtocol, told: Told, parts: list[bytes | str], data: bytes) -> None:
    if told.end is not None:
        return
    protocol.receive_bytes(data)
    try:
        for each in protocol.received_frames():
            _take_wsproto(each, told, parts)
    except ParseFailed as failed:
        told.end, told.reason = int(failed.code), str(failed)


def _take_wsproto(each: WsprotoFrame, told: Told, parts: list[bytes | str]) -> None:
    payload = each.payload
    if each.opcode is WsprotoOpcode.CLOSE:
        assert isinstance(payload, tuple)
        told.end = PeerClose(int(payload[0]), payload[1])
    elif each.opcode in (WsprotoOpcode.PING, WsprotoOpcode.PONG):
        assert isinstance(payload, bytes | bytearray)
        told.events.append(Ping(bytes(payload)) if each.opcode is WsprotoOpcode.PING else Pong(bytes(payload)))
    else:
        assert not isinstance(payload, tuple)
        parts.append(payload)
        if each.message_finished:
            whole = b"" if each.opcode is WsprotoOpcode.BINARY else ""
            told.events.append(whole.join(parts))  # type: ignore[arg-type]
            parts.clear()


def _compare_with_websockets(ours: Told, chunks: Sequence[bytes]) -> None:
    protocol = Protocol(SERVER, state=OPEN, max_size=2 * MESSAGE_BYTES_MAX)
    theirs = Told()
    message: list[Frame] = []
    for chunk in chunks:
        _feed_websockets(protocol, theirs, message, chunk)
    if ours.end in (ViolationCode.TOO_BIG, ViolationCode.NOT_UTF8) or any(words in ours.reason for words in LENGTHS):
        if theirs.events[: len(ours.events)] != ours.events:
            raise _differ(ours, theirs, "websockets")
        return
    # Until it has all of the frame, or of its length.
    padding = 2 * MESSAGE_BYTES_MAX + 14
    while isinstance(ours.end, int) and theirs.end is None and padding:
        _feed_websockets(protocol, theirs, message, b"\0")
        padding -= 1
    within = isinstance(ours.end, PeerClose) and isinstance(theirs.end, int) and protocol.current_size is not None
    alike = theirs.end == ours.end or (isinstance(ours.end, int) and isinstance(theirs.end, int)) or within
    if theirs.events != ours.events or not alike:
        raise _differ(ours, theirs, "websockets")


def _feed_websockets(protocol: Protocol, told: Told, message: list[Frame], data: bytes) -> None:
    if told.end is not None:
        return
    protocol.receive_data(data)
    for each in protocol.events_received():
        assert isinstance(each, Frame)
        if told.end is None:
            _take_websockets(each, told, message)
    if told.end is None and protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        told.end, told.reason = protocol.close_sent.code, str(protocol.parser_exc)


def _take_websockets(each: Frame, told: Told, message: list[Frame]) -> None:
    if each.opcode is Opcode.CLOSE:
        close = Close.parse(each.data)
        told.end = PeerClose(close.code, close.reason)
    elif each.opcode is Opcode.PING:
        told.events.append(Ping(bytes(each.data)))
    elif each.opcode is Opcode.PONG:
        told.events.append(Pong(bytes(each.data)))
    else:
        message.append(each)
        if not each.fin:
            return
        data = b"".join(part.data for part in message)
        text = message[0].opcode is Opcode.TEXT
        message.clear()
        try:
            told.events.append(data.decode() if text else data)
        except UnicodeDecodeError:
            told.end = int(ViolationCode.NOT_UTF8)
