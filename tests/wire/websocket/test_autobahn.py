"""The cases of the Autobahn test suite against the reader, and against a server's channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from bench.trials.fuzz.streams import frames_in
from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.patience import Patience
from softstate.wire import frame
from softstate.wire.websocket import FrameReader, PeerClose, Ping, Pong, Violation
from softstate.wire.websocket.events import NO_CODE
from tests.kit.fake_wire import FakeWire
from tests.kit.heard import Heard
from tests.wire.websocket.autobahn_cases import CASES, Case, Chunks, Reply
from tests.wire.websocket.client_frames import CLOSE, client_frame, cut

MESSAGE_BYTES_MAX = 1 << 20
CLOSES = client_frame(CLOSE, b"\x03\xe8")
"""The suite closes with 1000 once it has received what it expects."""

SPLITS: dict[str, Callable[[Chunks], Chunks]] = {
    "as sent": list,
    "at once": lambda chunks: [b"".join(chunks)],
    "in bytes": lambda chunks: cut(b"".join(chunks), 1 if sum(map(len, chunks)) < 10_000 else 1_021),
}


def test_no_case_is_missing() -> None:
    sections = Counter(name.split(".")[0] for name in CASES)
    assert sections == {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}
    assert sum(sections.values()) == 247


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", CASES)
def test_the_reader_hands_out_what_the_suite_expects(name: str, split: str) -> None:
    case = CASES[name]
    reader = FrameReader(MESSAGE_BYTES_MAX)
    replies: list[Reply] = []
    end: PeerClose | Violation | None = None
    codes, fails_after = case.closing
    for number, part in enumerate([*case.parts, [CLOSES]]):
        if fails_after is not None and number == len(case.parts):
            break
        for chunk in SPLITS[split](part):
            for event in reader.feed(chunk):
                assert end is None, "nothing follows the end"
                if isinstance(event, bytes | str):
                    replies.append(event)
                elif isinstance(event, Ping):
                    replies.append(Pong(event.payload))
                elif not isinstance(event, Pong):
                    end = event
        if fails_after is not None:
            assert isinstance(end, Violation) == (number >= fails_after), "at once, and no earlier"
    assert replies == case.replies
    assert end is not None
    assert end.code in codes


class Echo(Heard):
    def _take(self, data: bytes | str) -> None:
        assert self.outbox is not None
        answer = data if isinstance(data, bytes) else data.encode()
        self.outbox.reply(frame(answer, text=isinstance(data, str)))
        self.outbox.flush()


@pytest.mark.parametrize("name", CASES)
async def test_an_echo_on_a_servers_channel_answers_as_the_suite_expects(name: str) -> None:
    case = CASES[name]
    wire = FakeWire()
    wire.attach(Echo(wire, Patience(Bulkhead(strict=True)), MESSAGE_BYTES_MAX))
    for part in case.parts if case.closing.fails_after is not None else [*case.parts, [CLOSES]]:
        for chunk in part:
            wire.arrive(chunk)
    wire.end()
    assert wire.closed
    check(case, frames_in(bytes(wire.taken)))


def check(case: Case, frames: list[tuple[int, bytes]]) -> None:
    *answers, (first, payload) = frames
    assert first == 0x88
    assert (int.from_bytes(payload[:2], "big") if payload else NO_CODE) in case.closing.codes
    form: dict[int, Callable[[bytes], Reply]] = {0x81: bytes.decode, 0x82: bytes, 0x8A: Pong}
    assert [form[first](payload) for first, payload in answers] == case.replies
