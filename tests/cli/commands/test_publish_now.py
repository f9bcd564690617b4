"""`softstate publish` asks a node once without a loop; a whole client goes on where that does not settle it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from softstate.cli.commands import publish
from softstate.cli.commands.publish import OneChange, publish_now
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.client.requests.reply import HttpFailed
from softstate.errors import (
    Behind,
    Conflict,
    Denied,
    Invalid,
    NotFound,
    Overloaded,
    RequestError,
    Unauthenticated,
    Unavailable,
)
from softstate.position import Position
from softstate.wire.messages import BatchChange, BatchResult

URLS = ("ws://a:8700", "ws://b:8700")
CHANGE = OneChange("orders/42", {"state": b"x"}, False, 7, None)


class Node:
    """Answers as it is told, and takes note of what it and the client are asked."""

    def __init__(self, outcome: BatchResult | Exception) -> None:
        self.outcome = outcome
        self.asked: list[BatchChange] = []
        self.by_client: list[tuple[OneChange, bool]] = []

    def publish(self, url: str, change: BatchChange, _credentials: Presented, _timeout_s: float) -> BatchResult:
        assert url == URLS[0]
        self.asked.append(change)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def publish_one(
        self,
        change: OneChange,
        urls: Sequence[str],
        _credentials: Presented,
        timeout_s: float,
        *,
        left_s: float,
        maybe: bool,
    ) -> int:
        assert (urls, timeout_s) == (URLS, 30.0)
        assert 0 <= left_s <= timeout_s
        self.by_client.append((change, maybe))
        return 99


def published(monkeypatch: pytest.MonkeyPatch, node: Node, change: OneChange = CHANGE) -> int:
    monkeypatch.setattr(publish, "publish", node.publish)
    monkeypatch.setattr(publish, "publish_one", node.publish_one)
    return publish_now(change, URLS, NO_CREDENTIALS, 30.0)


def test_a_change_that_is_taken_at_once_is_sent_once_under_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(BatchResult("orders/42", 12, Position("e", "l", 12)))
    assert published(monkeypatch, node) == 12
    assert published(monkeypatch, node) == 12
    one, other = node.asked
    assert (one.topic, one.value, one.expect) == ("orders/42", {"state": b"x"}, 7)
    assert one.key is not None
    assert len(one.key) == 32
    assert one.key != other.key
    assert not node.by_client


def test_a_key_of_the_user_is_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = OneChange("a", 1, False, None, "mine")
    for outcome in (HttpFailed("broken off"), Overloaded("busy")):
        node = Node(outcome)
        published(monkeypatch, node, mine)
        assert node.asked[0].key == "mine"
        assert node.by_client[0][0] == mine


@pytest.mark.parametrize(
    ("outcome", "maybe"),
    [
        (HttpFailed("broken off"), True),
        (Unavailable("the store is slow"), True),
        (BatchResult("orders/42", code="unavailable", message="the store is slow"), True),
        (BatchResult("orders/42", 12), True),
        (HttpFailed("refused", unsent=True), False),
        (Unavailable("down", why="untried"), False),
        (BatchResult("orders/42", code="unavailable", message="down", why="untried"), False),
        (BatchResult("orders/42", code="key_reused", message="another value"), False),
        (Overloaded("busy", retry_ms=5), False),
        (Behind("the node"), False),
        (NotFound("no such route"), False),
        (Denied("another name", why="host"), False),
    ],
)
def test_what_may_have_been_applied_is_repeated_under_the_same_key_and_all_else_without(
    monkeypatch: pytest.MonkeyPatch, outcome: BatchResult | Exception, maybe: bool
) -> None:
    node = Node(outcome)
    assert published(monkeypatch, node) == 99
    assert node.by_client == [(replace(CHANGE, key=node.asked[0].key if maybe else None), maybe)]


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("conflict", Conflict),
        ("denied", Denied),
        ("invalid", Invalid),
        ("unauthenticated", Unauthenticated),
        ("of_the_future", RequestError),
    ],
)
def test_a_refusal_of_the_change_is_final(
    monkeypatch: pytest.MonkeyPatch, code: str, raised: type[RequestError]
) -> None:
    node = Node(BatchResult("orders/42", code=code, message="it lost", current=9))
    with pytest.raises(raised, match="it lost"):
        published(monkeypatch, node)
    assert not node.by_client
