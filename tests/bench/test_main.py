"""The end of a bench by a signal: what it started is ended, too."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from softstate.cli.exit_codes import INTERRUPTED

ENDS_S_MAX = 30.0

WAITING = """
import signal, subprocess, sys, trio
from bench import __main__ as bench
from bench.measure.servers import python_server
from bench.speed.recovery.crash import busy
from softstate.cli.processes.child import child

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]
started = []

def echo():
    print(*started, flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)

class Popen(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        started.append(self.pid)

@bench.app.command
def plain():
    subprocess.Popen = Popen
    with python_server("bench.load.servers.h11_server"), busy(2):
        echo()

@bench.app.command
async def trio_child():
    async with child(SLEEP) as process:
        started.append(process.pid)
        print(*started, flush=True)
        await trio.sleep_forever()

ignored = sys.argv[2:] == ["nohup"]
signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)  # also where these tests run under nohup
if ignored:
    del sys.argv[2]
bench.main()
"""
"""Commands of the bench that say which processes they started, and then wait."""


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start one of the commands; yield it, and descriptors of its processes that are ready once these have ended."""
    command = [sys.executable, "-c", WAITING, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ids = [int(word) for word in process.stdout.readline().split()]
        watched = [os.pidfd_open(number) for number in ids]
        try:
            yield process, watched
        finally:
            for descriptor in watched:
                if not ended(descriptor, 0):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)
            process.kill()


def ended(descriptor: int, within_s: float = ENDS_S_MAX) -> bool:
    """Return whether a process has ended within a time."""
    return bool(select.select([descriptor], [], [], within_s)[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("command", "count"), [("plain", 3), ("trio-child", 1)])
def test_a_bench_that_a_signal_ends_leaves_nothing_behind(command: str, count: int, number: signal.Signals) -> None:
    with started(command) as (process, watched):
        assert len(watched) == count
        process.send_signal(number)
        assert process.wait(ENDS_S_MAX) == INTERRUPTED
        assert all(ended(descriptor, 0) for descriptor in watched)


def test_a_bench_whose_hang_ups_are_ignored_goes_on() -> None:
    with started("plain", "nohup") as (process, _):
        assert process.stdin is not None
        assert process.stdout is not None
        process.send_signal(signal.SIGHUP)
        process.stdin.write("still there\n")
        process.stdin.flush()
        assert process.stdout.readline() == "still there\n"


def test_a_busy_loop_ends_with_the_bench_that_was_killed() -> None:
    with started("plain") as (process, (_, *loops)):
        process.kill()
        assert len(loops) == 2
        assert all(ended(descriptor) for descriptor in loops)
