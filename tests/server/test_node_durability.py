"""Durability as a node reports it: it may change while the node runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog
import trio

from softstate.errors import ConfigError
from softstate.model import Durability
from softstate.server import Node, ServerConfig, serve
from softstate.server.storage.housekeeping import HOUSEKEEPING_S
from softstate.store.memory.store import MemoryStore

LOSSY = "every second counts: say so to the engine"


@pytest.fixture
async def node() -> Node:
    store = MemoryStore(durability=Durability.DURABLE)
    return Node(ServerConfig(), store, await store.head())


@pytest.fixture
async def logs() -> AsyncIterator[list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []

    def note(_logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if "durability" in event:
            found.append((level, event.get("because", event["durability"])))
        raise structlog.DropEvent

    with structlog.testing.capture_logs(processors=[note]):
        yield found


async def test_clients_are_told_the_current_durability(node: Node) -> None:
    assert node.terms().durability == "durable"
    node.store.durability = Durability.WEAK
    assert node.terms().durability == "weak"
    assert node.terms() is node.terms(), "worked out once for as long as nothing changes"


async def test_status_and_metrics_tell_the_current_durability(node: Node) -> None:
    status = await node.status()
    assert (status["durability"], status["store_warnings"], status["store_durable"]) == ("durable", [], 1)
    node.store.durability, node.store.warnings = Durability.WEAK, (LOSSY,)
    status = await node.status()
    assert (status["durability"], status["store_warnings"], status["store_durable"]) == ("weak", [LOSSY], 0)
    assert b"\nsoftstate_store_durable 0.0\n" in node.metrics()
    node.store.durability = Durability.REPLICATED
    assert b"\nsoftstate_store_durable 1.0\n" in node.metrics()


async def test_each_warning_is_logged_once_until_it_is_gone(
    node: Node, logs: list[tuple[str, str]], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    node.store.durability, node.store.warnings = Durability.WEAK, (LOSSY,)
    await node.start(nursery)
    assert logs == [("warning", LOSSY)], "at start"
    await trio.sleep(3 * HOUSEKEEPING_S)
    node.store.warnings = (LOSSY, "another")
    await trio.sleep(HOUSEKEEPING_S)
    assert logs == [("warning", LOSSY), ("warning", "another")]
    node.store.durability, node.store.warnings = Durability.DURABLE, ()
    await trio.sleep(2 * HOUSEKEEPING_S)
    node.store.durability, node.store.warnings = Durability.WEAK, (LOSSY,)
    await trio.sleep(2 * HOUSEKEEPING_S)
    assert logs[2:] == [("info", "durable"), ("warning", LOSSY)]


async def test_a_node_that_needs_a_durable_store_does_not_start_on_another() -> None:
    config = ServerConfig(port=0, store="memory:", require_durable=True)
    with pytest.raises(ConfigError, match=r"^require_durable: the store memory: is none, .* name a file"):
        await serve(config)


async def test_it_starts_on_one(tmp_path_factory: pytest.TempPathFactory, nursery: trio.Nursery) -> None:
    path = tmp_path_factory.mktemp("store") / "softstate.db"
    node = await nursery.start(serve, ServerConfig(port=0, store=f"sqlite:{path}", require_durable=True))
    assert node.durability is Durability.DURABLE
    await node.drain()
