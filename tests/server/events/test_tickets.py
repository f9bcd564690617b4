"""Tickets on a whole node: for who can set no header, once, on any node, for half a minute (P-AUTH-14)."""

from __future__ import annotations

import math
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from softstate.auth.failures import BURST, FAILURES
from softstate.auth.presented import Certificate
from softstate.auth.tickets import TICKET_S, TICKETS, sealed
from softstate.model import PAGE_RECORDS_MAX, Page, Query
from softstate.server.auth.ticket_sweep import forget_tickets
from softstate.server.auth.warden import FORGET_S
from softstate.server.edge.stream_wire import StreamWire
from softstate.store.base import Write
from tests.kit.event_client import EventClient
from tests.kit.fake_node import Answer, MemorySocket
from tests.kit.memory_node import MemoryNode, memory_node, request
from tests.kit.rules_gate import RulesGate

BEARER = {"Authorization": "Bearer t"}


def rules() -> RulesGate:
    made = RulesGate()
    made.may("u", read=["a"])
    made.issue("t", "u")
    return made


async def ticket(running: MemoryNode) -> str:
    answer = await running.ask("POST", "/v1/ticket", **BEARER)
    assert (answer.status, answer.json["expires_ms"]) == (200, TICKET_S * 1_000)
    assert answer["cache-control"] == "no-store"
    return str(answer.json["ticket"])


async def asked(running: MemoryNode, text: str) -> Answer:
    return await running.ask("GET", f"/v1/events?topic=a&ticket={text}")


def held(running: MemoryNode) -> int:
    latest = running.store.disk.image.latest
    return sum(topic.startswith(TICKETS) for topic in latest if _has_value(running, topic))


def _has_value(running: MemoryNode, topic: str) -> bool:
    (record,) = running.store.disk.image.load([running.store.disk.image.latest[topic]])
    return record.cbor is not None


async def test_a_ticket_stands_for_a_token_once(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        text = await ticket(running)
        assert held(running) == 1
        client = await (await EventClient(running, "a").open(ticket=text)).read()
        assert (client.status, client.kinds) == (200, ["open", "sync"])
        assert held(running) == 0
        again = await asked(running, text)
        assert (again.status, again.json["why"]) == (401, "expired")
        await client.close()
        assert (await asked(running, text)).status == 401


async def test_of_two_that_use_a_ticket_at_once_one_is_let_in(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        text = await ticket(running)
        clients = [EventClient(running, "a") for _ in range(4)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(partial(client.open, ticket=text))
        assert sorted(client.status for client in clients) == [200, 401, 401, 401]


async def test_a_ticket_is_good_for_half_a_minute_and_forgotten_then(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        late, left = await ticket(running), await ticket(running)
        await trio.sleep(TICKET_S)
        assert (await asked(running, late)).status == 401
        assert held(running) == 1
        await trio.sleep(FORGET_S)
        assert held(running) == 0
        assert (await asked(running, left)).status == 401


async def test_what_the_token_may_not_read_its_ticket_may_not(autojump_clock: MockClock) -> None:
    granted = rules()
    async with memory_node(parts={"authority": granted, "wall": trio.current_time}) as running:
        answer = await running.ask("GET", f"/v1/events?topic=b&ticket={await ticket(running)}")
        assert answer.status == 403
        text = await ticket(running)
        granted.may("u", read=[])
        assert (await asked(running, text)).status == 403
        text = await ticket(running)
        del granted.tokens["t"]
        assert (await asked(running, text)).status == 401


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Basic x"}, 401)]
)
async def test_who_presents_no_token_gets_no_ticket(
    headers: dict[str, str], status: int, autojump_clock: MockClock
) -> None:
    granted = rules()
    granted.may("", read=["a"])
    async with memory_node(parts={"authority": granted, "wall": trio.current_time}) as running:
        assert (await running.ask("POST", "/v1/ticket", **headers)).status == status
        assert held(running) == 0


async def test_a_ticket_beside_a_token_and_one_elsewhere_are_refused(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        text = await ticket(running)
        assert (await running.ask("GET", f"/v1/events?topic=a&ticket={text}", **BEARER)).status == 400
        assert (await running.ask("GET", f"/v1/topics/a?ticket={text}")).status == 401
        assert (await running.ask("POST", f"/v1/events?ticket={text}", {"topics": {"a": 0}})).status == 400
        assert (await running.ask("GET", f"/v1/events?topic=a&no_ticket={text}")).status == 401
        assert held(running) == 1


async def test_head_leaves_a_ticket_for_the_stream(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        text = await ticket(running)
        peer = running.connect()
        await peer.send_all(request("HEAD", f"/v1/events?topic=a&ticket={text}"))
        assert (await peer.receive_some()).startswith(b"HTTP/1.1 400 ")
        assert held(running) == 1
        assert (await EventClient(running, "a").open(ticket=text)).status == 200


async def test_a_ticket_beside_a_certificate_is_refused_and_kept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        text = await ticket(running)
        monkeypatch.setattr(StreamWire, "certificate", Certificate("00", (), 0.0, math.inf))
        answer = await asked(running, text)
        assert (answer.status, answer.json["code"]) == (400, "invalid")
        assert held(running) == 1


@pytest.mark.parametrize("wrong", ["tkt_", "tkt_" + "x" * 43])
async def test_wrong_tickets_count_as_wrong_tokens_do(
    wrong: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemorySocket, "__str__", lambda _: "192.0.2.1:5", raising=False)
    granted = rules()
    granted.issue("late", "u")
    async with memory_node(parts={"authority": granted, "wall": trio.current_time}, auth_failures_per_s=0.1) as running:
        text, used = await ticket(running), await ticket(running)
        assert (await EventClient(running, "a").open(ticket=used)).status == 200
        for _ in range(2 * BURST):
            assert (await asked(running, used)).status == 401  # one that was good does not count
        for _ in range(BURST):
            assert (await asked(running, wrong)).status == 401
        assert running.node.gate.refusals.total() == 3 * BURST
        assert running.node.gate.limited == {}
        for each in (wrong, text):
            answer = await asked(running, each)
            assert (answer.status, b'"reason":"overloaded"' in answer.body) == (200, True)
        assert held(running) == 1, "one that is good is not used up"
        assert running.node.gate.limited == {FAILURES: 2}
        assert (await running.ask("GET", "/v1/whoami", Authorization="Bearer late")).status == 429


@pytest.mark.parametrize("name", ["ticket", "%74icket"])
async def test_its_parameter_may_be_escaped_as_others_and_is_in_no_log(name: str, autojump_clock: MockClock) -> None:
    with capture_logs() as lines:
        async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
            text = await ticket(running)
            for method, also, status in (("HEAD", "", 400), ("GET", "&x=1", 400), ("GET", "", 200), ("GET", "", 401)):
                peer = running.connect()
                await peer.send_all(request(method, f"/v1/events?topic=a&{name}={text}{also}"))
                answer = await peer.receive_some()
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert text.encode() not in answer
    assert "credentials refused" in [line["event"] for line in lines]
    assert text.removeprefix("tkt_") not in repr(lines)


async def test_an_identity_asks_for_so_many_tickets_and_no_more(autojump_clock: MockClock) -> None:
    parts = {"authority": rules(), "wall": trio.current_time}
    async with memory_node(parts=parts, tickets_per_identity_max=2) as running:
        for _ in range(2):
            await ticket(running)
        answer = await running.ask("POST", "/v1/ticket", **BEARER)
        assert (answer.status, answer.json["why"]) == (429, "tickets_per_identity_max")
        assert (held(running), running.node.gate.limited) == (2, {"tickets_per_identity_max": 1})


async def test_a_node_that_checks_no_credentials_makes_no_tickets(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        assert (await running.ask("POST", "/v1/ticket")).status == 400


async def test_more_tickets_than_a_page_holds_are_forgotten_in_a_round(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules(), "wall": trio.current_time}) as running:
        publish = running.node.access.writes.publish
        count = PAGE_RECORDS_MAX + 1
        async with trio.open_nursery() as nursery:
            for number in range(count):
                value = sealed("tkt", "t", trio.current_time() + TICKET_S)
                nursery.start_soon(publish, Write(f"{TICKETS}{number}", value))
        assert held(running) == count
        await trio.sleep(FORGET_S + 10)
        assert held(running) == 0


async def test_a_ticket_that_is_used_while_it_is_forgotten_keeps_no_other(autojump_clock: MockClock) -> None:
    async with memory_node() as running:  # without rules, which forgets none by itself
        for number in range(3):
            await running.set(f"{TICKETS}{number}", {"sealed": b"t", "until": 0})
        page = await running.node.access.reads.read(Query(prefixes={TICKETS: 0}))
        await running.delete(page.records[0].topic)

        async def read(_query: Query) -> Page:
            return page

        with trio.move_on_after(FORGET_S + 10):
            await forget_tickets(read, running.node.access.writes.publish, trio.current_time, running.node.bulkhead)
        assert held(running) == 0
