"""The shell of many machines: its HTTP connections are kept between requests, until the client is live."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from random import Random
from typing import TypeAlias, cast

import pytest

from bench.load.machine_shell import Client, MachineShell
from softstate.client.machine.events import Action, Event, PollAnswered, RequestFailed, SendPoll, Ticked
from softstate.client.machine.machine import Machine
from softstate.position import Position
from softstate.wire import CBOR
from softstate.wire.messages import Poll, Polled

ANSWER = CBOR.dumps(Polled(0, Position("e", "l", 1), next_ms=1_000))


class Script:
    """A machine that does what it was told, and keeps what it heard."""

    mode = "degraded"

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.heard: list[Event] = []

    def handle(self, event: Event, now: float) -> Sequence[Action]:
        self.heard.append(event)
        actions, self.actions = self.actions, []
        return actions

    def deadline(self) -> float:
        return float("inf")


@pytest.fixture
def node() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as opened:
        opened.settimeout(10)
        yield opened


def polls(shell: MachineShell, client: Client, script: Script, request: int, timeout_s: float = 10.0) -> None:
    """Let a client poll."""
    script.actions = [SendPoll(request, client.home, Poll(topics={"t": 0}), timeout_s)]
    shell.tell(client, Ticked())


Made: TypeAlias = tuple[MachineShell, Client, Script]


@pytest.fixture
def made(node: socket.socket) -> Iterator[Made]:
    """Make a shell with one client of a node."""
    client = Client(0, [f"ws://127.0.0.1:{node.getsockname()[1]}"], Random(1), "t", "127.0.0.9")
    script = Script()
    client.machine = cast("Machine", script)
    shell = MachineShell()
    yield shell, client, script
    for wire in list(shell._wires.values()):
        wire.socket.close()


def takes(shell: MachineShell, talk: socket.socket) -> bytes:
    """Return a whole request that reaches the node."""
    talk.setblocking(False)
    data = b""
    while b"\r\n\r\n" not in data:
        shell.turn()
        try:
            data += talk.recv(65_536)
        except BlockingIOError:
            continue
    return data


def answers(talk: socket.socket, *, head: str = "") -> None:
    """Answer a poll."""
    first = f"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: {len(ANSWER)}\r\n{head}\r\n"
    talk.sendall(first.encode() + ANSWER)


def until_heard(shell: MachineShell, script: Script, kind: type[Event]) -> Event:
    """Run until the machine hears an event of a kind, as its last one."""
    while not isinstance(script.heard[-1], kind):
        shell.turn()
    return script.heard[-1]


def test_two_polls_take_one_connection(node: socket.socket, made: Made) -> None:
    shell, client, script = made
    polls(shell, client, script, 1)
    with closing(node.accept()[0]) as talk:
        assert talk.getpeername()[0] == "127.0.0.9"
        for request in (1, 2):
            assert takes(shell, talk).startswith(b"POST /v1/poll ")
            answers(talk)
            until_heard(shell, script, PollAnswered)
            polls(shell, client, script, request + 1)
    assert shell.polls == 3


def test_a_kept_connection_that_the_node_closed_is_replaced_once(node: socket.socket, made: Made) -> None:
    shell, client, script = made
    polls(shell, client, script, 1)
    with closing(node.accept()[0]) as talk:
        takes(shell, talk)
        answers(talk)
        until_heard(shell, script, PollAnswered)
        polls(shell, client, script, 2)
        takes(shell, talk)
    shell.turn()
    with closing(node.accept()[0]) as again:
        assert takes(shell, again).startswith(b"POST /v1/poll ")
    failed = until_heard(shell, script, RequestFailed)
    assert isinstance(failed, RequestFailed)
    assert (failed.request, failed.unsent) == (2, False)


@pytest.mark.parametrize("how", ["closed", "live"])
def test_a_connection_is_not_kept_if_the_node_closes_it_or_the_client_is_live(
    node: socket.socket, made: Made, how: str
) -> None:
    shell, client, script = made
    polls(shell, client, script, 1)
    with closing(node.accept()[0]) as talk:
        takes(shell, talk)
        answers(talk, head="Connection: close\r\n" if how == "closed" else "")
        until_heard(shell, script, PollAnswered)
        if how == "live":
            shell.forget_kept(client)
        talk.setblocking(True)
        assert talk.recv(1) == b""


def test_a_poll_that_is_refused_was_not_sent(node: socket.socket, made: Made) -> None:
    shell, client, script = made
    node.close()
    polls(shell, client, script, 7)
    failed = until_heard(shell, script, RequestFailed)
    assert isinstance(failed, RequestFailed)
    assert (failed.request, failed.unsent, shell.polls_refused) == (7, True, 1)


def test_only_the_newest_deadline_of_a_kept_connection_counts(node: socket.socket, made: Made) -> None:
    shell, client, script = made
    polls(shell, client, script, 1, timeout_s=0.3)
    with closing(node.accept()[0]) as talk:
        takes(shell, talk)
        answers(talk)
        until_heard(shell, script, PollAnswered)
        polls(shell, client, script, 2, timeout_s=0.6)
        failed = until_heard(shell, script, RequestFailed)
        assert failed == RequestFailed(2, "timed out", unsent=False)
        assert sum(isinstance(event, RequestFailed) for event in script.heard) == 1
