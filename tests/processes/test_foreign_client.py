"""A client made of the `websockets` package and PROTOCOL.md alone, against a real node, in both subprotocols."""

from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.processes import ForeignClient, Server, digest, running, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("node"), ttl="30s") as server:
        yield server


@pytest.fixture(params=["json", "cbor"])
def peer(server: Server, request: pytest.FixtureRequest) -> Iterator[ForeignClient]:
    with ForeignClient(server, request.param) as peer:
        yield peer


def closed_with(peer: ForeignClient) -> int:
    """Read to the end of a connection, and return its close code."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            peer.receive()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_welcome_says_everything_a_client_needs_later(peer: ForeignClient) -> None:
    welcome = peer.hello(name="a stranger", unknown_field=[1, 2])
    assert set(welcome) == {
        "op", "session", "resumed", "node", "position", "ttl_ms", "renew_ms", "timeout_ms", "poll", "recover", "limits",
        "durability", "level", "clock_ms",
    }  # fmt: skip
    assert welcome["resumed"] is False
    assert welcome["durability"] == "durable"
    assert set(welcome["position"]) == {"epoch", "lineage", "revision"}
    assert set(welcome["limits"]) == {
        "subscriptions", "value_bytes", "message_bytes", "pending", "keys", "key_ms", "inflight",
        "value_items", "message_items",
    }  # fmt: skip
    assert (welcome["limits"]["value_items"], welcome["limits"]["message_items"]) == (4_096, 16_384)
    assert welcome["ttl_ms"] == 30_000
    assert welcome["renew_ms"] == 10_000


def test_a_shorter_lease_may_be_asked_for_and_a_longer_may_not(server: Server) -> None:
    for asked_ms, granted_ms in ((2_000, 2_000), (1, 1_000), (3_600_000, 30_000)):
        with ForeignClient(server) as peer:
            assert peer.hello(ttl_ms=asked_ms)["ttl_ms"] == granted_ms


def test_subscribe_notify_renew(server: Server, peer: ForeignClient) -> None:
    base = f"sub/{peer.codec}"
    before = server.put(f"{base}/known", {"n": 1})
    peer.hello()
    answer = peer.subscribe(f"{base}/", f"{base}/known", "absent/topic")
    assert answer["changes"] == [{"topic": f"{base}/known", "version": before, "value": {"n": 1}}]
    assert answer["count"] == 3
    assert answer["digest"] == digest(f"{base}/", f"{base}/known", "absent/topic")
    version = server.put(f"{base}/new", [1, None, "ü"])
    peer.expect("notify", topic=f"{base}/new", version=version, value=[1, None, "ü"])
    status, reply, _ = server.request("DELETE", f"/v1/topics/{base}/new")
    assert status == 200
    peer.expect("notify", topic=f"{base}/new", version=reply["version"], deleted=True)
    peer.send("renew", id="r", digest=answer["digest"], count=3)
    renewed = peer.expect("renewed", id="r", match=True, sent=2, store="ok")
    assert renewed["position"]["revision"] >= reply["version"]


def test_a_mismatch_is_reported_and_repaired_with_replace(peer: ForeignClient) -> None:
    peer.hello()
    peer.subscribe("a", "b")
    peer.send("renew", id=2, digest=digest("a"), count=1)
    peer.expect("renewed", match=False)
    peer.send("subscribe", id=3, topics={"a": 0}, replace=True)
    peer.expect("subscribed", id=3, count=1, digest=digest("a"))
    peer.send("renew", id=4, digest=digest("a"), count=1)
    peer.expect("renewed", match=True)


def test_unsubscribed_names_are_pushed_no_more(server: Server, peer: ForeignClient) -> None:
    base = f"un/{peer.codec}"
    peer.hello()
    peer.subscribe(f"{base}/", f"{base}/other")
    peer.send("unsubscribe", prefixes=[f"{base}/"])
    peer.send("renew", id=2, digest=digest(f"{base}/other"), count=1)
    peer.expect("renewed", match=True)
    server.put(f"{base}/silent", 1)
    version = server.put(f"{base}/other", 2)
    peer.expect("notify", topic=f"{base}/other", version=version)


def test_publish_compare_and_set_and_keys(peer: ForeignClient) -> None:
    topic = f"pub/{peer.codec}"
    peer.hello()
    peer.send("publish", id=1, topic=topic, value={"b": 1.5}, expect=0, key="k1")
    first = peer.expect("published", id=1, topic=topic)
    peer.send("publish", id=2, topic=topic, value={"b": 1.5}, expect=0, key="k1")
    peer.expect("published", id=2, version=first["version"], repeated=True)
    peer.send("publish", id=3, topic=topic, value="something else", key="k1")
    peer.expect("error", id=3, code="key_reused")
    peer.send("publish", id=4, topic=topic, value=2, expect=0)
    peer.expect("error", id=4, code="conflict", current=first["version"])
    peer.send("publish", id=5, topic=topic, deleted=True, expect=first["version"])
    deleted = peer.expect("published", id=5)
    assert deleted["version"] > first["version"]
    assert deleted["position"]["revision"] == deleted["version"]


def test_pipelined_publishes_are_answered_in_order(peer: ForeignClient) -> None:
    peer.hello()
    for number in range(600):
        peer.send("publish", id=number, topic=f"pipe/{peer.codec}/{number % 7}", value=number)
    versions = [peer.expect("published", id=number)["version"] for number in range(600)]
    assert versions == sorted(versions)


def test_poll_over_the_websocket(server: Server, peer: ForeignClient) -> None:
    topic = f"poll/{peer.codec}"
    version = server.put(topic, 1)
    welcome = peer.hello()
    peer.send("poll", id=1, position=welcome["position"], topics={topic: 0})
    polled = peer.expect("polled", id=1, changes=[{"topic": topic, "version": version, "value": 1}])
    peer.send("poll", id=2, position=polled["position"], topics={topic: version}, prefixes={})
    peer.expect("polled", id=2, changes=[])
    peer.send("poll", id=3, topics={topic: version}, min_revision=version + 10**9)
    assert peer.expect("error", id=3, code="behind")["retry_ms"] > 0


def test_resume_replays_missed_changes(server: Server, peer: ForeignClient) -> None:
    topic = f"resume/{peer.codec}"
    welcome = peer.hello()
    answer = peer.subscribe(topic, f"{topic}/")
    peer.socket.socket.close()
    first, second = server.put(topic, 1), server.put(f"{topic}/below", 2)
    server.put("elsewhere", 3)
    with ForeignClient(server, peer.codec) as again:
        position = answer["position"]
        welcomed = again.hello(session=welcome["session"], since=position["revision"], position=position)
        assert welcomed["resumed"] is True
        again.expect("notify", topic=topic, version=first)
        again.expect("notify", topic=f"{topic}/below", version=second)
        again.send("renew", id=1, digest=digest(topic, f"{topic}/"), count=2)
        again.expect("renewed", match=True, sent=2)


def test_resuming_moves_the_session_away_from_the_older_connection(server: Server, peer: ForeignClient) -> None:
    topic = f"moved/{peer.codec}"
    welcome = peer.hello()
    position = peer.subscribe(topic)["position"]
    with ForeignClient(server, peer.codec) as thief:
        resumed = thief.hello(session=welcome["session"], since=position["revision"], position=position)
        assert resumed["resumed"] is True
        peer.expect("bye", reason="replaced")
        assert closed_with(peer) == 4001
        thief.expect("notify", topic=topic, version=server.put(topic, "still here"))


@pytest.mark.parametrize("missing", ["since", "position", "session"])
def test_a_resume_that_lacks_something_gets_a_new_session(server: Server, peer: ForeignClient, missing: str) -> None:
    welcome = peer.hello()
    position = peer.subscribe("x")["position"]
    peer.close()
    fields = {"session": welcome["session"], "since": position["revision"], "position": position}
    if missing == "session":
        fields["session"] = "forged"
    else:
        del fields[missing]
    with ForeignClient(server, peer.codec) as again:
        welcomed = again.hello(**fields)
        assert welcomed["resumed"] is False
        assert welcomed["session"] != welcome["session"]


@pytest.mark.parametrize(
    ("position", "reset"),
    [
        ({"epoch": "another", "lineage": "x", "revision": 1}, True),
        ({"lineage": "another"}, True),
        ({"revision": 10**12}, True),
        ({}, None),
    ],
)
def test_a_position_off_the_history_resets_that_client(
    server: Server, peer: ForeignClient, position: dict[str, Any], reset: bool | None
) -> None:
    with ForeignClient(server) as other:
        current = other.hello()["position"]
        welcomed = peer.hello(position={**current, **position})
        assert welcomed.get("reset") is reset
        other.send("renew", id=1, digest=digest(), count=0)
        other.expect("renewed", match=True)


def test_a_version_above_the_stores_is_rewound(server: Server, peer: ForeignClient) -> None:
    server.put("low", 1)
    peer.hello()
    peer.send("subscribe", id=1, topics={"low": 10**9})
    error = peer.expect("error", id=1, code="rewound")
    assert set(error["position"]) == {"epoch", "lineage", "revision"}


BAD_MESSAGES: list[tuple[dict[str, Any], str, str]] = [
    ({"op": "dance"}, "unsupported", "op"),
    ({"op": "hello"}, "invalid", "hello"),
    ({"op": "renew", "id": 1}, "invalid", "digest"),
    ({"op": "subscribe", "id": 1, "topics": {"a//b": 0}}, "invalid", "topics"),
    ({"op": "subscribe", "id": 1, "topics": {"a" * 256: 0}}, "invalid", "255"),
    ({"op": "subscribe", "id": 1, "topics": {"a": -1}}, "invalid", "topics"),
    ({"op": "subscribe", "id": 1, "prefixes": {"a": 0}}, "invalid", "prefixes"),
    ({"op": "subscribe", "id": 1, "topics": [1]}, "invalid", "topics"),
    ({"op": "publish", "id": 1, "topic": "a"}, "invalid", "value"),
    ({"op": "publish", "id": 1, "topic": "../a", "value": 1}, "invalid", "topic"),
    ({"op": "publish", "id": 1, "topic": "a", "value": "x" * 70_000}, "too_large", "value_bytes"),
    ({"op": "publish", "id": 1, "topic": "a", "value": {"$bytes": "@"}}, "invalid", "$bytes"),
    ({"op": "poll", "id": 1, "prefixes": {"": 0}}, "invalid", "prefixes"),
    ({"id": 1}, "invalid", "op"),
]


@pytest.mark.parametrize(("message", "code", "names"), BAD_MESSAGES)
def test_bad_messages_are_refused_by_name_and_harm_no_other_client(
    server: Server, peer: ForeignClient, message: dict[str, Any], code: str, names: str
) -> None:
    peer.hello()
    peer.subscribe("fine")
    peer.send_raw(message)
    error = peer.expect("error", code=code)
    assert names in error["message"]
    peer.expect("notify", topic="fine", version=server.put("fine", code))


@pytest.mark.parametrize("first", [{"op": "renew", "id": 1, "digest": "0", "count": 0}, {"op": "hello", "ttl_ms": "x"}])
def test_a_connection_begins_with_hello_or_ends(peer: ForeignClient, first: dict[str, Any]) -> None:
    peer.send_raw(first)
    peer.expect("error", code="invalid")
    assert closed_with(peer) == 4200


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("json", b"\xff\xfe"),
        ("json", "{"),
        ("json", '{"op":"bye"} x'),
        ("json", "[" * 10_000),
        ("cbor", b"\xa1"),
        ("cbor", b"\xa1\x62op\x63bye\x00"),
        ("cbor", b"\xd8\x23\x63a+b"),
        ("cbor", b"\xbf\x62op\x63bye\xff"),
        ("cbor", "text"),
    ],
)
def test_malformed_messages_get_an_error_and_the_connection_lives(
    server: Server, codec: str, data: bytes | str
) -> None:
    with ForeignClient(server, codec) as peer:
        peer.hello()
        peer.socket.send(data)
        peer.expect("error", code="invalid")
        peer.send("renew", id=1, digest=digest(), count=0)
        peer.expect("renewed", match=True)


def test_a_message_over_the_limit_ends_its_connection_only(server: Server, peer: ForeignClient) -> None:
    peer.hello()
    with ForeignClient(server) as other:
        other.hello()
        peer.send("publish", id=1, topic="big", value="x" * 2_000_000)
        assert closed_with(peer) == 1009
        other.send("renew", id=1, digest=digest(), count=0)
        other.expect("renewed", match=True)


def test_bye_releases_the_lease_at_once(server: Server, peer: ForeignClient) -> None:
    peer.hello(name="leaver")
    until("others to be gone", lambda: server.status()["attached"] == 1)
    sessions = server.status()["sessions"]
    peer.send("bye")
    closed_with(peer)
    until("the lease to be gone", lambda: server.status()["sessions"] == sessions - 1)
