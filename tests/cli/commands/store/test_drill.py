"""The restore drill: ``softstate store restore`` under a running node, whose clients have seen what is taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from softstate.cli.processes.child import NodeProcess, free_port, softstate
from softstate.client.api.connect import connect
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.model import Change, Value

WAIT_S = 20.0
"""Longest wait for any condition before the test fails; nothing sleeps for it."""


class Board:
    """The view of an application that follows all topics, and forgets them at a reset."""

    def __init__(self, updates: Updates) -> None:
        self.shown: dict[str, Value] = {}
        self.resets = 0
        self._updates = updates
        self._moved = trio.lowlevel.ParkingLot()

    async def follow(self) -> None:
        async for event in self._updates.events():
            if isinstance(event, Reset):
                self.shown.clear()
                self.resets += 1
            elif isinstance(event, Change):
                self.shown.pop(event.topic, None)
                if not event.deleted:
                    self.shown[event.topic] = event.value
            self._moved.unpark_all()

    async def shows(self, wanted: dict[str, Value], *, resets: int) -> None:
        while (self.shown, self.resets) != (wanted, resets):
            await self._moved.park()


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[NodeProcess]:
    options = ["--store", f"sqlite:{tmp_path / 'softstate.db'}", "--ttl", "10s", "--poll-every-ms", "100"]
    node = NodeProcess(nursery, free_port(), options, tmp_path / "node.log")
    await node.start()
    yield node
    await node.kill()


async def store(*words: str, folder: Path) -> str:
    """Run `softstate store` in a folder, and return its output."""
    done = await trio.run_process(softstate("store", *words), capture_stdout=True, cwd=folder)
    return done.stdout.decode()


@pytest.mark.parametrize("push", [True, False])
@pytest.mark.parametrize("beyond", [False, True])
async def test_clients_forget_the_lost_future(
    push: bool, beyond: bool, node: NodeProcess, tmp_path: Path, nursery: trio.Nursery
) -> None:
    with trio.fail_after(WAIT_S):
        async with (
            connect(node.url, push=push) as watcher,
            connect(node.url) as publisher,
            watcher.subscribe("/") as updates,
        ):
            board = Board(updates)
            nursery.start_soon(board.follow)
            await publisher.publish("kept", "old")
            await publisher.publish("revived", 1)
            await board.shows({"kept": "old", "revived": 1}, resets=0)
            await store("backup", "b.db", folder=tmp_path)
            await publisher.publish("kept", "new")
            await publisher.delete("revived")
            lost = await publisher.publish("lost", 1)
            await board.shows({"kept": "new", "lost": 1}, resets=0)

            output = await store("restore", "b.db", "--yes", folder=tmp_path)
            assert "LOST: what was published after revision" in output
            assert ": 3 topics: kept, lost, revived\n" in output
            await board.shows({"kept": "old", "revived": 1}, resets=1)
            if beyond:
                while await publisher.publish("other", 1) <= lost:
                    pass
                await board.shows({"kept": "old", "revived": 1, "other": 1}, resets=1)
            assert sorted(change.topic for change in await watcher.list("/")) == sorted(board.shown)
