"""Fixtures: a node in this process, and `softstate revoke` at it, in a thread, since it runs a loop of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest
import trio
from structlog.testing import capture_logs

from softstate.auth.revocations import REVOKED, Revocations
from softstate.cli import run
from softstate.cli.commands.revoke import options
from softstate.model import Query, Record
from softstate.server import Node, ServerConfig
from softstate.server.serving import serve
from softstate.store.base import Write
from softstate.wire import encode_value
from tests.kit.command_group import output_of, refusal_of
from tests.kit.static_tokens import static

NOW = 1_796_000_000.0
"""The wall clock of the commands: 2026-11-30T00:53:20Z."""

ADMIN = "sst_" + "a" * 43
READER = "sst_" + "r" * 43
POLICY = static("admin", ADMIN, admin=True) + static("reader", READER, read=["/"], write=["/"])

Ran: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]


@dataclass
class Running:
    """A node, and what its store holds."""

    node: Node

    @property
    def url(self) -> str:
        return f"ws://{self.node.addresses[0]}"

    async def records(self) -> dict[str, Record]:
        """Return the topics below `REVOKED` that are not deleted."""
        (page,) = await self.node.store.read([Query(prefixes={REVOKED: 0})])
        assert not isinstance(page, Exception)
        return {record.topic: record for record in page.records if not record.deleted}

    async def known(self) -> Revocations:
        """Return what a node knows that has read the store."""
        known = Revocations()
        for record in (await self.records()).values():
            known.note(record)
        return known

    async def put(self, topic: str, value: object) -> None:
        """Change a topic as another program does."""
        await self.node.store.publish([Write(topic, encode_value(value))])


async def started(nursery: trio.Nursery, auth: str = "") -> Running:
    """Start a node that holds nothing."""
    return Running(await nursery.start(partial(serve, ServerConfig(port=0, store="memory:", auth=auth))))


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the wall clock of the commands at `NOW`."""
    monkeypatch.setattr(options, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the log of the node, which is in this process, out of what the commands print."""
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOFTSTATE_URL", "SOFTSTATE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def running(nursery: trio.Nursery) -> Running:
    """Run a node without rules."""
    return await started(nursery)


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Ran:
    """Run a command of the group; return its exit code, and what it printed on stdout and stderr."""

    async def ran(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await trio.to_thread.run_sync(run, ["revoke", *words])
        output = capsys.readouterr()
        return code, output.out, output.err

    return ran


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """See `output_of`."""
    return output_of("revoke", capsys)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """See `refusal_of`."""
    return refusal_of("revoke", capsys)


@pytest.fixture
async def ruled(nursery: trio.Nursery, tmp_path: Path) -> Running:
    """Run a node with an administrator, and somebody who may everything else."""
    path = tmp_path / "auth.toml"
    path.write_text(POLICY)
    return await started(nursery, auth=str(path))
