"""Reads over plain sockets: answers in pieces, nodes that are silent, not there, or want to be asked later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.plain import goes_plainly, publish, read
from softstate.client.requests.reply import HttpFailed
from softstate.errors import Denied, Unavailable
from softstate.position import Position
from softstate.wire import CBOR
from softstate.wire.messages import Batch, BatchChange, BatchResult, BatchResults

FOUND = b'HTTP/1.1 200 OK\r\nETag: "e.l.7+json"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n42'


def reply(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def answering(
    *answers: list[bytes], family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)
) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """Answer one connection after the other, in the pieces of its list, and close it; none: nothing is said."""
    asked: list[bytes] = []
    with socket.socket(family) as listener:
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen()

        def serve() -> None:
            for pieces in answers:
                opened, _ = listener.accept()
                with opened:
                    asked.append(opened.recv(65536))
                    for piece in pieces:
                        opened.sendall(piece)
                    if not pieces:
                        opened.recv(1)  # until the other end gives up

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listener, asked
        thread.join(10)
        assert not thread.is_alive()


def url_of(listener: socket.socket) -> str:
    return f"ws://127.0.0.1:{listener.getsockname()[1]}"


def value_of(*urls: str, timeout_s: float = 10.0, credentials: Presented = NO_CREDENTIALS) -> object:
    found = read(urls, credentials, timeout_s, lambda reading: reading.get("a", None, timeout_s)).change
    return None if found is None else found.value


def test_an_answer_that_comes_in_pieces_is_put_together() -> None:
    with answering([FOUND[:9], FOUND[9:-1], FOUND[-1:]]) as (listener, asked):
        assert value_of(url_of(listener), credentials=Presented(token="secret")) == 42
        assert asked[0].startswith(b"GET /v1/topics/a HTTP/1.1\r\n")
        assert b"Authorization: Bearer secret\r\n" in asked[0]


def test_a_unix_socket_is_asked(tmp_path: Path) -> None:
    with answering([FOUND], family=socket.AF_UNIX, address=str(tmp_path / "s")):
        assert value_of(f"unix:{tmp_path / 's'}") == 42


def test_a_node_that_says_later_is_asked_again_and_another_one_goes_first() -> None:
    later = reply(503, b'{"op":"error","code":"unavailable","message":"m","retry_ms":1}')
    with answering([later], [FOUND]) as (listener, asked):
        assert value_of("ws://127.0.0.1:1", url_of(listener)) == 42
        assert len(asked) == 2


def test_a_node_that_is_silent_is_given_up() -> None:
    with answering([]) as (listener, _), pytest.raises(Unavailable, match=r"no node answered within 0\.2 s"):
        value_of(url_of(listener), timeout_s=0.2)


def test_a_node_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        value_of("ws://127.0.0.1:1", timeout_s=0.05)


def test_a_refusal_is_raised() -> None:
    refused = reply(403, b'{"op":"error","code":"denied","message":"you may not"}')
    with answering([refused]) as (listener, _), pytest.raises(Denied, match="you may not"):
        value_of(url_of(listener))


CHANGE = BatchChange("a", 1, key="k")


def results(*given: BatchResult) -> bytes:
    body = CBOR.dumps(BatchResults(list(given)))
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_publish_is_sent_and_its_result_returned() -> None:
    result = BatchResult("a", 7, Position("e", "l", 7))
    with answering([results(result)]) as (listener, asked):
        assert publish(url_of(listener), CHANGE, Presented(token="secret"), 10.0) == result
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/publish HTTP/1.1\r\n")
    assert b"Content-Type: application/cbor" in head
    assert b"Authorization: Bearer secret" in head
    assert CBOR.loads(body, Batch) == Batch([CHANGE])


@pytest.mark.parametrize(
    ("answer", "text"),
    [([FOUND[:20]], "broke|closed"), ([results()], "1 publishes with 0 results"), ([], "did not answer within")],
)
def test_a_publish_without_a_result_is_sent_once_and_may_have_been_applied(answer: list[bytes], text: str) -> None:
    with answering(answer) as (listener, _):
        with pytest.raises(HttpFailed, match=text) as failed:
            publish(url_of(listener), CHANGE, NO_CREDENTIALS, 10.0 if answer else 0.2)
        assert not failed.value.unsent


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), TimeoutError("timed out")])
def test_a_publish_without_a_connection_is_unsent(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*_: object) -> socket.socket:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(HttpFailed, match=f"cannot be reached: {error}") as failed:
        publish("ws://a:1", CHANGE, NO_CREDENTIALS, 10.0)
    assert failed.value.unsent


def test_tls_and_files_of_tokens_take_a_client() -> None:
    assert goes_plainly(["ws://a", "http://b"], NO_CREDENTIALS)
    assert not goes_plainly(["ws://a", "wss://b"], NO_CREDENTIALS)
    assert not goes_plainly(["ws://a"], Presented(token_file=Path("token")))
