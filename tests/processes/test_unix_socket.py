"""A real node on a Unix socket: curl, commands, a client that outlives kill -9, and who has connected."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

import softstate
from tests.kit.node_rig import mode_is
from tests.kit.processes import WAIT_S, command, environment

LISTENS = "softstate listens on unix:"


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "softstate", "serve", "--listen", "unix:node.sock", *options]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(LISTENS), line
    return process


@contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = start(folder, *options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def run(folder: Path, *words: str) -> str:
    return command(f"unix:{folder / 'node.sock'}", *words).stdout


def test_commands_and_curl_reach_a_node_by_its_socket(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        assert run(tmp_path, "publish", "a/b", "1").strip().isdigit()
        assert run(tmp_path, "get", "a/b") == "1\n"
        assert json.loads(run(tmp_path, "status", "--json"))["topics"] == 1
        if shutil.which("curl") is not None:
            socket = str(tmp_path / "node.sock")
            command = ["curl", "-s", "--unix-socket", socket, "http://localhost/v1/topics/a/b"]
            assert subprocess.run(command, capture_output=True, timeout=WAIT_S, check=True).stdout == b"1"
        process.terminate()
        _, log = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0
        assert "bug" not in log


def test_who_has_connected_is_in_the_log(tmp_path: Path) -> None:
    with running(tmp_path, "--verbose") as process:
        run(tmp_path, "list", "/")
        process.terminate()
        _, log = process.communicate(timeout=WAIT_S)
        assert re.search(rf"connected on the Unix socket.* user={os.getuid()}\b", log)


async def recover(folder: Path, process: subprocess.Popen[str]) -> None:
    url = f"unix:{folder / 'node.sock'}"
    async with softstate.connect(url) as client, client.subscribe("a") as updates:
        with trio.fail_after(2 * WAIT_S):
            await client.publish("a", 1)
            await mode_is(client, "live")
            process.send_signal(signal.SIGKILL)
            await trio.to_thread.run_sync(process.communicate)
            await mode_is(client, "polling", "offline")
            again = await trio.to_thread.run_sync(start, folder)
            try:
                await client.publish("a", 2)
                async for change in updates:
                    if change.value == 2:
                        break
                await mode_is(client, "live")
            finally:
                again.kill()
                again.communicate(timeout=WAIT_S)


def test_a_client_recovers_on_a_unix_socket_from_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        trio.run(recover, tmp_path, process)
