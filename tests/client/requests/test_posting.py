"""The machine's own requests as generators."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.client.machine.events import SendPoll, SendPublish
from softstate.client.requests import posting
from softstate.client.requests.posting import Levels
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.client.requests.steps import Ask
from softstate.client.url import parse_url
from softstate.errors import Invalid
from softstate.wire import CBOR, JSON
from softstate.wire.messages import BatchChange, Poll

URL = "ws://a:8700"


def test_a_publish_goes_once_and_needs_a_result_for_each_change() -> None:
    steps = posting.publish(SendPublish(1, URL, [BatchChange("t", 1)], 3.0), CBOR, Levels())
    step = next(steps)
    assert isinstance(step, Ask)
    assert (step.path, step.once, step.timeout_s) == ("/v1/publish", True, 3.0)
    with pytest.raises(HttpFailed, match="1 publishes with 0 results"):
        steps.send(Reply(200, (), JSON.dumps({"results": []})))


def test_a_refused_poll_is_asked_again_only_if_it_is_another_one_at_the_level_told_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    levels, bodies = Levels(), []

    def fit(message: Any, level: int) -> Any:
        return Poll("1", topics={f"at level {level}": 0})

    monkeypatch.setattr(posting, "fit", fit)
    levels.told(parse_url(URL), 1)
    steps = posting.poll(SendPoll(1, URL, Poll("1"), 3.0), JSON, levels)
    step = next(steps)
    assert isinstance(step, Ask)
    bodies.append(step.body)
    levels.told(parse_url(URL), 0)
    refused = Reply(Invalid.http_status, (), JSON.dumps({"code": "invalid", "message": "no"}))
    step = steps.send(refused)
    assert isinstance(step, Ask)
    bodies.append(step.body)
    assert [b"at level 1" in bodies[0], b"at level 0" in bodies[1]] == [True, True]
    with pytest.raises(Invalid):
        steps.send(refused)
