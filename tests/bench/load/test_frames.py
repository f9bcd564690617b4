"""Frames of the generators: written, counted, and cut out of a byte stream."""

from __future__ import annotations

import pytest

from bench.load.frames import client_frame, count_frames, take_frames
from softstate.wire import frame

PAYLOADS = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 70_000]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 130, 100_000])
def test_frames_come_out_whole_for_all_sizes_of_reads(size: int) -> None:
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


def test_frames_are_counted() -> None:
    two = frame(b"a" * 10, text=False) + frame(b"b" * 300, text=False)
    assert count_frames(b"") == 0
    assert count_frames(two) == 2
    assert count_frames(two[:-1]) == -1
    assert client_frame(b"abc") == b"\x82\x83\0\0\0\0abc"
