"""The set-up of a node's process, and its end."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from softstate.cli import exit_codes
from softstate.cli.processes.child import Lines, child
from softstate.cli.processes.node_process import COLLECTIONS_PER_FULL_ONE, SWITCH_S, tune_interpreter


def test_all_objects_are_seldom_looked_through_and_the_lock_is_handed_over_soon() -> None:
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        tune_interpreter()
        assert gc.get_threshold() == (*before[:2], COLLECTIONS_PER_FULL_ONE)
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)


# The end, if a store call never returns ------------------------------------------------------------------------------

HANGING = """
import sys, threading, trio
from softstate.cli.processes.node_log import configure_logging
from softstate.cli.processes.node_process import run_node
from softstate.server.config import ServerConfig
from softstate.store.base import Write
from softstate.store.sqlite.engine import SqliteEngine

store, call, limit_s, *fails = sys.argv[1:]

def never(*_):
    print("hangs", flush=True)
    threading.Event().wait()

setattr(SqliteEngine, call, never)

async def announce(node):
    if fails:
        node.bulkhead.end_node("a test says so")
    await node.store.publish([Write("a", b"\\x01")])

configure_logging("console", verbose=False)
config = ServerConfig(port=0, store=store, drain_s=float(limit_s), store_s_max=float(limit_s))
sys.exit(trio.run(run_node, config, announce))
"""
"""A node whose store never returns from one kind of call. It says when that is made."""

TOO_LONG_S = "86400"


@pytest.mark.parametrize(
    ("words", "signals", "expected"),
    [
        (["publish", TOO_LONG_S], [signal.SIGTERM, signal.SIGINT], exit_codes.INTERRUPTED),
        (["publish", "0.01"], [signal.SIGTERM], exit_codes.OK),
        (["open", TOO_LONG_S], [signal.SIGTERM], exit_codes.INTERRUPTED),
        (["close", "0.01", "fails"], [], exit_codes.FAILED),
    ],
    ids=["a second signal", "a drain", "a signal at the start", "a node that failed"],
)
async def test_a_store_call_that_never_returns_does_not_keep_the_process(
    tmp_path: Path, words: list[str], signals: list[signal.Signals], expected: int
) -> None:
    command = [sys.executable, "-c", HANGING, f"sqlite:{tmp_path / 'softstate.db'}", *words]
    log = tmp_path / "log"
    with trio.fail_after(40), log.open("wb") as stderr:
        async with child(command, stderr.fileno(), subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert await anext(Lines(process.stdout)) == "hangs"
            for number in signals:
                process.send_signal(number)
            assert await process.wait() == expected
    [last] = [line for line in log.read_text().splitlines() if "process ends" in line]
    assert "the store has not returned from a call" in last
    assert f"exit_code={expected}" in last
