"""Publishes as bytes, the answers that acknowledge them, and one that does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from bench.peers.clients.publisher import PREPARATIONS, PUBLISHINGS, Publisher, asked

ANSWERS = {
    "softstate": (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
    "Centrifugo": (b'HTTP/1.1 200 OK\r\n\r\n{"result":{}}', b'HTTP/1.1 200 OK\r\n\r\n{"error":{}}'),
    "NATS KV": (b'INFO {}\r\nMSG i 2 9\r\n{"seq":1}\r\n', b'INFO {}\r\nMSG i 2 9\r\n{"error":1}\r\n'),
    "Redis": (b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:3\r\n", b"+OK\r\n+QUEUED\r\n-MISCONF\r\n-EXECABORT\r\n"),
    "Socket.IO": (b"HTTP/1.1 200 OK\r\n\r\npublished", b"HTTP/1.1 404 Not Found\r\n\r\n"),
}


@pytest.mark.parametrize("system", PUBLISHINGS)
def test_a_publish_names_its_topic_and_number_and_only_its_own_answer_acknowledges_it(system: str) -> None:
    request = PUBLISHINGS[system].request("still", 4711)
    assert b"still" in request
    assert b"4711" in request
    good, bad = ANSWERS[system]
    assert PUBLISHINGS[system].acknowledged(good)
    assert not PUBLISHINGS[system].acknowledged(b"")
    assert not PUBLISHINGS[system].acknowledged(bad)


def test_a_bucket_is_made_once_its_stream_is_described() -> None:
    _, made = PREPARATIONS["NATS KV"]
    assert made(b'MSG i 2 80\r\n{"config":{},"state":{"messages":0}}\r\n')
    assert not made(b'MSG i 2 80\r\n{"error":{"code":503}}\r\n')


@pytest.fixture
def refuser() -> Iterator[int]:
    """Serve connections that are answered "no" and closed, three times; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(3):
                talk, _ = listener.accept()
                with talk:
                    talk.recv(1000)
                    talk.sendall(b"no")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_an_answer_that_does_not_acknowledge_is_an_error_and_nothing_is_noted(refuser: int) -> None:
    with pytest.raises(ConnectionError, match="it answered b'no'"):
        asked(refuser, b"please", lambda data: data == b"yes")
    publisher = Publisher("softstate", refuser)
    publisher.try_to_publish("ticking")
    assert publisher.published == []
