import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from softstate.server.config import ServerConfig
from softstate.server.http.upgrade import Handshake, answer_key, check_upgrade
from softstate.server.http1 import Conversation, RequestHead
from softstate.wire import CBOR, JSON
from tests.kit.fake_node import Answer, FakeNode, parse

GOOD = {
    "Host": "127.0.0.1:8700",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "softstate.v1.json",
}


def handshake(line: str = "GET /v1/ws HTTP/1.1", **changes: str | None) -> bytes:
    """Write a handshake with some headers replaced, or left out where None is given."""
    headers: dict[str, str | None] = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def upgraded(node: FakeNode, raw: bytes, chunk: int = 1 << 20) -> Handshake:
    """Send a valid handshake, and return what the upgrade gets."""
    assert await node.converse(raw, chunk=chunk) == b"upgraded"
    ((shaken, peer),) = node.upgrades
    assert peer == "peer"
    return shaken


async def refused(node: FakeNode, raw: bytes) -> Answer:
    (answer,) = await node.exchange(raw)
    assert node.upgrades == []
    return answer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Sec_WebSocket_Protocol": "other, softstate.v1.json"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec_WebSocket_Extensions": "\xff"},
        {"Cookie": "a=\xff"},
        {"Origin": "http://127.0.0.1:8700"},
        {"Host": "[::1]:8700"},
        {"Content_Length": "0"},
    ],
)
async def test_a_handshake_is_taken_however_it_is_cut_and_frames_behind_it_are_kept(changes: dict[str, str]) -> None:
    frame = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi"
    for chunk in (1, 1 << 20):
        shaken = await upgraded(FakeNode(), handshake(**changes) + frame, chunk)
        assert shaken.codec is JSON
        # Bytes that come one by one stay in the stream until they are asked for.
        assert shaken.behind == (frame if chunk > 1 else b"")
        assert shaken.answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Extensions" not in shaken.answer


async def test_a_handshake_of_wsproto_is_taken_and_the_answer_is_understood_by_it() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    offer = Request(host="127.0.0.1", target="/v1/ws", subprotocols=["other", JSON.protocol])
    shaken = await upgraded(FakeNode(), client.send(offer))
    client.receive_data(shaken.answer)
    [accepted] = client.events()
    assert isinstance(accepted, AcceptConnection)
    assert (accepted.subprotocol, accepted.extensions) == (JSON.protocol, [])


async def test_the_first_known_subprotocol_is_selected() -> None:
    for offer, codec in (("softstate.v1.cbor, softstate.v1.json", CBOR), ("softstate.v1.json,softstate.v1.cbor", JSON)):
        assert (await upgraded(FakeNode(), handshake(Sec_WebSocket_Protocol=offer))).codec is codec


async def test_a_kept_connection_may_be_upgraded() -> None:
    node = FakeNode()
    received = await node.converse(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + handshake())
    assert received.endswith(b"upgraded")
    assert [answer.status for answer in parse(received.removesuffix(b"upgraded"))] == [200]
    assert (node.http.statistics().upgrades, node.http.statistics().connections) == (1, 0)


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (handshake("POST /v1/ws HTTP/1.1"), 405, "invalid"),
        (handshake("HEAD /v1/ws HTTP/1.1"), 405, "invalid"),
        (handshake("GET /v1/ws HTTP/1.0"), 400, "invalid"),
        (handshake("GET /v1/ws HTTP/1.0", Upgrade=None, Connection="close"), 426, "unsupported"),
        (handshake(Upgrade=None), 426, "unsupported"),
        (handshake(Upgrade="h2c"), 426, "unsupported"),
        (handshake(Connection=None), 426, "unsupported"),
        (handshake(Connection="keep-alive"), 426, "unsupported"),
        (handshake(Sec_WebSocket_Version=None), 426, "unsupported"),
        (handshake(Sec_WebSocket_Version="8"), 426, "unsupported"),
        (handshake(Sec_WebSocket_Version="13, 8"), 426, "unsupported"),
        (handshake(Sec_WebSocket_Key=None), 400, "invalid"),
        (handshake(Sec_WebSocket_Key=""), 400, "invalid"),
        (handshake(Sec_WebSocket_Key="not base64!"), 400, "invalid"),
        (handshake(Sec_WebSocket_Key="c2hvcnQ="), 400, "invalid"),
        (handshake(Sec_WebSocket_Key="\xff" * 24), 400, "invalid"),
        (handshake(X="1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "invalid"),
        (handshake(Sec_WebSocket_Protocol=None), 400, "unsupported"),
        (handshake(Sec_WebSocket_Protocol="softstate.v2.json"), 400, "unsupported"),
        (handshake(Sec_WebSocket_Protocol="\xff"), 400, "unsupported"),
        (handshake(Host="\xff"), 400, "invalid"),
        (handshake(Host=None), 400, "invalid"),
        (handshake(Content_Length="2") + b"{}", 400, "invalid"),
        (handshake(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "invalid"),
        (handshake("GET /v1/ws/ HTTP/1.1"), 404, "not_found"),
        (handshake(Origin="http://evil.example"), 403, "denied"),
    ],
)
async def test_bad_handshakes_are_answered_and_not_upgraded(raw: bytes, status: int, code: str) -> None:
    if raw.startswith(b"HEAD"):
        (answer,) = await FakeNode().exchange(raw, heads=[0])
        assert answer.status == status
        return
    answer = await refused(FakeNode(), raw)
    assert (answer.status, answer.code) == (status, code)
    if status == 426:
        assert answer["upgrade"] == "websocket"


async def test_other_versions_learn_ours() -> None:
    answer = await refused(FakeNode(), handshake(Sec_WebSocket_Version="14"))
    assert answer["sec-websocket-version"] == "13"


async def test_unknown_subprotocols_learn_ours() -> None:
    answer = await refused(FakeNode(), handshake(Sec_WebSocket_Protocol="chat"))
    assert "softstate.v1.cbor" in answer.json["message"]
    assert "softstate.v1.json" in answer.json["message"]


async def test_a_poll_node_has_no_websocket() -> None:
    answer = await refused(FakeNode(role="poll"), handshake())
    assert (answer.status, answer.code) == (404, "not_found")


async def test_a_draining_node_takes_no_handshake() -> None:
    node = FakeNode()
    node.draining = True
    answer = await refused(node, handshake())
    assert (answer.status, answer.code, answer["retry-after"]) == (503, "unavailable", "0")


async def test_admission_comes_before_the_upgrade() -> None:
    node = FakeNode()
    node.admission.shed_s = 2.5
    answer = await refused(node, handshake())
    assert (answer.status, answer.code) == (503, "overloaded")
    assert (answer.json["retry_ms"], answer["retry-after"]) == (2500, "3")
    node.admission.shed_s = None
    await upgraded(node, handshake())


async def test_upgrades_to_other_protocols_are_ignored_elsewhere() -> None:
    raw = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert [answer.status for answer in await FakeNode().exchange(raw + raw)] == [200, 200]


def test_the_key_is_answered() -> None:
    """By the example of RFC 6455 section 1.3."""
    raw = handshake(
        X_Before="Sec-WebSocket-Key: bm90IHRoaXMgb25lISEhIQ==", Sec_WebSocket_Protocol=f"a, {JSON.protocol}"
    )
    conversation = Conversation(ServerConfig())
    head = conversation.feed(raw + b"\x81\x00\r\n\r\n")
    assert isinstance(head, RequestHead)
    answer = answer_key(conversation.key, check_upgrade(head))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert f"\r\nSec-WebSocket-Protocol: {JSON.protocol}\r\n".encode() in answer
    assert conversation.take_rest() == b"\x81\x00\r\n\r\n"
    assert conversation.feed(b"more") is None
