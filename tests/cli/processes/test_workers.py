"""The supervisor's parts: claiming a port, and messages between it and its workers."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio.testing

from softstate.cli.exit_codes import INTERRUPTED, OK, UNAVAILABLE, Failure
from softstate.cli.processes import workers
from softstate.cli.processes.child import child
from softstate.cli.processes.worker import Failed, Listening, WorkerSettings, report_of, settings_of
from softstate.cli.processes.workers import claimed, ending, supervise
from softstate.errors import ConfigError
from softstate.server.config import ServerConfig
from softstate.server.listeners import bind, close, listen


async def test_a_claimed_port_is_shared_with_those_who_share_it_and_with_nobody_else() -> None:
    async with claimed("127.0.0.1", 0) as (port, addresses):
        assert addresses == [f"127.0.0.1:{port}"]
        sharing = [await bind("127.0.0.1", port, shared=True) for _ in range(2)]
        for worker in sharing:
            listen(worker, "127.0.0.1", port)
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use"):
            await bind("127.0.0.1", port)
        for worker in sharing:
            close(worker)


async def test_a_port_is_claimed_once_even_before_anybody_listens() -> None:
    async with claimed("127.0.0.1", 0) as (port, _):
        with pytest.raises(ConfigError, match="another softstate serve --workers uses the port"):
            async with claimed("127.0.0.1", port):
                pytest.fail("claimed twice")
    async with claimed("127.0.0.1", port):
        pass


async def test_a_port_that_others_share_is_not_claimed() -> None:
    """SO_REUSEPORT alone would join them."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="Address already in use"):
            async with claimed("127.0.0.1", other.getsockname()[1]):
                pytest.fail("claimed")


async def test_nobody_is_connected_to_a_claim() -> None:
    async with claimed("127.0.0.1", 0) as (port, _):
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))


FIRST_ONLY = """
import signal, sys
from softstate.cli.processes.worker import Listening, _report, settings_of
if settings_of(sys.stdin.buffer.readline()).worker == 1:
    _report(Listening((), "memory:", "none", (), 7))
signal.pause()
"""
"""A worker that reports only if it is the first, and never ends."""


async def test_the_first_worker_may_take_any_time_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    """The clock jumps to any limit before the process reports."""

    def stopping(warnings: object) -> None:
        assert warnings == ()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(workers, "WORKER", [sys.executable, "-c", FIRST_ONLY])
    monkeypatch.setattr(workers, "warn", stopping)
    assert await supervise(ServerConfig(port=0), 1, "console", verbose=False) == INTERRUPTED
    assert "7 topics" in capsys.readouterr().out


async def test_another_worker_that_does_not_start_in_time_ends_all(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(workers, "WORKER", [sys.executable, "-c", FIRST_ONLY])
    with pytest.raises(Failure, match="a worker did not start within 20 s"):
        await supervise(ServerConfig(port=0), 2, "console", verbose=False)


UNTIL_STOPPED = """
import sys
from softstate.cli.processes.worker import Listening, _report
sys.stdin.buffer.readline()
_report(Listening((), "memory:", "none", (), 7))
sys.stdin.buffer.read()
"""
"""A worker that reports, and ends when it is told to drain."""


class Starts:
    """Starts processes as `child` does, but for those whose numbers are in `refused`: of them the system has none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: set[int]) -> None:
        self.processes: list[trio.Process] = []
        self._count = 0
        self._refused = refused
        monkeypatch.setattr(workers, "WORKER", [sys.executable, "-c", UNTIL_STOPPED])
        monkeypatch.setattr(workers, "child", self.child)

    @asynccontextmanager
    async def child(self, *words: Any, **options: Any) -> AsyncIterator[trio.Process]:
        """Start a process, or raise what the system does."""
        self._count += 1
        if self._count in self._refused:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        async with child(*words, **options) as process:
            self.processes.append(process)
            yield process


class Log:
    """Keeps what the supervisor logs, and stops it when a worker serves again."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Keep a warning."""
        self.warnings.append(f"{event}: {fields['because']}")

    def info(self, event: str, **_: Any) -> None:
        """Stop the supervisor."""
        assert event == "worker serves again"
        signal.raise_signal(signal.SIGTERM)


async def test_a_worker_that_cannot_be_started_again_is_tried_again_while_the_others_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts, log = Starts(monkeypatch, {3, 4}), Log()
    monkeypatch.setattr(workers, "log", log)
    monkeypatch.setattr(workers, "RESTART_S_MIN", 0.001)
    monkeypatch.setattr(workers, "warn", lambda _: starts.processes[0].kill())
    assert await supervise(ServerConfig(port=0), 2, "console", verbose=False) == OK
    cannot = f"worker ended: {sys.executable} cannot be started as a worker: Resource temporarily unavailable"
    assert log.warnings == ["worker ended: killed by SIGKILL", cannot, cannot]
    assert [process.returncode for process in starts.processes] == [-signal.SIGKILL, 0, 0]


@pytest.mark.parametrize("number", [1, 2])
async def test_a_worker_that_cannot_be_started_to_begin_with_ends_all(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Starts(monkeypatch, {number})
    with pytest.raises(Failure, match="cannot be started as a worker: Resource temporarily unavailable") as caught:
        await supervise(ServerConfig(port=0), 2, "console", verbose=False)
    assert caught.value.code == UNAVAILABLE


def test_orders_survive_the_way_to_a_worker() -> None:
    config = ServerConfig(store="sqlite:\udcff\n.db", origins=("http://a", "http://b"), congested_s_max=1.5, port=1)
    settings = WorkerSettings(3, config, "json", verbose=True, family="f", workers=4)
    assert settings.line().count(b"\n") == 1
    assert settings_of(settings.line()) == settings


def test_reports_are_told_apart() -> None:
    listening = '{"addresses": ["[::1]:1"], "store": "redis:a", "durability": "weak", "warnings": ["w"], "topics": 2}'
    assert report_of(listening) == Listening(("[::1]:1",), "redis:a", "weak", ("w",), 2)
    assert report_of('{"message": "no", "code": 5}') == Failed("no", 5)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (3, "exit code 3"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGRTMIN - 2, f"killed by signal {signal.SIGRTMIN + 2}"),
    ],
)
def test_an_ending_is_said_by_name(code: int, expected: str) -> None:
    assert ending(code) == expected
