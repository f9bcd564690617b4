"""The answer to a publish tells what it may by the rights of its session when it is answered."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from trio_websocket import open_websocket_url

from softstate.store.base import Committed, Write
from softstate.wire import encode_value
from tests.kit.node_rig import node
from tests.kit.rules_gate import RulesGate


@pytest.mark.parametrize("lost", ["nothing", "right", "token"])
async def test_it_tells_nothing_of_the_topic_once_the_right_to_read_is_lost(
    monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    rules = RulesGate()
    rules.issue("token", "u1")
    rules.may("u1", read=["w"], write=["w"])
    async with node(parts={"authority": rules}) as running:
        store = running.store
        await store.publish([Write("w", encode_value(1))])
        publish = store.publish

        async def meanwhile(changes: Sequence[Write]) -> Committed:
            if lost == "right":
                rules.may("u1", write=["w"])
            elif lost == "token":
                rules.revoke("token")
            return await publish(changes)

        async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=["softstate.v1.json"]) as peer:
            await peer.send_message(json.dumps({"op": "hello", "token": "token"}))
            assert json.loads(await peer.get_message())["op"] == "welcome"
            monkeypatch.setattr(store, "publish", meanwhile)
            await peer.send_message(json.dumps({"op": "publish", "id": 1, "topic": "w", "value": 2, "expect": 0}))
            answer = json.loads(await peer.get_message())
            if answer["op"] == "revoked":  # with its token its lease is over, perhaps ahead of the answer
                answer = json.loads(await peer.get_message())
    assert (answer["op"], answer["code"]) == ("error", "conflict")
    assert ("current" in answer) is (lost == "nothing")
