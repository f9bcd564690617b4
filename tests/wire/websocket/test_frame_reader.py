"""The reader of clients' frames: each rule of RFC 6455 section 5, and each limit, at its first byte."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import pytest

from softstate.wire.websocket import (
    CONTROLS_MAX,
    FRAGMENTS_MAX,
    FrameReader,
    PeerClose,
    Ping,
    Pong,
    Received,
    Violation,
    ViolationCode,
    close_frame,
)
from softstate.wire.websocket.masking import unmask
from tests.wire.websocket.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    client_frame,
    cut,
    read,
)

PROTOCOL, NOT_UTF8, TOO_MANY, TOO_BIG = ViolationCode

HELLO = client_frame(TEXT, b"Hello")


def violation(received: Sequence[Received]) -> ViolationCode:
    """Return the code of the violation that ends a list."""
    assert received
    last = received[-1]
    assert isinstance(last, Violation)
    assert last.reason.isascii()
    assert close_frame(last.code, last.reason).endswith(last.reason.encode()), "the reason fits into a close frame"
    return last.code


# Messages ------------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_rfc() -> None:
    """RFC 6455 section 5.7, those that a client may send."""
    assert read([bytes.fromhex("8185 37fa213d 7f9f4d5158")]) == ["Hello"]
    assert read([bytes.fromhex("8a85 37fa213d 7f9f4d5158")]) == [Pong(b"Hello")]
    assert read([client_frame(BINARY, b"x" * 256)]) == [b"x" * 256]
    assert client_frame(BINARY, b"x" * 256)[:4] == bytes.fromhex("82fe0100")
    assert read([client_frame(BINARY, b"x" * 65_536)]) == [b"x" * 65_536]
    assert client_frame(BINARY, b"x" * 65_536)[:10] == bytes.fromhex("82ff0000000000010000")
    assert read([client_frame(TEXT, b"Hel", fin=False), client_frame(CONTINUATION, b"lo")]) == ["Hello"]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 383, 384, 385, 4_096, 65_535, 65_536, 70_003])
@pytest.mark.parametrize("mask", [MASK, bytes(4), b"\x00\xff\x00\x01"])
def test_a_message_of_any_size_and_mask_cut_anywhere(size: int, mask: bytes) -> None:
    payload = bytes(index * 7 & 0xFF for index in range(size))
    text = ("aé☃𝄞" * (size // 10 + 1)).encode()[: size // 10 * 10]
    for opcode, message in ((BINARY, payload), (TEXT, text)):
        data = client_frame(opcode, message, mask=mask)
        expected = [message if opcode == BINARY else message.decode()]
        for step in (1, 2, 3, 5, 7, 11, 997, 65_536, len(data)):
            if step * 1_000 > size:  # small steps through large messages add nothing
                assert read(cut(data, step)) == expected


def test_messages_of_one_read_are_handed_out_in_order() -> None:
    data = client_frame(BINARY, b"1") + client_frame(PING, b"p") + HELLO + client_frame(PONG) + client_frame(BINARY)
    assert read([data]) == [b"1", Ping(b"p"), "Hello", Pong(b""), b""]
    for step in range(1, len(data)):
        assert read(cut(data, step)) == [b"1", Ping(b"p"), "Hello", Pong(b""), b""]


def test_a_message_in_fragments_with_control_frames_between() -> None:
    data = b"".join([
        client_frame(TEXT, b"H", fin=False), client_frame(PING, b"1"), client_frame(CONTINUATION, b"", fin=False),
        client_frame(PONG, b"2"), client_frame(CONTINUATION, b"ello \xe2\x98", fin=False),
        client_frame(CONTINUATION, b"\x83"), client_frame(BINARY, b"\xe2", fin=False), client_frame(CONTINUATION),
    ])  # fmt: skip
    for step in (1, 2, 3, 10, len(data)):
        assert read(cut(data, step)) == [Ping(b"1"), Pong(b"2"), "Hello ☃", b"\xe2"]


def test_no_bytes_are_no_end() -> None:
    reader = FrameReader(10)
    assert reader.feed(b"") == []
    assert reader.feed(HELLO[:3]) == []
    assert reader.feed(b"") == []
    assert reader.feed(HELLO[3:]) == ["Hello"]
    assert not reader.ended


# Violations: what came ahead of them is handed out, and nothing behind them -----------------------------------------

FAULTS: dict[str, tuple[bytes, ViolationCode]] = {
    "unmasked": (b"\x82\x01", PROTOCOL),
    "unmasked text": (b"\x81\x00", PROTOCOL),
    "unmasked ping": (b"\x89\x00", PROTOCOL),
    **{f"rsv {rsv}": (client_frame(BINARY, rsv=rsv)[:2], PROTOCOL) for rsv in range(1, 8)},
    "rsv of a ping": (client_frame(PING, rsv=4)[:2], PROTOCOL),
    **{f"opcode {opcode}": (client_frame(opcode)[:2], PROTOCOL) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"fragment of {opcode}": (client_frame(opcode, fin=False)[:2], PROTOCOL) for opcode in (CLOSE, PING, PONG)},
    **{f"126 bytes in {opcode}": (client_frame(opcode, bytes(126))[:2], PROTOCOL) for opcode in (CLOSE, PING, PONG)},
    "65,536 bytes in a ping": (client_frame(PING, bytes(65_536))[:2], PROTOCOL),
    "125 bytes in two": (b"\x82\xfe\x00\x7d", PROTOCOL),
    "0 bytes in two": (b"\x82\xfe\x00\x00", PROTOCOL),
    "65,535 bytes in eight": (b"\x82\xff" + (65_535).to_bytes(8, "big"), PROTOCOL),
    "2^63 bytes": (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), PROTOCOL),
    "2^64 - 1 bytes": (b"\x82\xff" + b"\xff" * 8, PROTOCOL),
    "nothing to continue": (client_frame(CONTINUATION)[:2], PROTOCOL),
    "nothing to end": (client_frame(CONTINUATION, fin=False)[:2], PROTOCOL),
    "too long": (b"\x82\xff" + ((1 << 20) + 1).to_bytes(8, "big"), TOO_BIG),
    "2^63 - 1 bytes are too long": (b"\x82\xff" + ((1 << 63) - 1).to_bytes(8, "big"), TOO_BIG),
    "half a code": (client_frame(CLOSE, b"\x03"), PROTOCOL),
    "no reason": (client_frame(CLOSE, b"\x03\xe8\xff"), NOT_UTF8),
    "half a reason": (client_frame(CLOSE, b"\x03\xe8\xe2\x98"), NOT_UTF8),
    "no text": (client_frame(TEXT, b"a\xff"), NOT_UTF8),
    "text that ends in a character": (client_frame(TEXT, b"a\xe2\x98"), NOT_UTF8),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_at_its_last_byte_behind_what_came_ahead(name: str) -> None:
    fault, code = FAULTS[name]
    ahead = HELLO + client_frame(PING, b"p") + client_frame(BINARY, b"1")
    for step in (1, 2, 3, 1_000):
        reader = FrameReader(1 << 20)
        assert read(cut(ahead + fault[:-1], step), reader) == ["Hello", Ping(b"p"), b"1"]
        [found] = reader.feed(fault[-1:] + HELLO)
        assert violation([found]) == code
        assert reader.ended
    received = read([ahead + fault + HELLO])
    assert received[:-1] == ["Hello", Ping(b"p"), b"1"]
    assert violation(received) == code


def test_a_first_byte_begins_a_frame_or_none() -> None:
    """Between messages four of data, within one two; and three of control frames, which are never fragments."""
    for first in range(256):
        begun = FrameReader(10)
        begun.feed(client_frame(TEXT, fin=False))
        between = {0x01, 0x02, 0x81, 0x82} | {0x88, 0x89, 0x8A}
        within = {0x00, 0x80} | {0x88, 0x89, 0x8A}
        for reader, allowed in ((FrameReader(10), between), (begun, within)):
            received = reader.feed(bytes((first, 0x80)))
            assert reader.ended == (first not in allowed)
            assert not reader.ended or violation(received) == PROTOCOL


def test_a_message_within_another_is_a_violation() -> None:
    for opcode in (TEXT, BINARY):
        received = read([client_frame(BINARY, b"1", fin=False) + client_frame(opcode, b"2")[:2]])
        assert violation(received) == PROTOCOL


@pytest.mark.parametrize("end", ["violation", "close"])
def test_nothing_is_read_after_the_end(end: str) -> None:
    reader = FrameReader(1 << 20)
    reader.feed(client_frame(BINARY, b"kept no longer", fin=False))
    [_] = reader.feed((b"\xff\xff" if end == "violation" else client_frame(CLOSE)) + HELLO)
    assert reader.feed(HELLO) == []
    assert reader.feed(b"\xff" * 1_000) == []
    assert (reader.ended, reader.missing, reader._partial, reader._head) == (True, 0, None, b"")


# UTF-8 ---------------------------------------------------------------------------------------------------------------


def test_text_is_refused_at_the_first_byte_that_cannot_be_right() -> None:
    """All that begins two, three or four bytes, against what the language itself takes for text."""

    def is_text(data: bytes) -> bool:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True

    endings = (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\x80", b"\x80\x80\x80", b"\xbf\x80\x80")
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEC, 0xED, 0xEE, 0xEF,
             0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF)  # fmt: skip
    beginnings = [bytes((first,)) for first in range(256)]
    while beginnings:
        beginning = beginnings.pop()
        right = any(is_text(beginning + ending) for ending in endings)
        for fin in (True, False):
            reader = FrameReader(1_000)
            data = client_frame(TEXT, b"a" + beginning + b"rest", fin=fin)
            received = read(cut(data[: 7 + len(beginning)], 1), reader)
            assert reader.ended != right, beginning
            assert right or violation(received) == NOT_UTF8
        if right and beginning[0] in edges and not is_text(beginning):
            beginnings += [beginning + bytes((byte,)) for byte in edges]


def test_a_character_may_be_cut_by_reads_and_fragments_alike() -> None:
    text = "a☃𝄞é\ufffd\uffff\U0010ffff\x00"
    data = text.encode()
    for step in range(1, len(data)):
        parts = cut(data, step)
        frames = [
            client_frame(TEXT if index == 0 else CONTINUATION, part, fin=False) for index, part in enumerate(parts)
        ]
        frames.append(client_frame(CONTINUATION))
        for read_step in (1, 2, 1_000):
            assert read(cut(b"".join(frames), read_step)) == [text]


def test_a_fragment_that_ends_the_text_within_a_character_is_refused() -> None:
    for last in (client_frame(CONTINUATION), client_frame(CONTINUATION, b"\x98")):
        received = read([client_frame(TEXT, b"a\xe2", fin=False), last])
        assert violation(received) == NOT_UTF8


def test_binary_messages_may_be_anything() -> None:
    assert read(cut(client_frame(BINARY, bytes(range(256))), 1)) == [bytes(range(256))]


# Close frames --------------------------------------------------------------------------------------------------------


def test_a_close_frame_ends_the_reading() -> None:
    assert read([client_frame(CLOSE) + HELLO]) == [PeerClose(1005, "")]
    assert read([client_frame(CLOSE, b"\x03\xe8")]) == [PeerClose(1000, "")]
    data = HELLO + client_frame(TEXT, b"half", fin=False) + client_frame(CLOSE, b"\x0f\xa0" + "bye ☃".encode())
    for step in range(1, len(data)):
        assert read(cut(data + HELLO, step)) == ["Hello", PeerClose(4000, "bye ☃")]
    assert read([client_frame(CLOSE, b"\x0f\xa0" + b"x" * 123)]) == [PeerClose(4000, "x" * 123)]


def test_which_codes_a_peer_may_close_with() -> None:
    """RFC 6455 sections 7.4.1 and 7.4.2, and 1012 to 1014 of the registry."""
    taken = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in [*range(5100), 0x7FFF, 0x8000, 0xFFFF]:
        received = read([client_frame(CLOSE, code.to_bytes(2, "big"))])
        if code in taken:
            assert received == [PeerClose(code, "")]
        else:
            assert violation(received) == PROTOCOL


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 10, 125, 126, 127, 65_535, 65_536])
def test_the_longest_message_fits_and_one_byte_more_is_refused_at_the_head(limit: int) -> None:
    for opcode in (TEXT, BINARY):
        reader = FrameReader(limit)
        assert len(read([client_frame(opcode, b"x" * limit)] * 2, reader)) == 2, "each message has the whole room"
        head = client_frame(opcode, b"x" * (limit + 1))[: -limit - 1]
        assert violation(reader.feed(head[:-4])) == TOO_BIG


def test_fragments_count_together() -> None:
    reader = FrameReader(10)
    begun = [client_frame(BINARY, bytes(4), fin=False), client_frame(CONTINUATION, bytes(4), fin=False)]
    for _ in range(2):
        assert read([*begun, client_frame(CONTINUATION, bytes(2))], reader) == [bytes(10)]
    assert read([*begun, client_frame(PING, bytes(125))], reader) == [Ping(bytes(125))]
    assert violation(reader.feed(client_frame(CONTINUATION, bytes(3))[:2])) == TOO_BIG


def test_a_frame_of_which_a_part_came_counts_whole() -> None:
    reader = FrameReader(10)
    assert read([client_frame(BINARY, bytes(6), fin=False)[:-3]], reader) == []
    assert read([client_frame(BINARY, bytes(6))[-3:]], reader) == []
    assert violation(reader.feed(client_frame(CONTINUATION, bytes(5)))) == TOO_BIG


@pytest.mark.parametrize("empty", [True, False])
def test_the_most_fragments_make_a_message_and_one_more_is_refused(empty: bool) -> None:
    payload = b"" if empty else b"x"
    more = client_frame(CONTINUATION, payload, fin=False)
    reader = FrameReader(1 << 20)
    for opcode in (BINARY, TEXT):
        begun = client_frame(opcode, payload, fin=False) + more * (FRAGMENTS_MAX - 2)
        message = payload * FRAGMENTS_MAX
        assert read([begun + client_frame(CONTINUATION, payload)], reader) == [
            message if opcode == BINARY else message.decode()
        ]
    assert read([begun + more], reader) == []
    assert violation(reader.feed(more[:2])) == TOO_MANY
    assert violation(read([begun + more + client_frame(CONTINUATION)])) == TOO_MANY, "also one that would end it"


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_the_most_control_frames_pass_and_one_more_is_refused(opcode: int) -> None:
    control = client_frame(opcode, b"x")
    reader = FrameReader(1 << 20)
    for message in (HELLO, client_frame(BINARY), client_frame(TEXT, fin=False) + client_frame(CONTINUATION)):
        assert len(read([control * CONTROLS_MAX], reader)) == CONTROLS_MAX
        assert len(reader.feed(message)) == 1
    assert len(read([control * (CONTROLS_MAX - 1)], reader)) == CONTROLS_MAX - 1
    assert reader.feed(client_frame(TEXT, fin=False)) == [], "a fragment ends no message"
    assert len(reader.feed(control)) == 1
    assert violation(reader.feed(control[:2])) == TOO_MANY


def test_a_close_frame_is_taken_after_the_most_control_frames() -> None:
    reader = FrameReader(10, controls_max=1)
    assert read([client_frame(PING), client_frame(CLOSE)], reader) == [Ping(b""), PeerClose(1005, "")]


def test_limits_of_its_own() -> None:
    assert (
        violation(read([client_frame(TEXT, fin=False), client_frame(CONTINUATION)], FrameReader(9, fragments_max=1)))
        == TOO_MANY
    )
    assert violation(read([client_frame(PONG)], FrameReader(9, controls_max=0))) == TOO_MANY


# Work and memory -----------------------------------------------------------------------------------------------------


def test_a_large_message_in_small_reads_is_copied_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: the bytes unmasked, checked for UTF-8, and joined again to what a later read brings."""
    size = 1 << 20
    unmasked = joined = 0

    def counting(payload: bytes, mask: bytes) -> bytes:
        nonlocal unmasked
        unmasked += len(payload)
        return unmask(payload, mask)

    monkeypatch.setattr("softstate.wire.websocket.frame_reader.unmask", counting)
    for opcode in (BINARY, TEXT):
        unmasked = joined = 0
        reader = FrameReader(size)
        received: list[Received] = []
        for chunk in cut(client_frame(opcode, b"x" * size, mask=bytes(4)), 4_096):
            joined += len(reader._head)
            if reader._partial is not None:
                joined += len(reader._partial._unfinished)
            received += reader.feed(chunk)
        assert received == [b"x" * size if opcode == BINARY else "x" * size]
        assert unmasked == size
        assert joined == 0


def test_a_dribbled_head_or_control_frame_is_joined_again_at_most_as_often_as_it_is_long() -> None:
    reader = FrameReader(10)
    for chunk in cut(client_frame(PING, bytes(125)) * 3, 1):
        assert len(reader._head) <= 130
        reader.feed(chunk)
    assert reader._head == b""


def test_what_is_missing_can_be_asked_for_at_once() -> None:
    data = client_frame(BINARY, bytes(100_000))
    reader = FrameReader(1 << 20)
    for at in range(14):
        assert reader.missing == 0
        assert reader.feed(data[at : at + 1]) == []
    assert reader.missing == 100_000
    assert reader.feed(data[14:5_014]) == []
    assert reader.missing == 95_000
    assert reader.feed(data[5_014:] + HELLO[:3]) == [bytes(100_000)]
    assert reader.missing == 0
    assert reader.feed(HELLO[3:]) == ["Hello"]


def test_a_message_in_tiny_reads_takes_little_more_memory_than_its_bytes() -> None:
    size = 20_000
    data = client_frame(BINARY, bytes(index * 7 & 0xFF for index in range(size)))
    reader = FrameReader(size)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(0, len(data) - 2, 2):
            reader.feed(data[at : at + 2])
        assert reader.missing
        assert tracemalloc.get_traced_memory()[0] - before < 1.5 * size
    finally:
        tracemalloc.stop()


def test_a_head_alone_reserves_no_memory() -> None:
    reader = FrameReader(1 << 62)
    assert reader.feed(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + MASK) == []
    assert reader.missing == 1 << 62


def test_frames_that_make_no_message_leave_nothing() -> None:
    reader = FrameReader(1 << 20)
    begun = client_frame(BINARY, fin=False) + client_frame(CONTINUATION, fin=False) * (FRAGMENTS_MAX - 1)
    assert reader.feed(begun) == []
    assert reader._partial is not None
    assert len(reader._partial._buffer) == 0
