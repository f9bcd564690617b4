"""Real nodes that speak TLS: other programs as clients, what is no TLS, and certificates that change under load."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

import softstate
from tests.kit.certificates import Authority
from tests.kit.node_rig import mode_is
from tests.kit.processes import WAIT_S, ForeignClient, Server, command, running, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def secured(authority: Authority, **options: object) -> Iterator[Server]:
    pair = authority.node()
    with running(authority.folder, tls_cert=str(pair.cert), tls_key=str(pair.key), **options) as server:
        server.trusts = authority.trusting()
        yield server


def test_a_foreign_client_is_pushed_and_polls_over_tls(authority: Authority) -> None:
    with secured(authority) as server:
        assert f"https://127.0.0.1:{server.port}" in server.line
        with ForeignClient(server) as client:
            client.hello()
            client.subscribe("a/")
            version = server.put("a/b", {"x": "y" * 50_000})
            notified = client.expect("notify", topic="a/b", version=version)
            assert len(notified["value"]["x"]) == 50_000
        assert server.request("GET", "/v1/topics/a/b")[0] == 200
        counts = server.status()
        assert counts["tls_handshakes"] >= 4
        assert 29 * 86_400 < counts["tls_expires_seconds"] <= 30 * 86_400
        assert server.stop() == 0


def test_http_without_tls_is_told_so(authority: Authority) -> None:
    with secured(authority) as server:
        plain = Server(authority.folder, port=server.port)
        status, body, _ = plain.request("GET", "/v1/status")
        assert status == 400
        assert "https://" in body["message"]
        assert server.status()["tls_refused"] == 1


def test_one_connection_too_many_is_told_so_behind_the_handshake(authority: Authority) -> None:
    with secured(authority, connections_max=1) as server, ForeignClient(server) as client:
        client.hello()
        status, body, _ = server.request("GET", "/healthz")
        assert status == 503
        assert "connections_max" in body["message"]


def s_client(server: Server, authority: Authority, said: bytes, *options: str) -> str:
    """Say something by OpenSSL's own client, and return what it prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(authority.ca), *options]
    process = subprocess.Popen(
        [*command, "-verify_return_error", "-ign_eof"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = process.communicate(said, timeout=WAIT_S)
    return output.decode("latin-1")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_openssl_as_a_client(authority: Authority) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with secured(authority) as server:
        for version, alpn in (("-tls1_2", "h2,http/1.1"), ("-tls1_3", "http/1.1")):
            said = s_client(server, authority, ask, version, "-alpn", alpn)
            assert "HTTP/1.1 200 OK" in said
            assert "ALPN protocol: http/1.1" in said
            assert "Verify return code: 0 (ok)" in said
        assert "HTTP/1.1 200 OK" in s_client(server, authority, ask, "-alpn", "h2"), "a client may insist on no other"
        assert "HTTP/1.1" not in s_client(server, authority, ask, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
        # Its keys are changed between two requests, and the node is asked to change its own.
        first = ask.replace(b"Connection: close\r\n", b"")
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(authority.ca)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            output = b""
            for words, answer in ((first, b"HTTP/1.1 200"), (b"K\n", b"KEYUPDATE"), (b"k\n", b"KEYUPDATE")) * 3:
                process.stdin.write(words)
                wanted = output.count(answer) + 1
                while output.count(answer) < wanted:
                    data = process.stdout.read(4_096)
                    assert data, output
                    output += data
            process.stdin.close()
            process.kill()
        assert server.stop() == 0


def test_handshakes_that_break_off_end_nothing_else(authority: Authority) -> None:
    with secured(authority, head_s_max=1.0) as server, ForeignClient(server) as client:
        client.hello()
        hello = _client_hello()
        open_ones = []
        for cut in (0, 1, 5, 6, 50, len(hello) - 1, len(hello)):
            for end in ("close", "half", "reset", "stay"):
                broken = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)
                broken.sendall(hello[:cut])
                if end == "half":
                    broken.shutdown(socket.SHUT_WR)
                elif end == "reset":
                    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if end in ("stay", "half"):
                    open_ones.append(broken)
                else:
                    broken.close()
        for garbage in (bytes(1_000), b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x16\x03\x01\0\5hello"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as broken, suppress(OSError):
                broken.sendall(garbage)
        for broken in open_ones:  # the time of a head is the time of a handshake too
            with suppress(ConnectionError):
                while broken.recv(4_096):
                    pass
            broken.close()
        until("all of them have gone", lambda: server.status()["greeting"] <= 1)
        client.send("poll", id=1, topics={"a": 0}, prefixes={})
        client.expect("polled", id=1)
        assert server.stop() == 0


def _client_hello() -> bytes:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(into, out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("workers", [1, 2])
def test_certificates_change_under_load_and_nobody_is_dropped(
    authority: Authority, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    both = tmp_path / "both.pem"
    both.write_bytes(authority.ca.read_bytes() + other.ca.read_bytes())
    with secured(authority, workers=workers) as server:
        server.trusts = ssl.create_default_context(cafile=str(both))
        stop = threading.Event()
        failures: list[BaseException] = []

        def load() -> None:
            try:
                while not stop.is_set():
                    assert server.request("GET", "/healthz")[0] == 200
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)

        threads = [threading.Thread(target=load) for _ in range(3)]
        with ForeignClient(server) as client:
            client.hello()
            client.subscribe("a/")
            for thread in threads:
                thread.start()
            for made in (other, authority, other):
                pair = made.node()
                if made is other:  # first a key that does not fit, which must change nothing
                    shutil.copy(pair.key, authority.folder / "node.key.pem")
                    server.signal(signal.SIGHUP)
                    shutil.copy(pair.cert, authority.folder / "node.cert.pem")
                server.signal(signal.SIGHUP)
                until("it is in use", lambda made=made: [_accepted(server, made) for _ in range(6)] == [True] * 6)  # type: ignore[misc]
                version = server.put("a/b", 1)
                client.expect("notify", version=version)
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert server.stop() == 0
        assert "certificate in use" in server.log


def _accepted(server: Server, authority: Authority) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as raw, suppress(ssl.SSLError):
        with authority.trusting().wrap_socket(raw, server_hostname="127.0.0.1"):
            return True
    return False


def run(server: Server, *words: str, code: int = 0, **variables: str) -> str:
    done = command(server.url, *words, code=code, **variables)
    return done.stdout + done.stderr


def test_commands_trust_whom_they_are_told_to(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ca, other = str(authority.ca), str(Authority(tmp_path / "other").ca)
    with secured(authority) as server:
        assert run(server, "publish", "a", "1", "--tls-ca", ca).strip().isdigit()
        assert run(server, "get", "a", SOFTSTATE_TLS_CA=ca) == "1\n"
        assert "--tls-ca" in run(server, "get", "a", "--timeout", "3s", code=5)
        assert "--tls-ca" in run(server, "publish", "a", "2", "--tls-ca", other, "--timeout", "3s", code=5)
        assert "No such file" in run(server, "get", "a", "--tls-ca", "nothing.pem", code=2)
        assert "must be PEM" in run(server, "get", "a", "--tls-cert", ca, code=2)
        assert "--tls-cert" in run(server, "get", "a", "--tls-key", ca, code=2)


async def recover(server: Server, authority: Authority) -> None:
    async with softstate.connect(server.url, tls=authority.trusting()) as client, client.subscribe("a/") as updates:
        with trio.fail_after(3 * WAIT_S):
            await client.publish("a/b", 1)
            await until_it_has(updates, 1)
            await trio.to_thread.run_sync(server.kill)
            await mode_is(client, "polling", "offline")
            await trio.to_thread.run_sync(server.start)
            await client.publish("a/b", 2)
            await until_it_has(updates, 2)
            await mode_is(client, "live")


async def until_it_has(updates: softstate.Updates, value: int) -> None:
    async for change in updates:
        if change.value == value:
            return


def test_a_client_recovers_over_tls_from_kill_9(authority: Authority) -> None:
    with secured(authority) as server:
        trio.run(recover, server, authority)
        assert server.stop() == 0


def test_a_certificate_that_cannot_be_used_is_told_at_start(authority: Authority) -> None:
    pair, other = authority.node(), authority.node("other")
    with pytest.raises(AssertionError, match="is not that of the first certificate"):
        Server(authority.folder, tls_cert=str(pair.cert), tls_key=str(other.key)).start()
