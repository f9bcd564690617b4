"""`softstate.sync` where a process ends, or its main thread alone: real interpreters, which end by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit.processes import WAIT_S, environment, running


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=False)


def run_watching(path: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that has taken the one change of a topic, and then does what `code` says."""
    with running(path) as server:
        server.put("a", 1)
        return run(f"""
import os, softstate, softstate.sync
soft = softstate.sync.connect("{server.url}")
changes = soft.watch("a")
print(next(changes).value, flush=True)
{code}""")


def test_an_iterator_that_is_never_ended_holds_up_no_exit(tmp_path: Path) -> None:
    done = run_watching(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_closed_client_ends_its_iterators(tmp_path: Path) -> None:
    done = run_watching(
        tmp_path,
        """
soft.close()
try:
    next(changes)
except softstate.ClientClosed as error:
    print(error)
""",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\nthe client was closed\n", "")


def test_threads_that_outlive_the_main_one_go_on_looking_for_nodes() -> None:
    done = run("""
import logging, threading, time
import softstate, softstate.sync
logging.disable()
soft = softstate.sync.connect("ws://localhost:1")
def later():
    threading.main_thread().join()
    soft.follow("a")
    for _ in range(2):
        try:
            soft.get("a", timeout_s=0.3)
        except softstate.Unavailable:
            print("unavailable")
threading.Thread(target=later).start()
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "unavailable\nunavailable\n", done.stderr


def test_an_iterator_of_before_fork_says_so_in_the_child(tmp_path: Path) -> None:
    done = run_watching(
        tmp_path,
        """
child = os.fork()
if child == 0:
    try:
        next(changes)
    except softstate.ClientClosed as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(child, 0)
""",
    )
    assert done.returncode == 0, done.stderr
    assert "call watch again in the child" in done.stdout
