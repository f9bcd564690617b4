"""Growth of the protocol: the real client, one invented field, and nodes that know it or do not (P-WIRE-10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
import trio
from trio_websocket import WebSocketConnection

import softstate
from softstate.client.machine import poll_path, push_path
from softstate.client.shell.clock import TrioClock
from softstate.wire import CBOR
from softstate.wire.levels import LEVEL, Since, fit, level_of
from softstate.wire.messages import Poll, Polled, Renew
from tests.kit.push_node import URL, PushNode
from tests.kit.scripted_node import HERE, WELCOME, Answer, HttpRequest, ScriptedNode


class MoodyRenew(Renew, frozen=True, tag="renew"):
    mood: Annotated[str | None, Since(2)] = None


class MoodyPoll(Poll, frozen=True, tag="poll"):
    mood: Annotated[str | None, Since(2)] = None


class Greet(Renew, frozen=True, tag="greet"):
    SINCE: ClassVar[int] = 2


def _moody(id_: str, digest: str, count: int, ttl_ms: int | None, **fields: Any) -> MoodyRenew:
    return MoodyRenew(id_, digest, count, ttl_ms, **fields, mood="glad")


@pytest.fixture(autouse=True)
def the_invented_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_path, "Renew", _moody)
    monkeypatch.setattr(poll_path, "Poll", lambda **fields: MoodyPoll(**fields, mood="glad"))


@dataclass
class Listening(ScriptedNode):
    """Keeps the messages of WebSocket clients as the maps that they are."""

    heard: list[dict[str, Any]] = field(default_factory=list)

    async def receive(self, ws: WebSocketConnection) -> object:
        data = await ws.get_message()
        self.heard.append(CBOR.loads(data, dict))
        return CBOR.client_message(data)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
async def test_a_field_of_a_later_level_goes_only_where_that_level_was_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, level: int
) -> None:
    node = Listening(nursery)
    push = PushNode(node, welcome=msgspec.structs.replace(WELCOME, level=level))
    node.websocket = push.serve
    async with softstate.connect(URL, open_stream=node.open_stream, clock=TrioClock()) as client, client.subscribe("a"):
        await trio.sleep(60)
        assert client.mode == "live"
    renewals = [message for message in node.heard if message["op"] == "renew"]
    assert len(renewals) >= 2
    assert {message.get("mood") for message in renewals} == ({"glad"} if level >= 2 else {None})


class Strict:
    """A node over HTTP that refuses the field unless it tells a level that has it, as real ones do."""

    def __init__(self, level: int | None) -> None:
        self.level = level
        self.refused = 0
        self.moods: list[str | None] = []

    async def answer(self, request: HttpRequest) -> Answer:
        told: Any = {} if self.level is None else {"Softstate_Level": str(self.level)}
        mood = CBOR.loads(request.body, dict).get("mood")
        self.moods.append(mood)
        if mood is not None and (self.level or 0) < 2:
            self.refused += 1
            return Answer.of({"code": "invalid", "message": "unknown field 'mood'"}, status=400, **told)
        return Answer.of(Polled(0, HERE, next_ms=1_000), **told)


@pytest.mark.parametrize("level", [None, 0, 1, 2, 7])
async def test_over_http_the_first_answer_tells(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, level: int | None
) -> None:
    strict = Strict(level)
    node = ScriptedNode(nursery, http=strict.answer)
    async with softstate.connect(URL, push=False, open_stream=node.open_stream, clock=TrioClock()) as client:
        async with client.subscribe("a"):
            await trio.sleep(10)
    assert strict.refused == 0
    assert len(strict.moods) >= 5
    assert strict.moods[0] is None
    assert set(strict.moods[1:]) == ({"glad"} if (level or 0) >= 2 else {None})


async def test_each_url_has_its_own_level(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    old, new = Strict(None), Strict(2)

    async def answer(request: HttpRequest) -> Answer:
        which = old if request.headers["host"].startswith("old") else new
        reply = await which.answer(request)
        # Both fail in turn, so that the client goes from one to the other.
        return reply if reply.status == 400 or len(which.moods) % 2 else Answer(503, headers=reply.headers[1:])

    node = ScriptedNode(nursery, http=answer)
    urls = ["ws://old", "ws://new"]
    async with softstate.connect(
        urls, push=False, ordered=True, open_stream=node.open_stream, clock=TrioClock()
    ) as client:
        async with client.subscribe("a"):
            await trio.sleep(60)
    assert (old.refused, new.refused) == (0, 0)
    assert len(old.moods) > 3
    assert set(old.moods) == {None}
    assert set(new.moods[1:]) == {"glad"}


async def test_a_url_that_tells_less_than_before_is_believed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    node_level = Strict(2)
    node = ScriptedNode(nursery, http=node_level.answer)
    async with softstate.connect(URL, push=False, open_stream=node.open_stream, clock=TrioClock()) as client:
        async with client.subscribe("a"):
            await trio.sleep(5)
            before = len(node_level.moods)
            node_level.level = 1  # an older release was installed
            await trio.sleep(60)
    assert node_level.refused <= 1
    assert len(node_level.moods) > before + 2
    assert node_level.moods[-1] is None


def test_what_does_not_fit_is_left_out() -> None:
    renew = MoodyRenew(1, "0", 0, mood="glad")
    assert fit(renew, 1) == MoodyRenew(1, "0", 0)
    assert fit(renew, 2) is renew
    plain = Renew(1, "0", 0)
    assert fit(plain, 0) is plain
    assert fit(Greet(1, "0", 0), 1) is None
    assert fit(Greet(1, "0", 0), 2) is not None


@pytest.mark.parametrize(
    ("text", "level"), [(None, 0), ("", 0), ("1", 1), ("12", 12), ("-1", 0), ("1.0", 0), ("\u0661", 0), ("9" * 10, 0)]
)
def test_a_header_that_is_no_level_tells_none(text: str | None, level: int) -> None:
    assert level_of(text) == level


def test_all_fields_are_of_this_level_or_below() -> None:
    assert LEVEL == 3
