"""Limits of publishes over WebSocket: refused with the time to wait, and never overtaken (P-AUTH-10, P-PUB-6)."""

from __future__ import annotations

import json

from trio_websocket import WebSocketConnection, open_websocket_url

from softstate.auth.answers import CalloutTimes
from softstate.auth.name_answers import NameAnswers
from softstate.auth.rules import Known
from tests.kit.node_rig import node, until
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


async def test_a_publish_about_which_nobody_can_tell_is_not_overtaken_either() -> None:
    """P-AUTH-15: it waits for the callout, and is refused with all that came behind it."""
    names = NameAnswers(lambda identity: Known(identity.issuer, identity.subject))
    names.configure(CalloutTimes(), 4, active=True)
    rules = RulesGate(names=names)
    rules.issue("u1", "u1")
    rules.may("u1", write=["a"])
    async with node(parts={"authority": rules}) as running:
        async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=["softstate.v1.json"]) as peer:
            await peer.send_message(json.dumps({"op": "hello", "token": "u1"}))
            assert json.loads(await peer.get_message())["op"] == "welcome"
            for number, topic in enumerate(("n", "a")):
                await peer.send_message(json.dumps({"op": "publish", "id": number, "topic": topic, "value": 1}))
            (connection,) = running.node.sockets
            await until(lambda: names.due_at() < float("inf") and len(connection._inbox) == 1)
            book = names.next_due()
            assert book is not None
            assert book.asking == (("write", "n"),)
            for waiter, error in names.failed(book, "it is down", running.node.gate.now()):
                waiter.settled(error)
            answers = [json.loads(await peer.get_message()) for _ in range(2)]
            assert [(answer["id"], answer["code"]) for answer in answers] == [(0, "unavailable"), (1, "unavailable")]
            assert [answer["op"] for answer in await ask(peer, "a")] == ["published"]
