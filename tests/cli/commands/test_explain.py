"""`softstate explain` asks every node, and says for people what each knows of a client, or of a topic."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from softstate import connect
from softstate.cli.commands.explain import client_lines, command, topic_lines
from softstate.cli.exit_codes import Failure
from softstate.cli.options.credentials import Presented
from softstate.errors import Denied, Invalid, NotFound, Unauthenticated
from tests.kit.node_rig import mode_is, node
from tests.kit.rules_gate import RulesGate

NOW = datetime(2026, 11, 30, 14, 2, 30, tzinfo=UTC)
SESSION = {
    "session": "3f9a01bc", "client": "shop-7", "subject": "shop", "address": "10.0.3.9", "protocol": "websocket",
    "lease": "live", "ttl_ms": 60_000, "left_ms": 41_000, "beat_ms": 1_000, "names": 20, "holds": ["a", "orders/"],
    "position": {"epoch": "e", "lineage": "l", "revision": 81_190}, "waiting": 1_024, "waits_for": ["orders/7"],
    "congested_ms": 9_600,
    "events": [
        {"ago_ms": 30_000, "what": "opened", "detail": ""},
        {"ago_ms": 29_000, "what": "subscribed", "detail": 20},
        {"ago_ms": 19_000, "what": "lease revoked", "detail": "slow_consumer"},
        {"ago_ms": 18_000, "what": "closed", "detail": 4000},
    ],
}  # fmt: skip
TOLD = {
    "explains": "client", "node": "a1c3d5e7f9", "position": {"epoch": "e", "lineage": "l", "revision": 81_223},
    "sessions": [SESSION], "more": True,
}  # fmt: skip


def test_a_session_is_told_with_its_events_and_what_waits() -> None:
    assert list(client_lines(TOLD, NOW)) == [
        "shop-7 (session 3f9a01bc, node a1c3d5, 10.0.3.9, shop): LIVE by websocket, lease of 60 s, 41 s left",
        "  14:02:00  opened",
        "  14:02:01  subscribed: 20 names",
        "  14:02:11  lease revoked: slow_consumer",
        "  14:02:12  closed: 4000",
        "  holds a, orders/ and 18 more; was told all up to 81,190, this node is at 81,223",
        "  1,024 entries wait for it, which has taken nothing for 9.6 s: orders/7 and 1,023 more",
        "node a1c3d5 has more sessions of that name",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lease": "over", "left_ms": 0}, "LEASE OVER, connected by websocket"),
        ({"lease": "detached", "protocol": "none"}, "NOT CONNECTED, lease of 60 s, 41 s left"),
        ({"client": "shop\x1b[31m", "position": None}, "shop\\u001b[31m (session"),
        ({"position": None}, "was told no position yet"),
        ({"holds": [], "names": 0}, "holds nothing;"),
    ],
)
def test_a_session_may_be_in_other_states(fields: dict[str, object], words: str) -> None:
    lines = list(client_lines({**TOLD, "sessions": [{**SESSION, **fields}], "more": False}, NOW))
    assert words in "\n".join(lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "orders/7 at version 12, 9 bytes (node a1c3d5 at 81,223)"),
        ({"version": None}, "orders/7 has no value, and none is remembered"),
        ({"deleted": True}, "orders/7 deleted at version 12"),
        ({"unreadable": True}, "its stored record is damaged"),
        ({"followers": {}, "clients": []}, "by name: none"),
        ({"waiting": 2}, "a change of it waits for 2 connections"),
    ],
)
def test_a_topic_is_told_with_who_follows_it(fields: dict[str, object], words: str) -> None:
    told = {
        "node": "a1c3d5e7f9", "position": TOLD["position"], "topic": "orders/7", "version": 12, "deleted": False,
        "unreadable": False, "value_bytes": 9, "followers": {"orders/": 3}, "waiting": 0, "clients": ["shop-7"],
    }  # fmt: skip
    assert words in "\n".join(topic_lines({**told, **fields}))


async def test_every_node_is_asked_and_one_that_is_down_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    async with node() as first, node() as second, connect(second.url, name="shop-7") as client:
        await client.publish("orders/7", 1)
        async with client.subscribe("orders/") as updates:
            await updates.synced()
            await mode_is(client, "live")
            capsys.readouterr()  # what the nodes have logged
            urls = (first.url, second.url, "ws://127.0.0.1:1")
            assert await command("client", "shop-7", url=urls) == 0
            output = capsys.readouterr()
            assert "shop-7 (session " in output.out
            assert "LIVE by websocket" in output.out
            assert "softstate: ws://127.0.0.1:1 says nothing: " in output.err
            assert await command("client", "shop-7", url=urls, json=True) == 0
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
            assert [line["url"] for line in lines] == list(urls)
            assert [len(line.get("sessions", ())) for line in lines] == [0, 1, 0]
            assert "cannot be reached" in lines[2]["error"]
            assert await command("topic", "orders/7", url=(second.url,)) == 0
            assert "by name: orders/ 1; such as 'shop-7'" in capsys.readouterr().out


async def test_what_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    async with node() as running:
        capsys.readouterr()  # what the node has logged
        with pytest.raises(NotFound, match="no node that was asked has a session of 'shop-8'"):
            await command("client", "shop-8", url=(running.url,))
        assert capsys.readouterr().out == ""
    with pytest.raises(Failure, match="cannot be reached"):
        await command("client", "shop-8", url=("ws://127.0.0.1:1",))
    with pytest.raises(Invalid):
        await command("topic", "a//b", url=("ws://127.0.0.1:1",))


async def test_it_takes_the_right_of_administrators() -> None:
    rules = RulesGate()
    rules.may("root", admin=True)
    rules.may("shop", read=["a"])
    rules.issue("root", "root")
    rules.issue("shop", "shop")
    async with node(parts={"authority": rules}) as running:
        with pytest.raises(Unauthenticated):
            await command("topic", "a", url=(running.url,))
        with pytest.raises(Denied, match="administrators"):
            await command("topic", "a", url=(running.url,), credentials=Presented(token="shop"))
        assert await command("topic", "a", url=(running.url,), credentials=Presented(token="root")) == 0
