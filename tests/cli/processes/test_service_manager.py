"""A service manager is told of a node, by datagrams to the socket that it names."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from softstate.cli.processes.service_manager import NOBODY, STATUS_CHARACTERS_MAX, ServiceManager, service_manager


@pytest.fixture(params=["a file", "an abstract name"])
def manager_socket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager's socket, and how it names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        if request.param == "a file":
            address = str(tmp_path / "notify")
            listening.bind(address)
        else:
            address = f"@softstate/test/{os.getpid()}"
            listening.bind(f"\0{address[1:]}")
        listening.setblocking(False)
        yield listening, address


def heard(listening: socket.socket) -> list[str]:
    """Return the lines of the next datagram."""
    return listening.recv(4096).decode().split("\n")


def test_it_is_told_of_the_start_and_the_end(manager_socket: tuple[socket.socket, str]) -> None:
    listening, address = manager_socket
    manager = ServiceManager(address)
    manager.ready("listens\nREADY=0 " + "x" * STATUS_CHARACTERS_MAX)
    ready, status = heard(listening)
    assert (ready, status[:30]) == ("READY=1", r"STATUS=listens\u000aREADY=0 xx"), "a line break is no further line"
    assert len(status) == len("STATUS=") + STATUS_CHARACTERS_MAX
    manager.stopping()
    assert heard(listening)[0] == "STOPPING=1"


async def test_signs_of_life_come_twice_within_the_limit(
    manager_socket: tuple[socket.socket, str], autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    listening, address = manager_socket
    manager = ServiceManager(address, watchdog_s=30.0)
    nursery.start_soon(manager.prove_life)
    await trio.sleep(100.0)
    manager.ready("serves")
    assert heard(listening)[0] == "READY=1", "it takes any time to start"
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()
        assert heard(listening) == ["WATCHDOG=1"]
        with pytest.raises(BlockingIOError):
            heard(listening)
        await trio.sleep(15.0)
    nursery.cancel_scope.cancel()


async def test_no_life_is_proved_to_a_manager_that_does_not_look(
    manager_socket: tuple[socket.socket, str], autojump_clock: trio.testing.MockClock
) -> None:
    listening, address = manager_socket
    with trio.move_on_after(3600):
        await ServiceManager(address).prove_life()
    with pytest.raises(BlockingIOError):
        heard(listening)


def test_a_manager_that_is_gone_or_full_holds_nobody_up(manager_socket: tuple[socket.socket, str]) -> None:
    listening, address = manager_socket
    manager = ServiceManager(address, watchdog_s=1)
    told = 0
    while told < 10_000:  # until its buffer is full, and on
        manager.ready("serves")
        told += 1
    assert heard(listening)[0] == "READY=1"
    listening.close()
    manager.ready("serves")
    NOBODY.ready("serves")


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_environment_says_whether_it_looks(variables: dict[str, str], watchdog_s: float | None) -> None:
    assert service_manager({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog_s == watchdog_s
    assert service_manager(variables).watchdog_s is None
