"""Polls of a whole node that have nothing to learn: they are answered without the store, as it would (P-HTTP-17)."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from softstate.server.http.peer import HttpPeer
from softstate.server.storage.level import LEVEL_S_MAX
from tests.kit.node_rig import LocalNode, node
from tests.kit.rules_gate import RulesGate


class Rig:
    """A node in memory, and requests to it on one connection."""

    def __init__(self, running: LocalNode, stream: trio.SocketStream) -> None:
        self.node = running.node
        self._stream = stream
        self.token = ""

    async def put(self, topic: str, value: int | str) -> int:
        head, answer = await self._ask("PUT", f"/v1/topics/{topic}", value)
        assert head.startswith("HTTP/1.1 200 ")
        version: int = answer["version"]
        return version

    async def poll(self, topics: dict[str, int], **fields: Any) -> dict[str, Any]:
        """Poll; return the fields of the answer, its `head`, and whether the store was `asked`."""
        before = self.node.access.reads.pages.served
        head, answer = await self._ask("POST", "/v1/poll", {"topics": topics, **fields})
        return {**answer, "head": head, "asked": self.node.access.reads.pages.served > before}

    async def _ask(self, method: str, target: str, content: Any) -> tuple[str, dict[str, Any]]:
        body = json.dumps(content).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        if self.token:
            head += f"Authorization: Bearer {self.token}\r\n"
        await self._stream.send_all(f"{head}\r\n".encode() + body)
        received = b""
        while True:
            received += await self._stream.receive_some()
            answered, _, rest = received.partition(b"\r\n\r\n")
            if f"Content-Length: {len(rest)}\r\n".encode() in answered + b"\r\n":
                return answered.decode(), json.loads(rest)


@asynccontextmanager
async def polled(**options: Any) -> AsyncIterator[Rig]:
    """Run a node whose clock stands still, but for the jumps of a test."""
    async with node(**options) as running:
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            yield Rig(running, stream)


async def test_a_poll_with_the_newest_versions_is_answered_alike_with_and_without_the_store(
    mock_clock: MockClock,
) -> None:
    async with polled() as rig:
        versions = {topic: await rig.put(topic, 1) for topic in ("a", "b")}
        by_store = await rig.poll(versions)
        mock_clock.jump(0.1)
        known = await rig.poll(versions, position=by_store["position"])
        assert (by_store.pop("asked"), known.pop("asked")) == (True, False)
        assert rig.node.counts()["polls_unchanged"] == 1
        assert known.pop("lag_ms") == 100
        assert "Softstate-Lag-Ms: 100" in known.pop("head")
        assert "Softstate-Lag-Ms: 0" in by_store.pop("head")
        assert known == by_store
        assert known["changes"] == []
        assert known["next_ms"]


async def test_each_is_told_for_how_long_its_credentials_are_good(mock_clock: MockClock) -> None:
    rules = RulesGate()
    for number, until in enumerate((math.inf, trio.current_time() + 60, trio.current_time() + 90)):
        rules.may(f"u{number}", read=["a"], write=["a"])
        rules.issue(f"t{number}", f"u{number}", until)
    async with polled(parts={"authority": rules}) as rig:
        rig.token = "t0"
        version = await rig.put("a", 1)
        await rig.poll({"a": version})
        told = []
        for rig.token in ("t0", "t1", "t2", "t1"):
            known = await rig.poll({"a": version})
            assert not known["asked"]
            left_ms = known.get("credentials_ms")
            assert (f"Softstate-Credentials-Ms: {left_ms}" in known["head"]) is (left_ms is not None)
            told.append(left_ms)
        assert told == [None, 60_000, 90_000, 60_000]


async def test_what_has_changed_comes_from_the_store(mock_clock: MockClock) -> None:
    async with polled() as rig:
        first = await rig.put("a", 1)
        await rig.poll({"a": first})
        second = await rig.put("a", 2)
        changed = await rig.poll({"a": first})
        assert changed["asked"]
        assert [(change["version"], change["value"]) for change in changed["changes"]] == [(second, 2)]
        assert not (await rig.poll({"a": second}))["asked"]


async def test_a_prefix_is_answered_without_the_store_as_long_as_nothing_changes(mock_clock: MockClock) -> None:
    async with polled() as rig:
        version = await rig.put("p/a", 1)
        asked = {"prefixes": {"p/": version}}
        assert not (await rig.poll({}, **asked))["asked"]
        await rig.put("elsewhere", 1)
        assert (await rig.poll({}, **asked))["asked"]


async def test_a_poll_after_a_while_reads_the_head_alone(mock_clock: MockClock) -> None:
    async with polled() as rig:
        version = await rig.put("a", 1)
        await rig.poll({"a": version})
        mock_clock.jump(LEVEL_S_MAX + 0.001)
        again = await rig.poll({"a": version})
        assert not again["asked"]
        assert "lag_ms" not in again
        assert rig.node.access.heads.batcher.calls == 1


async def test_polls_of_few_names_take_no_task_and_others_are_answered_alike(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[str] = []
    answer_later = HttpPeer._answer_later

    async def counted(self: HttpPeer) -> None:
        assert self._request is not None
        tasks.append(self._request.path)
        await answer_later(self)

    monkeypatch.setattr(HttpPeer, "_answer_later", counted)
    async with polled(turn_names_max=16) as rig:
        version = await rig.put("a", 1)
        for held in (0, version, version):
            assert (await rig.poll({"a": held}))["position"]["revision"] == version
        mock_clock.jump(LEVEL_S_MAX + 0.001)
        assert (await rig.poll({"a": version}, prefixes={"p/": version}))["changes"] == []
        assert not tasks
        many = {f"none/{number}": 0 for number in range(16)}
        assert (await rig.poll({"a": version, **many}))["changes"] == []
        assert tasks == ["/v1/poll"]


async def test_polls_that_need_no_store_leave_the_rate_of_others_alone_and_are_expected_again(
    mock_clock: MockClock,
) -> None:
    async with polled() as rig:
        version = await rig.put("a", 1)
        await rig.poll({"a": version})
        per_s, expected = rig.node.polls.per_s, rig.node.expected_polls
        for _ in range(20):
            assert not (await rig.poll({"a": version}))["asked"]
            await trio.testing.wait_all_tasks_blocked()  # the head has been read
            mock_clock.jump(0.2)
        assert rig.node.polls.per_s == per_s
        assert expected.count(trio.current_time()) == 1, "one connection is one client"


async def test_values_beyond_the_budget_of_a_turn_come_in_later_ones(mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0  # a turn with a budget comes after a rest
    async with polled(turn_names_max=16) as rig:
        values = {f"t/{number}": "x" * 2_000 for number in range(8)}
        for topic, value in values.items():
            await rig.put(topic, value)
        answer = await rig.poll(dict.fromkeys(values, 0))
        assert {change["topic"]: change["value"] for change in answer["changes"]} == values


async def test_a_store_that_is_down_is_told_without_a_task(mock_clock: MockClock) -> None:
    async with node() as running:
        async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
            rig = Rig(running, stream)
            running.store.outage = True
            assert (await rig.poll({"a": 0}))["code"] == "unavailable"
            running.store.outage = False


async def test_bad_names_are_refused_whatever_is_known(mock_clock: MockClock) -> None:
    async with polled() as rig:
        version = await rig.put("a", 1)
        await rig.poll({"a": version})
        assert (await rig.poll({"a": version}, prefixes={"no prefix": version}))["code"] == "invalid"
        assert (await rig.poll({"a": version, "a//b": 0}))["code"] == "invalid"
        assert (await rig.poll({"a": version}, cursor="x"))["code"] == "invalid"


async def test_none_is_known_with_a_limit_of_none(mock_clock: MockClock) -> None:
    async with polled(known_topics_max=0) as rig:
        version = await rig.put("a", 1)
        assert (await rig.poll({"a": version}))["asked"]
        assert (await rig.poll({"a": version}))["asked"]


async def test_more_names_than_a_poll_may_have_are_refused_whatever_is_known(mock_clock: MockClock) -> None:
    async with polled(subscriptions_max=2) as rig:
        versions = {topic: await rig.put(topic, 1) for topic in ("a", "b", "c")}
        for topic, version in versions.items():
            await rig.poll({topic: version})
        assert not (await rig.poll({"a": versions["a"], "b": versions["b"]}))["asked"]
        assert (await rig.poll(versions))["code"] == "too_large"
