"""The warnings of ``softstate serve`` about a store that may lose acknowledged publishes, and --require-durable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.processes import WAIT_S, environment, running


def test_a_memory_store_is_told_to_end_with_its_process(tmp_path: Path) -> None:
    with running(tmp_path, store="memory:") as server:
        assert "store memory:, none, 0 topics" in server.line
        assert server.process is not None
        assert server.process.stdout is not None
        assert "warning: acknowledged publishes may be lost: what memory:" in server.process.stdout.readline()
        assert server.status()["store_warnings"] != []


@pytest.mark.parametrize("words", [["--require-durable"], []])
def test_require_durable_refuses_a_store_that_is_not(words: list[str], tmp_path: Path) -> None:
    variables = {} if words else {"SOFTSTATE_REQUIRE_DURABLE": "true"}
    command = [sys.executable, "-m", "softstate", "serve", "--listen", "127.0.0.1:0", "--store", "memory:", *words]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        cwd=tmp_path,
        env=environment() | variables,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("softstate: require_durable: the store memory: is none, so acknowledged publishes")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_require_durable_accepts_a_file(workers: int, tmp_path: Path) -> None:
    with running(tmp_path, workers=workers, require_durable="true") as server:
        assert ", durable, 0 topics" in server.line
        assert server.stop() == 0
