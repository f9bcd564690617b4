"""Limits of publishes over WebSocket: refused with the time to wait, and never overtaken (P-AUTH-10, P-PUB-6)."""

from __future__ import annotations

import json

from trio_websocket import WebSocketConnection, open_websocket_url

from tests.kit.node_rig import node
from tests.kit.rules_gate import RulesGate


async def ask(peer: WebSocketConnection, *topics: str) -> list[dict[str, object]]:
    for number, topic in enumerate(topics):
        await peer.send_message(json.dumps({"op": "publish", "id": number, "topic": topic, "value": 1}))
    return [json.loads(await peer.get_message()) for _ in topics]


async def test_a_publish_too_many_is_refused_and_no_later_one_overtakes_it() -> None:
    rules, clock = RulesGate(), [100.0]
    for subject in ("u1", "u2"):
        rules.issue(subject, subject)
        rules.may(subject, write=["/"])
    parts = {"authority": rules, "now": lambda: clock[0]}
    async with node(parts=parts, publishes_per_s=2.0) as running:
        async with (
            open_websocket_url(f"{running.url}/v1/ws", subprotocols=["softstate.v1.json"]) as first,
            open_websocket_url(f"{running.url}/v1/ws", subprotocols=["softstate.v1.json"]) as other,
        ):
            for peer, token in ((first, "u1"), (other, "u2")):
                await peer.send_message(json.dumps({"op": "hello", "token": token}))
                assert json.loads(await peer.get_message())["op"] == "welcome"
            answers = await ask(first, "a", "b", "c", "d")
            # Refusals need not wait for the store.
            assert sorted(str(answer["op"]) for answer in answers) == ["error", "error", "published", "published"]
            refused = [answer for answer in answers if answer["op"] == "error"]
            assert [(answer["id"], answer["code"], answer["retry_ms"]) for answer in refused] == [
                (2, "overloaded", 500), (3, "overloaded", 500),
            ]  # fmt: skip
            assert refused[0]["why"] == "publishes_per_s"
            assert [answer["op"] for answer in await ask(other, "a", "b")] == ["published", "published"]
            clock[0] += 0.5
            assert [answer["op"] for answer in await ask(first, "c")] == ["published"]
        met = running.node.gate.limited["publishes_per_s"]
        assert met in (1, 2), "the last one was refused by the limit, too, if those before it were answered by then"
        assert f'softstate_limited_total{{limit="publishes_per_s"}} {met}.0' in running.node.metrics().decode()
        assert (await running.node.status())["limited"] == {"publishes_per_s": met}
