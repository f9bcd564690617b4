"""A publish that comes alone costs few steps of the loop, and no task is woken that has nothing to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from softstate.server.config import ServerConfig
from softstate.server.node import Node
from softstate.store.base import Write
from softstate.store.sqlite.store import SqliteStore


class Steps(trio.abc.Instrument):
    """Counts the steps of each task, by the name of its function."""

    def __init__(self) -> None:
        self.count = Counter[str]()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count[task.name.rpartition(".")[2]] += 1


@pytest.fixture
async def node(tmp_path: Path, mock_clock: MockClock) -> AsyncIterator[Node]:
    """Start a node on SQLite that has nothing to do; its clock stands still."""
    store = await SqliteStore.open(str(tmp_path / "db"))
    node = Node(ServerConfig(), store, await store.head())
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        await publish(node, "warm")
        await store.head()
        await settled(store)
        yield node
        nursery.cancel_scope.cancel()
    await store.aclose()


def write(topic: str) -> Write:
    return Write(topic, b"\x01", None, None, None, b"", None)


async def publish(node: Node, topic: str) -> int:
    applied, _ = await node.access.writes.publish(write(topic))
    return applied.version


async def settled(store: SqliteStore) -> None:
    """Wait until the follower has looked, and all that can happen at this time has happened, in threads, too."""
    while store._engine.unchanged() is None or store._reader.busy or store._writer.busy:
        await wait_all_tasks_blocked(0.001)
    await wait_all_tasks_blocked()


async def test_a_lone_publish_takes_few_steps(node: Node) -> None:
    counts = [await steps_of_a_publish(node, f"t/{number}") for number in range(5)]
    ours = min(counts, key=Counter.total)  # a node that has only begun may still look at its files
    assert ours.pop("run") == 2, "the batcher's: one to call the store, one to answer"
    assert ours.pop("run_sync_soon task>", 0) <= 1, "Trio's own, which hands the answer over"
    assert ours == {}, "the follower is left alone"


async def steps_of_a_publish(node: Node, topic: str) -> Counter[str]:
    """Publish; return the steps that each task of the node took until it was answered."""
    steps = Steps()
    answered: list[object] = []
    trio.lowlevel.add_instrument(steps)
    node.access.writes.submit(write(topic), answered.append)
    while not answered:
        await wait_all_tasks_blocked(0.001)
    trio.lowlevel.remove_instrument(steps)
    return Counter({name: count for name, count in steps.count.items() if not name.startswith("<test")})


async def test_a_head_that_has_not_changed_is_read_without_a_thread(node: Node) -> None:
    await node.store.head()
    steps = Steps()
    answered: list[object] = []
    trio.lowlevel.add_instrument(steps)
    node.access.heads.submit(answered.append)
    while not answered:
        await wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(steps)
    assert not any("run_sync_soon" in name for name in steps.count)


async def test_the_feed_is_read_at_once_if_another_process_came_in_between(node: Node, tmp_path: Path) -> None:
    other = await SqliteStore.open(str(tmp_path / "db"))  # commits a lineage row
    version = await publish(node, "t")
    await node.hub.reached(version)
    assert node.hub.position.revision == version
    await other.aclose()
