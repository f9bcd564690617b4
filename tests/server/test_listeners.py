"""Sockets of a node: bound before they listen, to every address of a name, all on one port."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from softstate.addresses import UNIX_PATH_BYTES_MAX
from softstate.errors import ConfigError
from softstate.server.bulkhead import Bulkhead
from softstate.server.listeners import accept_all, bind, close, listen, name_of

ELSEWHERE = "192.0.2.1"
"""An address that no machine has (RFC 5737)."""


class Addresses(trio.abc.HostnameResolver):
    """Resolves every name to these addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *_: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in self._addresses]

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        raise NotImplementedError


async def test_every_address_of_a_name_gets_the_same_port() -> None:
    trio.socket.set_custom_hostname_resolver(Addresses("127.0.0.1", "127.0.0.2"))
    bound = await bind("two.test", 0)
    port = bound[0].getsockname()[1]
    assert [name_of(opened) for opened in bound] == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]
    close(bound)


async def test_an_address_that_is_taken_gives_back_those_bound_before() -> None:
    trio.socket.set_custom_hostname_resolver(Addresses("127.0.0.1", "127.0.0.2"))
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on two.test:{port}: Address already in use"):
            await bind("two.test", port)
        with socket.socket() as free:
            free.bind(("127.0.0.1", port))


@pytest.mark.parametrize("addresses", [("127.0.0.1", ELSEWHERE), (ELSEWHERE, "127.0.0.1")])
async def test_an_address_that_this_system_does_not_have_is_passed_over(addresses: tuple[str, ...]) -> None:
    trio.socket.set_custom_hostname_resolver(Addresses(*addresses))
    bound = await bind("two.test", 0)
    assert [opened.getsockname()[0] for opened in bound] == ["127.0.0.1"]
    close(bound)


async def test_a_name_without_an_address_of_this_system_is_refused() -> None:
    trio.socket.set_custom_hostname_resolver(Addresses(ELSEWHERE, ELSEWHERE))
    with pytest.raises(ConfigError) as refusal:
        await bind("two.test", 8700)
    assert str(refusal.value) == (
        "cannot listen on two.test:8700: Cannot assign requested address. Choose another with --listen HOST:PORT"
    )


async def test_a_name_whose_families_this_system_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    trio.socket.set_custom_hostname_resolver(Addresses("127.0.0.1"))
    monkeypatch.setattr(trio.socket, "socket", lacking)
    with pytest.raises(ConfigError, match="8700: it has no address that this system supports"):
        await bind("one.test", 8700)


async def test_no_client_connects_before_it_listens() -> None:
    bound = await bind("127.0.0.1", 0)
    address = bound[0].getsockname()
    with socket.socket() as early, pytest.raises(ConnectionRefusedError):
        early.connect(address)
    [listener] = listen(bound, *address)
    async with listener, await trio.open_tcp_stream(*address), await listener.accept():
        pass


async def test_the_second_program_to_listen_is_refused() -> None:
    first = await bind("127.0.0.1", 0)
    address = first[0].getsockname()
    second = await bind(*address)
    listen(first, *address)
    with pytest.raises(ConfigError, match="Address already in use"):
        listen(second, *address)
    close([*first, *second])


async def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        await bind("name.invalid", 1)


# Accepting what is no socket of the system ---------------------------------------------------------------------------


class Scripted(trio.abc.Listener[Any]):
    """A listener that raises, or returns, what a test gives it."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.closed = False

    async def accept(self) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.outcomes:
            await trio.sleep_forever()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_a_bug_while_accepting_ends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    listener = Scripted("a", ZeroDivisionError(), "b")
    served: list[object] = []
    bulkhead = Bulkhead(strict=False)

    async def serve(stream: object) -> None:
        served.append(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, listener, serve, nursery, bulkhead)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert listener.closed
    assert (served, bulkhead.bugs) == (["a", "b"], 1)


async def test_a_unix_socket_is_for_its_owner_and_group_and_one_that_was_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    for _ in range(2):  # the second one finds what the first has left
        (bound,) = await bind(f"unix:{path}", 0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert name_of(bound) == f"unix:{path}"
        with pytest.raises(ConfigError, match="another program listens on it"):
            await bind(f"unix:{path}", 0)  # though the first one may still open its store
        (listener,) = listen([bound], f"unix:{path}", 0)
        async with await trio.open_unix_socket(path), await listener.accept():
            pass
        close([bound])
        assert path.exists()


async def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        await bind(f"unix:{file}", 0)
    assert file.read_text() == "precious"
    for address, words in (
        (f"unix:{tmp_path}/none/node.sock", "No such file"),
        ("unix:", "must name a file"),
        ("unix:" + "x" * (UNIX_PATH_BYTES_MAX + 1), f"at most {UNIX_PATH_BYTES_MAX} bytes"),
    ):
        with pytest.raises(ConfigError, match=words):
            await bind(address, 0)


async def test_the_longest_path_of_a_socket_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    close(await bind("unix:" + "x" * UNIX_PATH_BYTES_MAX, 0))
