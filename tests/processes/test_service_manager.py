"""`softstate serve` under a service manager: a small one, which speaks sd_notify(3) as systemd does."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import WAIT_S, running


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The manager's socket; processes that start now are told of it, and to show life within a minute.

    It is read now and then, and holds ten datagrams: a node that showed life often would fill it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        yield listening


def until(listening: socket.socket, line: str) -> list[str]:
    """Read what the manager is told until it is told this, and return that datagram and its lines."""
    while True:
        lines = listening.recv(4096).decode().split("\n")
        if line in lines:
            return lines


@pytest.mark.parametrize("options", [{}, {"workers": 2}])
def test_a_manager_hears_of_start_life_and_end(tmp_path: Path, manager: socket.socket, options: dict[str, Any]) -> None:
    with running(tmp_path, **options) as server:
        _, status = until(manager, "READY=1")
        assert status.startswith(f"STATUS={server.http}")
        until(manager, "WATCHDOG=1")
        assert server.stop() == 0
        until(manager, "STOPPING=1")


def test_a_reload_ends_no_node(tmp_path: Path, manager: socket.socket) -> None:
    with running(tmp_path) as server:
        until(manager, "READY=1")
        server.signal(signal.SIGHUP)
        server.put("a", 1)
        assert server.stop() == 0
