"""Hostile peers, and peers of other protocols: they get an error, and other clients do not notice."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.processes import WAIT_S, ForeignClient, Server, running

OPTIONS = {"ttl": "30s", "head_s_max": 0.5, "idle_s_max": 2, "hello_s_max": 0.5, "body_s_max": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("node"), **OPTIONS) as server:
        yield server


@pytest.fixture
def bystander(server: Server) -> Iterator[ForeignClient]:
    """A well-behaved client, which must not notice."""
    with ForeignClient(server) as peer:
        peer.hello()
        peer.subscribe("fine")
        yield peer
        peer.expect("notify", topic="fine", version=server.put("fine", 1))


def talk(server: Server, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes, and return all bytes that come back until the other side closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"400"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"408"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /v1/topics/x HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"431"),
        (b"PUT /v1/topics/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"PUT /v1/topics/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{", b"408"),
        (b"GET /v1/topics/x HTTP/1.1\r\nHost: 127.0.0.1\r\nSlow: ", b"408"),
    ],
)
def test_bad_http_is_answered_and_closed(server: Server, bystander: ForeignClient, data: bytes, status: bytes) -> None:
    reply = talk(server, data)
    assert reply.startswith(b"HTTP/1.1 " + status)
    _, _, body = reply.partition(b"\r\n\r\n")
    assert json.loads(body)["message"]


@pytest.mark.parametrize("size", [0, 1, 20, 200])
def test_random_bytes_harm_no_other_client(server: Server, bystander: ForeignClient, size: int) -> None:
    talk(server, os.urandom(size), end=True)


def test_a_foreign_origin_is_refused_on_both_surfaces(server: Server, bystander: ForeignClient) -> None:
    for path in ("/v1/topics/fine", "/v1/ws"):
        status, reply, _ = server.request("GET", path, headers={"Origin": "https://evil.example"})
        assert (status, reply["code"]) == (403, "denied")


def test_a_websocket_without_hello_is_closed(server: Server, bystander: ForeignClient) -> None:
    with ForeignClient(server) as mute:
        assert "hello" in mute.expect("error", code="invalid")["message"]


def test_a_torn_frame_and_a_reset_are_survived(server: Server, bystander: ForeignClient) -> None:
    with ForeignClient(server) as peer:
        peer.hello()
        raw = peer.socket.socket
        raw.sendall(b"\x81\xfe\x10")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()


def test_a_consumer_that_stops_reading_is_demoted_and_converges(tmp_path: Path) -> None:
    with running(tmp_path, ttl="30s", congested_s_max=1, pending_max=64) as server:
        stalled, healthy = ForeignClient(server), ForeignClient(server)
        for peer in (stalled, healthy):
            peer.hello()
            peer.subscribe("load/")
        with ForeignClient(server) as publisher:
            publisher.hello()
            filler = "x" * 30_000
            sent = 0
            # `websockets` reads in the background up to its own limits; beyond those and the socket's, it stalls.
            while not server.status()["repairs"].get("slow_consumer"):
                for _ in range(20):
                    publisher.send("publish", id=sent, topic=f"load/{sent % 100}", value=[sent, filler])
                    sent += 1
                for _ in range(20):
                    publisher.expect("published")
                while healthy.expect("notify")["value"][0] != sent - 1:
                    pass
                assert sent < 5_000, "the stalled consumer was never demoted"
            last = {f"load/{number % 100}": number for number in range(sent)}
        memory = server.status()["memory_bytes"]
        while stalled.receive()["op"] != "revoked":
            pass
        stalled.send("subscribe", id=9, prefixes={"load/": 0}, replace=True)
        seen: dict[str, int] = {}
        page = stalled.expect("subscribed", id=9)
        while True:
            seen.update({change["topic"]: change["value"][0] for change in page["changes"]})
            if not page.get("more"):
                break
            page = stalled.expect("subscribed", id=9)
        assert seen == last
        assert memory < 500 * 2**20
        stalled.close()
        healthy.close()
