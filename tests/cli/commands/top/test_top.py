"""`softstate top` looks at every node, and shows which ones do not answer."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio

from softstate import Denied, connect
from softstate.cli.commands.top import command
from softstate.cli.exit_codes import UNAVAILABLE
from softstate.cli.options.credentials import Presented
from tests.kit.node_rig import mode_is, node
from tests.kit.rules_gate import RulesGate

NOBODY = "ws://127.0.0.1:1"


def objects(output: str) -> list[dict[str, Any]]:
    """Return the lines of JSON of an output, in which nodes of this process log."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


async def test_one_picture_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with node() as running, connect(running.url) as client, client.subscribe("a") as updates:
        await updates.synced()
        await mode_is(client, "live")
        assert await command(url=(running.url, NOBODY), once=True, json=True, every=0.01) == 0
        (told,) = objects(capsys.readouterr().out)
        first, second = told["nodes"]
        assert (first["up"], first["node"], first["sessions"]) == (True, running.node.node_id, 1)
        assert first["deliveries_per_s"] is not None
        assert (second["up"], second["url"], second["known_age_s"]) == (False, NOBODY, None)
        assert "cannot be reached" in second["error"]
        assert told["together"]["nodes_up"] == 1


async def test_one_picture_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    async with node() as running:
        assert await command(url=(running.url,), once=True, every=0.01) == 0
        output = capsys.readouterr().out
        assert "1 of 1 nodes" in output
        assert "AGE" in output


async def test_no_node_at_all_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert await command(url=(NOBODY,), once=True, json=True, every=0.01) == UNAVAILABLE
    (told,) = objects(capsys.readouterr().out)
    assert told["together"]["nodes_up"] == 0


async def test_nodes_that_refuse_are_not_said_to_be_down(capsys: pytest.CaptureFixture[str]) -> None:
    rules = RulesGate()
    rules.may("shop", read=["a"])
    rules.issue("shop", "shop")
    shop = Presented(token="shop")
    async with node(parts={"authority": rules}) as running:
        with pytest.raises(Denied, match="administrators"):
            await command(url=(running.url,), credentials=shop, json=True, every=0.01)
        assert (
            await command(url=(running.url, NOBODY), credentials=shop, once=True, json=True, every=0.01) == UNAVAILABLE
        )
    (told,) = objects(capsys.readouterr().out)
    assert "administrators" in told["nodes"][0]["error"]


async def test_it_looks_again_until_it_is_ended(capsys: pytest.CaptureFixture[str], nursery: trio.Nursery) -> None:
    async with node() as running:
        nursery.start_soon(partial(command, url=(running.url,), json=True, every=0.001))
        seen: list[dict[str, Any]] = []
        while len(seen) < 3:
            await trio.sleep(0.001)
            seen += objects(capsys.readouterr().out)
        nursery.cancel_scope.cancel()
