"""A node whose callout is asked about names: by every request, for as long as its answers hold, and while it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from softstate.auth import name_answers
from softstate.server.auth import callout as module
from softstate.server.auth.keeper import PolicyKeeper
from softstate.server.bulkhead import Bulkhead
from softstate.server.http import asking
from tests.auth.tokens import WALL
from tests.kit.backend import Backend
from tests.kit.event_client import EventClient
from tests.kit.fake_node import Answer
from tests.kit.memory_node import MemoryNode, memory_node
from tests.kit.threads import at_once
from tests.server.auth.test_keeper import write

POLICY = """
[auth.callout]
url = "https://app.example/who"
secret_file = "callout.secret"
for = ["identity", "names"]
ttl_s = 60
stale_s = 300
[[allow]]
who = "signed-in"
read = ["users/{sub}/"]
"""

BEARER = {"Authorization": "Bearer t"}


class Rig:
    def __init__(self, running: MemoryNode, backend: Backend) -> None:
        self.running = running
        self.backend = backend
        self.may = backend.names.setdefault("u1", set())

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        return await self.running.ask(method, target, body, **BEARER, **headers)

    @property
    def questions(self) -> list[list[str]]:
        """The names of each question, as ``read a``."""
        return [
            [f"{each['action']} {each['name']}" for each in asked["ask"]]
            for asked in self.backend.asked
            if "ask" in asked
        ]


@asynccontextmanager
async def running(tmp_path: Path, *, strict: bool = True) -> AsyncIterator[Rig]:
    (tmp_path / "callout.secret").touch(0o600)
    (tmp_path / "callout.secret").write_text("s" * 32)
    write(tmp_path / "auth.toml", POLICY)
    backend = Backend()
    backend.subjects["t"] = "u1"
    async with trio.open_nursery() as nursery:
        backend.nursery = nursery
        keeper = PolicyKeeper(
            tmp_path / "auth.toml", trio.current_time, Bulkhead(strict=strict), open_stream=backend.open_stream,
            in_thread=at_once, wall=lambda: WALL,
        )  # fmt: skip
        await nursery.start(keeper.run)
        async with memory_node(parts={"authority": keeper.authority}, stream_s=10_000) as node:
            yield Rig(node, backend)
        nursery.cancel_scope.cancel()


REQUESTS: list[tuple[str, str, Any, str, int]] = [
    ("GET", "/v1/topics/t/1", None, "read t/1", 200),
    ("GET", "/v1/topics?prefix=t/", None, "read t/", 200),
    ("POST", "/v1/poll", {"prefixes": {"t/": 0}}, "read t/", 200),
    ("POST", "/v1/poll", {"topics": {"t/1": 0}, "wait_ms": 10}, "read t/1", 200),
    ("PUT", "/v1/topics/t/1", 1, "write t/1", 200),
    ("DELETE", "/v1/topics/t/1", None, "write t/1", 200),
    ("POST", "/v1/publish", {"changes": [{"topic": "t/1", "value": 1}]}, "write t/1", 200),
    ("POST", "/v1/events", {"topics": {"t/1": 0}}, "read t/1", 200),
]


@pytest.mark.parametrize(("method", "path", "body", "asked", "status"), REQUESTS)
async def test_a_request_is_answered_once_its_names_were_asked_about(
    method: str, path: str, body: Any, asked: str, status: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path) as rig:
        await rig.running.set("t/1", 0)
        rig.may.add(asked)
        if "events" in path:
            assert (await EventClient(rig.running, "t/1", **BEARER).open()).status == status
        else:
            answer = await rig.ask(method, path, body)
            assert (answer.status, b"denied" in answer.body.replace(b'"denied":[]', b"")) == (status, False)
            assert (await rig.ask(method, path, body)).status == status
        assert rig.questions == [[asked]], "and once as long as that holds"


@pytest.mark.parametrize(("method", "path", "body", "asked", "_status"), REQUESTS)
async def test_a_denied_answer_and_its_question_are_the_same_whether_the_topic_exists(
    method: str, path: str, body: Any, asked: str, _status: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def denied(*, exists: bool) -> tuple[int, bytes, list[list[str]]]:
        async with running(tmp_path) as rig:
            await rig.running.set("other", 0)
            if exists:
                await rig.running.set("t/1", 0)
            else:
                await rig.running.set("else", 0)
            answer = await rig.ask(method, path, body)
            assert b"denied" in answer.body
            return answer.status, answer.body, rig.questions

    found, absent = await denied(exists=True), await denied(exists=False)
    assert found[0] == absent[0]
    assert found[2] == absent[2] == [[asked]]
    if "publish" not in path and "poll" not in path:  # whose bodies tell the node's position
        assert found[1] == absent[1]


@pytest.mark.parametrize(("method", "path", "body", "_asked", "_status"), REQUESTS)
async def test_while_it_is_down_new_names_are_unavailable_and_known_ones_stay(
    method: str, path: str, body: Any, _asked: str, _status: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path) as rig:
        await rig.ask("GET", "/v1/whoami")
        rig.backend.status = 500
        answer = await rig.ask(method, path, body)
        assert b"unavailable" in answer.body or b"overloaded" in answer.body
        assert b"denied" not in answer.body
        assert (answer.status, answer.headers.get("retry-after", "1")) in [(503, "1"), (200, "1")]


async def test_names_that_were_allowed_stay_so_while_it_fails_and_then_are_unavailable(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path) as rig:
        await rig.running.set("t/1", 0)
        rig.may.add("read t/1")
        assert (await rig.ask("GET", "/v1/topics/t/1")).status == 200
        rig.backend.status = 500
        await trio.sleep(100.0)
        assert (await rig.ask("GET", "/v1/topics/t/1")).status == 200
        assert (await rig.ask("GET", "/v1/topics/t/2")).status == 503
        rig.backend.status = 200
        assert (await rig.ask("GET", "/v1/topics/t/2")).status == 403
        rig.backend.status = 500
        await trio.sleep(400.0)
        assert (await rig.ask("GET", "/v1/topics/t/1")).status == 503


async def test_a_poll_of_many_names_is_asked_about_in_several_questions(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_answers, "UNASKED_MAX", 4)
    monkeypatch.setattr(name_answers, "NAMES_PER_QUESTION", 3)
    async with running(tmp_path) as rig:
        poll = {"topics": {f"t/{number}": 0 for number in range(10)}}
        answer = await rig.ask("POST", "/v1/poll", poll)
        assert sorted(answer.json["denied"]) == sorted(poll["topics"])
        assert [len(names) for names in rig.questions] == [3, 1, 3, 1, 2]


async def test_answers_that_end_at_once_are_looked_at_in_turns(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAPSED_PER_TURN", 2)
    async with running(tmp_path) as rig:
        names = rig.running.node.gate.authority.names
        assert names is not None
        for number in range(5):
            rig.backend.subjects[str(number)] = f"s{number}"
            assert (await rig.running.ask("GET", "/v1/topics/a", Authorization=f"Bearer {number}")).status == 403
        assert names.count == 5
        await trio.sleep(61.0)
        assert names.count == 0


async def test_a_bug_in_asking_is_an_answer_that_is_none(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, strict=False) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(module, "names_question", lambda _book: 1 // 0)
            assert (await rig.ask("GET", "/v1/topics/t/1")).status == 503
        assert (await rig.ask("GET", "/v1/topics/t/1")).status == 403


async def test_a_batch_is_asked_about_as_a_whole_ahead_of_all_of_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as rig:
        rig.may.update({"write a", "write c"})
        changes = [{"topic": topic, "value": 1} for topic in ("a", "b", "//", "c", "a")]
        results = (await rig.ask("POST", "/v1/publish", {"changes": changes})).json["results"]
        assert [each.get("code") for each in results] == [None, "denied", "invalid", None, None]
        assert rig.questions == [["write a", "write b", "write c"]]


async def test_a_held_poll_is_judged_again_before_it_is_answered(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as rig, trio.open_nursery() as nursery:
        version = await rig.running.set("t/1", 0)
        rig.may.add("read t/1")
        rig.backend.more["ttl_s"] = 5
        answers: list[Answer] = []

        async def hold() -> None:
            poll = {"topics": {"t/1": version}, "wait_ms": 20_000}
            answers.append(await rig.ask("POST", "/v1/poll", poll))

        nursery.start_soon(hold)
        await trio.sleep(10.0)
        assert answers == []
        rig.may.clear()
        await rig.running.set("t/1", 1)
        await trio.sleep(1.0)
        (answer,) = answers
        assert (answer.json["denied"], answer.json["changes"]) == (["t/1"], [])


async def test_a_stream_goes_on_while_its_names_are_allowed_and_hears_at_once_that_one_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path) as rig:
        rig.may.update({"read a", "read b"})
        rig.backend.more["ttl_s"] = 10
        client = await EventClient(rig.running, "a", "b", **BEARER).open()
        assert client.status == 200
        await trio.sleep(35.0)
        assert len(rig.questions) == 4
        rig.may.remove("read b")
        await trio.sleep(11.0)
        lease = next(iter(rig.running.node.leases.all()))
        assert list(lease.names) == ["a"]
        rig.backend.status = 500
        await trio.sleep(100.0)
        assert len(rig.running.node.leases) == 1
        await trio.sleep(310.0)
        assert len(rig.running.node.leases) == 0
        await client.read()
        assert (client.reader.denied, client.reader.ended) == (["b"], "overloaded")


async def test_a_request_with_more_names_than_its_questions_may_hold_is_overloaded(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_answers, "UNASKED_MAX", 1)
    monkeypatch.setattr(asking, "QUESTIONS_MAX", 2)
    async with running(tmp_path) as rig:
        answer = await rig.ask("POST", "/v1/poll", {"topics": {"a": 0, "b": 0, "c": 0}})
        assert (answer.status, rig.questions) == (429, [["read a"], ["read b"]])
        assert b"name fewer" in answer.body
