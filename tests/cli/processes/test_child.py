"""Child processes: what of this process's environment they are given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from softstate.cli.processes.child import Lines, NodeProcess, child, free_port

SAY = "import os; print(os.environ.get('SOFTSTATE_TTL'), os.environ['ANOTHER'])"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure softstate by the environment, as for a node of the user's own."""
    monkeypatch.setenv("SOFTSTATE_TTL", "no duration")
    monkeypatch.setenv("ANOTHER", "kept")


async def test_a_child_is_not_configured_by_the_environment() -> None:
    async with child([sys.executable, "-c", SAY]) as process:
        assert process.stdout is not None
        assert [line async for line in Lines(process.stdout)] == ["None kept"]


async def test_a_child_that_needs_the_environment_is_given_it() -> None:
    async with child([sys.executable, "-c", SAY], environment=os.environ) as process:
        assert process.stdout is not None
        assert [line async for line in Lines(process.stdout)] == ["no duration kept"]


async def test_a_node_of_a_trial_takes_its_options_from_the_command_line_alone(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        node = NodeProcess(nursery, free_port(), ["--store", "memory:"], tmp_path / "log")
        await node.start()
        assert "softstate listens" in node.announcement
        nursery.cancel_scope.cancel()
