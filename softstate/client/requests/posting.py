"""The machine's own requests, polls and batches of publishes: their bodies, and what their answers are."""

from __future__ import annotations

from typing import final

from softstate.client.machine.events import SendPoll, SendPublish
from softstate.client.requests.reply import HttpFailed
from softstate.client.requests.steps import Ask, Steps, ask
from softstate.client.url import NodeUrl, parse_url
from softstate.errors import Invalid
from softstate.wire import Codec
from softstate.wire.levels import fit
from softstate.wire.messages import Batch, BatchResult, BatchResults, Polled

POLL_PATH = "/v1/poll"
"""Polls have a connection to each node to themselves: a read that is given up, or broken off, does not cost them theirs
(P-CLI-14)."""

PUBLISH_PATH = "/v1/publish"


@final
class Levels:
    """The protocol level that each URL told last, 0 if none (P-WIRE-10)."""

    def __init__(self) -> None:
        self._levels: dict[NodeUrl, int] = {}

    def of(self, url: NodeUrl) -> int:
        """Return the level that a URL told last."""
        return self._levels.get(url, 0)

    def told(self, url: NodeUrl, level: int) -> None:
        """Take note of the level that a URL tells."""
        self._levels[url] = level


def poll(action: SendPoll, codec: Codec, levels: Levels) -> Steps[Polled]:
    """Poll one page. Raises `RequestError` or `HttpFailed`."""
    url = parse_url(action.url)
    body = codec.dumps(fit(action.message, levels.of(url)))
    reply = yield from ask(Ask(url, "POST", POLL_PATH, action.timeout_s, body))
    if reply.status == Invalid.http_status:
        # The refusal itself may tell a lower level than the URL told before: then the poll is another one.
        fitting = codec.dumps(fit(action.message, levels.of(url)))
        if fitting != body:
            reply = yield from ask(Ask(url, "POST", POLL_PATH, action.timeout_s, fitting))
    return reply.decode(Polled)


def publish(action: SendPublish, codec: Codec, levels: Levels) -> Steps[list[BatchResult]]:
    """Send a batch of publishes. Raises `RequestError` or `HttpFailed`."""
    url = parse_url(action.url)
    level = levels.of(url)
    changes = [fit(change, level) or change for change in action.changes]
    batch = Batch(changes, action.publisher, action.seq, action.settled)
    body = codec.dumps(fit(batch, level))
    reply = yield from ask(Ask(url, "POST", PUBLISH_PATH, action.timeout_s, body, once=True))
    results = reply.decode(BatchResults).results
    if len(results) != len(action.changes):
        raise HttpFailed(f"{url} answered {len(action.changes)} publishes with {len(results)} results")
    return results
