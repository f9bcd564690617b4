"""Writing lines, and noticing that their reader has left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from softstate.cli.terminal.output import LineWriter


def connected_sockets() -> Sequence[int]:
    """Return two descriptors: what is written to the second is read from the first."""
    return [end.detach() for end in socket.socketpair()]


@pytest.mark.parametrize("ends", [os.pipe, connected_sockets, os.openpty])
async def test_a_reader_that_leaves_is_noticed_without_a_line(
    ends: Callable[[], Sequence[int]], autojump_clock: trio.testing.MockClock
) -> None:
    reading, writing = ends()
    try:
        writer = LineWriter(writing)
        for lines in range(2):
            with trio.move_on_after(60) as scope:
                await writer.watch_reader()
            assert scope.cancelled_caught, f"{lines} lines wait for a slow reader"
            await writer.write("a line that is not read")
        os.close(reading)
        with trio.fail_after(1), pytest.raises(BrokenPipeError):
            await writer.watch_reader()
    finally:
        os.close(writing)


async def test_a_file_has_no_reader_that_leaves(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with (tmp_path / "out").open("wb") as file, trio.move_on_after(60) as scope:
        await LineWriter(file.fileno()).watch_reader()
    assert scope.cancelled_caught
