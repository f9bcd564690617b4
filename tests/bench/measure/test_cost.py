"""Costs of processes, compared with those that this process measures of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.measure.cost import children_of, cpu_s, resident_bytes, rollup_bytes, scheduled_s
from bench.measure.machine import describe

NO_PROCESS = 2**22 + 1
"""Above the greatest process id that Linux gives."""


def test_cpu_time_of_this_process_lies_between_two_readings_of_its_own_clock() -> None:
    before = time.process_time()
    sum(range(200_000))
    seen = cpu_s(os.getpid())
    assert before < seen <= time.process_time()


def test_the_fallback_counts_the_same_thing() -> None:
    # It does not contain the slice that runs now, and threads that have ended.
    assert 0 < scheduled_s(os.getpid()) <= cpu_s(os.getpid())


def test_children_are_found_until_their_parent_has_waited_for_them() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid())
        child.communicate(b"\n")
    assert child.pid not in children_of(os.getpid())


def test_resident_memory_grows_by_what_is_touched() -> None:
    before = resident_bytes(os.getpid())
    block = bytearray(64 * 1024**2)
    block[::4096] = b"x" * (len(block) // 4096)
    assert resident_bytes(os.getpid()) - before > len(block) // 2


def test_the_rollup_is_read_in_kib() -> None:
    assert rollup_bytes("00400000-7ff [rollup]\nRss:      1234 kB\nPss:  1 kB\n") == 1234 * 1024
    with pytest.raises(ValueError, match="Rss"):
        rollup_bytes("")


def test_a_process_that_is_not_there() -> None:
    for measure in (cpu_s, scheduled_s, resident_bytes):
        with pytest.raises(ProcessLookupError):
            measure(NO_PROCESS)


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe()
    assert {"cpu", "cores", "ram", "kernel", "python", "trio"} <= machine.keys()
    assert all(machine.values())
    assert os.uname().nodename not in " ".join(machine.values()).split()
