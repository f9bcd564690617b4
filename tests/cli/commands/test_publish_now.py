"""`softstate publish` asks a node once without a loop; a whole client goes on where that does not settle it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from softstate.cli.commands import publish
from softstate.cli.commands.publish import OneChange, Tried, publish_now
from softstate.cli.exit_codes import Failure
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.errors import Conflict, Denied, Invalid, NotFound, Overloaded, RequestError, Unavailable
from softstate.position import Position
from softstate.wire import CBOR
from softstate.wire.messages import Batch, BatchResult, BatchResults

URLS = ("ws://a:8700", "ws://b:8700")
CHANGE = OneChange("orders/42", {"state": b"x"}, False, 7, None)
CONTENT = ((b"content-type", CBOR.content_type.encode()),)


class Node:
    """Answers as it is told, and takes note of what it and the client are asked."""

    def __init__(self, outcome: BatchResult | Exception) -> None:
        self.outcome = outcome
        self.asked: list[Batch] = []
        self.by_client: list[tuple[OneChange, Tried]] = []

    def post(self, url: str, path: str, body: bytes, _credentials: Presented, _timeout_s: float) -> Reply:
        assert (url, path) == (URLS[0], "/v1/publish")
        self.asked.append(CBOR.loads(body, Batch))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Reply(200, CONTENT, CBOR.dumps(BatchResults([self.outcome])))

    async def publish_one(
        self, change: OneChange, urls: Sequence[str], _credentials: Presented, timeout_s: float, tried: Tried
    ) -> int:
        assert (urls, timeout_s) == (URLS, 30.0)
        self.by_client.append((change, tried))
        return 99


def published(monkeypatch: pytest.MonkeyPatch, node: Node, change: OneChange = CHANGE) -> int:
    monkeypatch.setattr(publish, "post", node.post)
    monkeypatch.setattr(publish, "publish_one", node.publish_one)
    return publish_now(change, URLS, NO_CREDENTIALS, 30.0)


def test_a_change_that_is_taken_at_once_is_sent_once_under_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(BatchResult("orders/42", 12, Position("e", "l", 12)))
    assert published(monkeypatch, node) == 12
    ((change,),) = (batch.changes for batch in node.asked)
    assert (change.topic, change.value, change.expect) == ("orders/42", {"state": b"x"}, 7)
    assert change.key is not None
    assert len(change.key) == 32
    assert not node.by_client


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (HttpFailed("broken off"), True),
        (Unavailable("the store is slow"), True),
        (HttpFailed("refused", unsent=True), False),
        (Unavailable("down", why="untried"), False),
        (Overloaded("busy", retry_ms=5), False),
        (NotFound("no such route"), False),
        (Denied("another name", why="host"), False),
    ],
)
def test_what_may_have_been_applied_is_repeated_under_the_same_key(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception, kept: bool
) -> None:
    node = Node(outcome)
    assert published(monkeypatch, node) == 99
    ((change, tried),) = node.by_client
    assert change == CHANGE
    assert tried.key == (node.asked[0].changes[0].key if kept else None)


@pytest.mark.parametrize(
    ("code", "raised"), [("conflict", Conflict), ("denied", Denied), ("invalid", Invalid), ("key_reused", Failure)]
)
def test_a_verdict_is_final(monkeypatch: pytest.MonkeyPatch, code: str, raised: type[RequestError]) -> None:
    node = Node(BatchResult("orders/42", code=code, message="it lost", current=9))
    with pytest.raises(raised, match="it lost"):
        published(monkeypatch, node)
    assert not node.by_client


def test_a_key_of_the_user_is_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(HttpFailed("broken off"))
    published(monkeypatch, node, OneChange("a", 1, False, None, "mine"))
    ((change, tried),) = node.by_client
    assert (node.asked[0].changes[0].key, change.key, tried.key) == ("mine", "mine", "mine")
