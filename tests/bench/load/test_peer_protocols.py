"""The protocols of other systems, against what their servers write."""

from __future__ import annotations

import json
from random import Random

import pytest

from bench.load.peer_protocols import Centrifugo, NatsKv, Talk

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def framed(*replies: object) -> bytes:
    """Return a server's text frame, with a reply in each line."""
    payload = b"\n".join(json.dumps(reply).encode() for reply in replies)
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + payload


def sent(data: bytes) -> list[object]:
    """Return the commands in a client's frames."""
    commands = []
    while data:
        size, head = data[1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        commands.append(json.loads(data[head + 4 : head + 4 + size]))
        data = data[head + 4 + size :]
    return commands


def test_a_client_of_centrifugo_connects_subscribes_and_hears_values() -> None:
    protocol, talk = Centrifugo(), Talk()
    assert protocol.first().startswith(b"GET /connection/websocket HTTP/1.1\r\n")
    assert protocol.take(talk, SWITCH[:20]).send == b""
    assert sent(protocol.take(talk, SWITCH[20:]).send) == [{"id": 1, "connect": {}}]
    heard = protocol.take(talk, framed({"id": 1, "connect": {"client": "c"}}))
    assert sent(heard.send) == [{"id": 2, "subscribe": {"channel": "state:clock", "recover": True}}]
    assert not heard.live
    found = {"recovered": True, "publications": [{"data": 7, "offset": 1}]}
    heard = protocol.take(talk, framed({"id": 2, "subscribe": found}, {}))
    assert (heard.live, heard.value, sent(heard.send)) == (True, 7, [{}])
    pushed = framed({"push": {"channel": "state:clock", "pub": {"data": 9, "offset": 2}}})
    assert protocol.take(talk, pushed[:5]).value == -1
    assert protocol.take(talk, pushed[5:]).value == 9


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", SWITCH + framed({"id": 1, "error": {"code": 100}})]
)
def test_centrifugo_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"503|100"):
        Centrifugo().take(Talk(), data)


def test_a_client_of_nats_watches_a_key() -> None:
    protocol, talk = NatsKv(), Talk()
    asked = protocol.first()
    inbox = asked.partition(b"SUB ")[2].partition(b".d 1\r\n")[0]
    assert b"PUB $JS.API.CONSUMER.CREATE.KV_state " + inbox + b".r " in asked
    assert inbox not in protocol.first()
    heard = protocol.take(talk, b'INFO {"server_id":"x"}\r\nPING\r\nMSG _I.r 2 10\r\n{"type":""')
    assert (heard.send, heard.live) == (b"PONG\r\n", False)
    heard = protocol.take(talk, b"\r\nMSG $KV.state.clock 1 2\r\n42\r\nMSG $KV.state.clock 1 $JS.ACK.x 2\r\n43")
    assert (heard.live, heard.value) == (True, 42)
    assert protocol.take(talk, b"\r\n").value == 43
    with pytest.raises(ValueError, match="full"):
        protocol.take(talk, b"-ERR 'full'\r\n")
    with pytest.raises(ValueError, match="error"):
        protocol.take(Talk(), b'MSG _I.r 2 12\r\n{"error":{}}\r\n')


def test_the_waits_are_those_of_the_libraries() -> None:
    random = Random(1)
    waits = [[Centrifugo().wait_s(failures, random) for _ in range(500)] for failures in (0, 1, 9)]
    assert [round(max(drawn), 1) for drawn in waits] == [0.5, 1.0, 20.0]
    assert all(min(drawn) < 0.05 * max(drawn) for drawn in waits)
    assert all(2.0 <= NatsKv().wait_s(failures, random) <= 2.1 for failures in range(5))


def test_publishes_are_whole_conversations() -> None:
    centrifugo, nats = Centrifugo().publishing, NatsKv().publishing
    head, _, body = centrifugo.request("clock", 5).partition(b"\r\n\r\n")
    assert json.loads(body) == {"channel": "state:clock", "data": 5}
    assert f"Content-Length: {len(body)}".encode() in head
    assert centrifugo.acknowledged(b'HTTP/1.1 200 OK\r\n\r\n{"result":{}}')
    assert not centrifugo.acknowledged(b'HTTP/1.1 200 OK\r\n\r\n{"error":{"code":100}}')
    request = nats.request("clock", 5)
    assert b"PUB $KV.state.clock " in request
    assert request.endswith(b".r 1\r\n5\r\n")
    assert nats.acknowledged(b'MSG _I.r 2 30\r\n{"stream":"KV_state","seq":3}\r\n')
    assert not nats.acknowledged(b"INFO {}\r\n")
