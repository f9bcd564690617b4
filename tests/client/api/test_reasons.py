"""A client says why: in its log, in `last_error`, and with each change of mode."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from softstate import ModeChanged, NodeRefused, Unavailable
from softstate.client.machine.table import ROWS
from softstate.client.machine.triggers import BECAUSE
from softstate.client.url import parse_url
from softstate.errors import Denied, Unsupported
from softstate.testing import memory_node
from tests.kit.push_node import URL, client_of, drain, until
from tests.kit.scripted_node import Answer, ScriptedNode


def test_each_trigger_that_changes_the_mode_has_words() -> None:
    changing = {trigger for _, triggers, to, _ in ROWS if to is not None for trigger in triggers}
    assert changing <= BECAUSE.keys()


async def test_a_change_of_mode_says_why_and_where(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(logging.INFO, "softstate.client")
    async with memory_node() as node, node.connect() as client, client.subscribe("p/") as updates:
        await until(client, "live")
        before = client.last_error
        assert before is None
        await node.kill()
        await until(client, "offline")
        told = [each for each in await drain(updates) if isinstance(each, ModeChanged)]
        assert (told[-1].mode, told[-1].url) == ("offline", node.url)
        assert "cannot be reached" in told[-1].because
        assert isinstance(client.last_error, Unavailable)
        assert "cannot be reached" in str(client.last_error)
        await node.start()
        await until(client, "live")
        assert repr(client).startswith(f"<softstate.Client {node.url}, live, age ")
    lines = [record.getMessage() for record in caplog.records if record.name == "softstate.client"]
    assert f"live: every subscription is answered ({node.url})" in lines
    assert any(line.startswith("polling: ") and "connection" in line for line in lines)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_proxy_that_forbids_stops_no_client(
    nursery: trio.Nursery, autojump_clock: MockClock, status: int
) -> None:
    page = Answer(status, b"<html>Forbidden</html>")

    async def forbidding(_: object) -> Answer:
        await trio.lowlevel.checkpoint()
        return page

    node = ScriptedNode(nursery, http=forbidding, refusal=page)
    async with client_of(node.open_stream) as client, client.subscribe("p/") as updates:
        await trio.sleep(60)
        assert client.mode in ("polling", "offline")
        refusals = [each for each in await drain(updates) if isinstance(each, NodeRefused)]
        assert [(each.url, type(each.error)) for each in refusals] == [(str(parse_url(URL)), Denied)]
        assert f"HTTP status {status} that is not softstate's own" in str(refusals[0].error)
        tries = len(node.asked)
        assert tries < 10
        await trio.sleep(1_200)
        assert len(node.asked) > tries, "it is asked again, much later"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>no such page</html>"),
        (426, b'{"op":"error","code":"unsupported","message":"this route speaks WebSocket only"}'),
    ],
)
async def test_a_proxy_that_does_not_pass_upgrade_is_told_once(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, status: int, body: bytes
) -> None:
    """With 404 it answers itself; with 426 the node does, which has got another request than the client has sent."""
    node = ScriptedNode(nursery, refusal=Answer(status, body))
    async with client_of(node.open_stream) as client, client.subscribe("p/") as updates:
        await trio.sleep(1_000)
        refusals = [each for each in await drain(updates) if isinstance(each, NodeRefused)]
        assert [type(each.error) for each in refusals] == [Unsupported]
        assert "does not pass `Upgrade`" in str(refusals[0].error)
        assert client.last_error is not None
    assert sum("does not pass `Upgrade`" in record.getMessage() for record in caplog.records) == 1
