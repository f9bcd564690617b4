"""Cutting a byte stream into frames, as the generators do."""

from __future__ import annotations

import pytest

from bench.load.crowd import take_frames
from softstate.wire import frame

PAYLOADS = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 70_000]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 130, 100_000])
def test_frames_come_out_whole_however_they_arrive(size: int) -> None:
    data = b"".join(frame(payload, text=False) for payload in PAYLOADS)
    found: list[bytes] = []
    rest = b""
    for at in range(0, len(data), size if size > 100 else 997 * size):
        step = size if size > 100 else 997 * size
        payloads, rest = take_frames(rest + data[at : at + step])
        found += payloads
    assert (found, rest) == (PAYLOADS, b"")


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_the_beginning_of_a_frame_waits_for_its_end(cut: int) -> None:
    whole = frame(b"e" * 200, text=False)
    assert take_frames(whole[:cut]) == ([], whole[:cut])
    assert take_frames(whole + whole[:cut]) == ([b"e" * 200], whole[:cut])
