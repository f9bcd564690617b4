"""``python -m bench.load.servers.timed_node FILE serve …``: a node that writes how long its longest turns take.

A turn is one pass of Trio's loop, from the end of its wait for I/O to the next. For each that takes longer than
`LONG_S`, by the clock of the loop's own thread or by the wall's, a line of both, in seconds, is added to FILE. The
first leaves out the time in which another process or thread had the core, or the interpreter's lock.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

import trio

from softstate.cli import main as softstate
from softstate.server import Node

LONG_S = 0.001


class LongTurns(trio.abc.Instrument):
    """Writes the long turns of a loop."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._began = time.thread_time(), time.perf_counter()

    def after_io_wait(self, _timeout: float) -> None:
        """Note the beginning of a turn."""
        self._began = time.thread_time(), time.perf_counter()

    def before_io_wait(self, _timeout: float) -> None:
        """Write the turn that ends, if it was long."""
        cpu_s, wall_s = time.thread_time() - self._began[0], time.perf_counter() - self._began[1]
        if max(cpu_s, wall_s) >= LONG_S:
            self._file.write(b"%.6f %.6f\n" % (cpu_s, wall_s))


def main() -> None:
    """Run a node with the words behind the name of the file."""
    start = Node.start
    with Path(sys.argv[1]).open("wb", buffering=0) as file:

        async def timed(node: Node, nursery: trio.Nursery) -> None:
            trio.lowlevel.add_instrument(LongTurns(file))
            await start(node, nursery)

        sys.argv[1:] = sys.argv[2:]
        with patch.object(Node, "start", timed):
            softstate()


if __name__ == "__main__":
    main()
