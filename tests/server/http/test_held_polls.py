"""Polls that wait: held until one of their names changes, and answered by one read (P-HTTP-19)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from softstate.model import Query
from softstate.server.edge.patience import TICK_S
from softstate.server.http.peer import HttpPeer
from softstate.server.storage.asker import Asker
from softstate.server.storage.reads import StoreReads
from tests.kit.fake_node import Answer, parse, read_all
from tests.kit.memory_node import MemoryNode, memory_node, request
from tests.kit.rules_gate import RulesGate

SHORT_MS = 100
"""The pause between two polls of a client that waits, on a node with few of them."""


async def after(seconds: float, call: Callable[[], Any]) -> None:
    await trio.sleep(seconds)
    await call()


async def poll(running: MemoryNode, topics: dict[str, int], *, wait_ms: int | None = 10_000, **fields: Any) -> Answer:
    headers = {"Authorization": f"Bearer {fields.pop('token')}"} if "token" in fields else {}
    body = {"topics": topics, **({} if wait_ms is None else {"wait_ms": wait_ms}), **fields}
    return await running.ask("POST", "/v1/poll", body, **headers)


def holds(running: MemoryNode) -> int:
    return running.node.http.statistics().holds


@pytest.mark.parametrize("names", [{"topics": {"a": 2, "b": 0}}, {"topics": {}, "prefixes": {"p/": 2}}])
async def test_a_poll_is_held_until_one_of_its_names_changes(names: dict[str, Any], autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        assert await running.set("a", 1) == 2
        changed = "p/x" if "prefixes" in names else "a"
        running.nursery.start_soon(after, 1.0, lambda: running.set("elsewhere", 1))
        running.nursery.start_soon(after, 3.5, lambda: running.set(changed, 2))
        answer = await poll(running, **names)
        assert [(change["topic"], change["value"]) for change in answer.json["changes"]] == [(changed, 2)]
        assert answer["softstate-held-ms"] == "3500"
        assert (answer.json["held_ms"], answer.json["next_ms"]) == (3_500, SHORT_MS)
        assert holds(running) == 0
        assert running.node.hub.recent.watches.names == 0


async def test_a_deletion_ends_a_hold(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        running.nursery.start_soon(after, 2.0, lambda: running.delete("a"))
        assert (await poll(running, {"a": version})).json["changes"][0]["deleted"]


async def test_a_hold_ends_with_its_time_which_has_a_limit(autojump_clock: MockClock) -> None:
    async with memory_node(hold_ms_max=4_000) as running:
        version = await running.set("a", 1)
        for asked_ms, least_ms in ((1_500, 1_500), (4_001, 4_000)):
            answer = await poll(running, {"a": version}, wait_ms=asked_ms)
            assert answer.json["changes"] == []
            assert least_ms <= answer.json["held_ms"] <= least_ms + 2_000 * TICK_S
            assert answer["softstate-held-ms"] == str(answer.json["held_ms"])
            assert answer.json.get("lag_ms", 0) <= 250


async def test_what_there_is_to_learn_is_told_at_once(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        answer = await poll(running, {"a": 0})
        assert [change["version"] for change in answer.json["changes"]] == [version]
        assert "held_ms" not in answer.json
        assert "softstate-held-ms" not in answer.headers
        assert answer.json["next_ms"] == SHORT_MS


async def test_who_will_wait_next_time_is_told_to_come_soon_and_others_as_ever(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        await poll(running, {"a": version}, wait_ms=None)  # from here on the node knows the version
        for wait_ms, next_ms in ((None, 15_000), (0, SHORT_MS)):
            answer = await poll(running, {"a": version}, wait_ms=wait_ms)
            assert (answer.json["next_ms"], "held_ms" in answer.json) == (next_ms, False)


async def test_a_change_between_the_read_and_the_hold_is_not_missed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        reads = running.node.access.reads
        changed: list[int] = []
        submit = reads.submit

        def submit_late(query: Query, asker: Asker, answered: Callable[[Any], None], broken: Callable[[], None]) -> Any:
            async def late(ticket: Any) -> None:
                if not changed:
                    changed.append(await running.set("a", 2))
                answered(ticket)

            return submit(query, asker, lambda ticket: running.nursery.start_soon(late, ticket), broken)

        monkeypatch.setattr(reads, "submit", submit_late)
        answer = await poll(running, {"a": version, "other": 0})
        assert [change["value"] for change in answer.json["changes"]] == [2]
        assert (len(changed), holds(running)) == (1, 0)


async def test_many_that_wait_for_one_topic_are_all_answered(autojump_clock: MockClock) -> None:
    async with memory_node(turn_names_max=32) as running:
        version = await running.set("a", 1)
        answers: list[Answer] = []

        async def one() -> None:
            answers.append(await poll(running, {"a": version}))

        for _ in range(50):
            running.nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert holds(running) == 50
        assert running.node.http.greeting == 0, "they do not wait for the node, and shut nobody out"
        await running.set("a", 2)
        while len(answers) < 50:
            await trio.sleep(0.01)
        assert {answer.json["changes"][0]["value"] for answer in answers} == {2}
        assert (holds(running), running.node.hub.recent.watches.names) == (0, 0)


async def test_a_poll_of_few_names_is_held_without_a_task_and_one_of_many_is_held_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[str] = []
    answer_later = HttpPeer._answer_later

    async def counted(self: HttpPeer) -> None:
        tasks.append("task")
        await answer_later(self)

    monkeypatch.setattr(HttpPeer, "_answer_later", counted)
    async with memory_node() as running:
        version = await running.set("a", 1)
        running.nursery.start_soon(after, 2.0, lambda: running.set("a", 2))
        assert (await poll(running, {"a": version})).json["held_ms"] == 2_000
        assert not tasks
        many = {f"none/{number}": 0 for number in range(500)}
        running.nursery.start_soon(after, 2.0, lambda: running.set("none/499", 2))
        answer = await poll(running, {"a": version + 1, **many})
        assert [change["topic"] for change in answer.json["changes"]] == ["none/499"]
        assert answer.json["held_ms"] >= 1_900
        assert len(tasks) == 1


async def test_holds_and_their_names_at_the_limit_and_one_over(autojump_clock: MockClock) -> None:
    async with memory_node(holds_max=3, held_names_max=4) as running:
        waiting = [running.connect() for _ in range(3)]
        for peer in waiting[:2]:
            await peer.send_all(request("POST", "/v1/poll", {"topics": {"a": 0, "b": 0}, "wait_ms": 20_000}))
        await trio.testing.wait_all_tasks_blocked()
        assert (holds(running), running.node.hub.recent.watches.names) == (2, 4)
        over = await poll(running, {"a": 0})
        assert (over.status, over.json["next_ms"], "held_ms" in over.json) == (200, 15_000, False)
        await waiting[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            peer = running.connect()
            await peer.send_all(request("POST", "/v1/poll", {"topics": {"a": 0}, "wait_ms": 20_000}))
        await trio.testing.wait_all_tasks_blocked()
        assert holds(running) == 3
        over = await poll(running, {})
        assert (over.status, "held_ms" in over.json) == (200, False)


async def test_a_hold_ends_with_its_peer(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        lost, ended = running.connect(), running.connect()
        for peer in (lost, ended):
            await peer.send_all(request("POST", "/v1/poll", {"topics": {"a": version}, "wait_ms": 20_000}))
        await trio.testing.wait_all_tasks_blocked()
        assert holds(running) == 2
        await lost.aclose()
        await ended.send_eof()
        (answer,) = parse(await read_all(ended))
        assert (answer.status, answer.json["changes"], answer.json.get("held_ms", 0)) == (200, [], 0)
        assert holds(running) == 0
        await running.set("a", 2)


async def test_a_poll_of_a_peer_that_has_closed_its_half_is_read_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Query] = []
    read = StoreReads.submit

    def counted(self: StoreReads, query: Query, *more: Any) -> None:
        reads.append(query)
        read(self, query, *more)

    monkeypatch.setattr(StoreReads, "submit", counted)
    async with memory_node() as running:
        monkeypatch.setattr(running.node.access.unchanged, "knows", lambda *_: False)
        version = await running.set("a", 1)
        peer = running.connect()
        await peer.send_all(request("POST", "/v1/poll", {"topics": {"a": version}, "wait_ms": 20_000}))
        await peer.send_eof()
        with trio.fail_after(10):
            (answer,) = parse(await read_all(peer))
        assert (answer.status, answer.json["changes"]) == (200, [])
        assert len(reads) <= 2, "once more, since it hung up while it was held"


async def test_a_hub_that_stays_ahead_of_the_store_has_it_read_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        hub, reads = running.node.hub, 0
        read = StoreReads.submit

        def counted(self: StoreReads, query: Query, *more: Any) -> None:
            nonlocal reads
            reads += 1
            read(self, query, *more)

        monkeypatch.setattr(StoreReads, "submit", counted)
        monkeypatch.setattr(running.node.access.unchanged, "knows", lambda *_: False)
        hub.recent.note("a", version + 10)
        answer = await poll(running, {"a": version}, wait_ms=20_000)
        assert (answer.status, answer.json["changes"], reads) == (200, [], 2)


async def test_a_node_that_drains_answers_at_once(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)

        async def drain() -> None:
            await running.node.drain()
            running.node.http.drain()

        running.nursery.start_soon(after, 1.0, drain)
        answer = await poll(running, {"a": version}, wait_ms=20_000)
        assert (answer.json["held_ms"], answer["connection"]) == (1_000, "close")


async def test_a_restored_store_ends_a_hold_at_once(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        version = await running.set("a", 1)
        copy = running.store.disk.image.copy()
        await running.set("b", 1)
        position = running.node.hub.position

        async def restore() -> None:
            running.store.disk.restore(copy)

        running.nursery.start_soon(after, 2.0, restore)
        held = {"epoch": position.epoch, "lineage": position.lineage, "revision": position.revision}
        answer = await poll(running, {"a": version}, wait_ms=20_000, position=held)
        assert answer.code in ("rewound", "unavailable")


async def test_credentials_that_are_over_end_a_hold(autojump_clock: MockClock) -> None:
    rules = RulesGate()
    rules.may("u", read=["a"], write=["a"])
    rules.issue("t", "u", trio.current_time() + 5)
    async with memory_node(parts={"authority": rules}) as running:
        version = await running.set("a", 1)
        answer = await poll(running, {"a": version}, wait_ms=20_000, token="t")
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert 5 <= trio.current_time() <= 5 + 2 * TICK_S


async def test_rules_that_change_are_heeded_by_the_answer(autojump_clock: MockClock) -> None:
    rules = RulesGate()
    rules.may("u", read=["a", "b"])
    rules.issue("t", "u")
    async with memory_node(parts={"authority": rules}) as running:
        version = await running.set("a", 1)

        async def forbid() -> None:
            rules.may("u", read=["b"])
            await running.set("b", 1)

        running.nursery.start_soon(after, 2.0, forbid)
        answer = await poll(running, {"a": version, "b": 0}, token="t")
        assert answer.json["denied"] == ["a"]
        assert [change["topic"] for change in answer.json["changes"]] == ["b"]


async def test_a_denied_name_is_told_at_once(autojump_clock: MockClock) -> None:
    rules = RulesGate()
    rules.may("u", read=["a"])
    rules.issue("t", "u")
    async with memory_node(parts={"authority": rules}) as running:
        answer = await poll(running, {"a": 0, "b": 0}, token="t")
        assert (answer.json["denied"], "held_ms" in answer.json) == (["b"], False)


@pytest.mark.parametrize("size", [1_000, 200_000])
async def test_a_hold_keeps_nothing_of_the_body_of_its_request(size: int, autojump_clock: MockClock) -> None:
    data = request("POST", "/v1/poll", {"topics": {"a": 0}, "wait_ms": 10_000})
    head, _, body = data.partition(b"\r\n\r\n")
    body += b" " * (size - len(body))
    head = b"\r\n".join([*head.split(b"\r\n")[:-1], b"Content-Length: %d" % len(body), b"", b""])
    async with memory_node() as running:
        peers = []
        for number in range(20):
            if number == 10:
                tracemalloc.start()
                before, _ = tracemalloc.get_traced_memory()
            peers.append(running.connect())
            await peers[-1].send_all(head + body)
            await trio.sleep(0.1)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert holds(running) == 20
        assert held - before < 10 * 60_000
        for peer in peers:
            await peer.aclose()
