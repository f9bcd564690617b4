"""Commands that put something away before they end at a signal."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

from softstate.cli import exit_codes
from softstate.cli.commands.store import backup, check, copy, restore
from softstate.cli.processes.child import Lines, child, softstate
from softstate.cli.processes.interrupt import interruptible
from softstate.position import Position
from softstate.store import open_store
from softstate.store.base import Dump, Write
from softstate.store.sqlite.store import SqliteStore


def names(folder: Path) -> list[str]:
    """List what is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _hang_up_is_not_ignored() -> Iterator[None]:
    """Have SIGHUP do what it does by default, also when the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_backup_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    url = f"sqlite:{tmp_path / 'softstate.db'}"
    store = await open_store(url)
    await store.publish([Write("a", b"\x01")])
    await store.aclose()

    async def interrupted(_store: SqliteStore, _pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        assert replace
        assert any(name.endswith(".partial") for name in names(tmp_path))
        signal.raise_signal(number)
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    monkeypatch.setattr(SqliteStore, "adopt", interrupted)
    with trio.fail_after(20):
        assert await backup.command(tmp_path / "backup.db", store=url) == exit_codes.INTERRUPTED
    assert names(tmp_path) == ["softstate.db"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", ["copy", "restore"])
async def test_a_store_is_closed_when_filling_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, words: str
) -> None:
    source, target = tmp_path / "source.db", f"sqlite:{tmp_path / 'target.db'}"
    store = await open_store(f"sqlite:{source}")
    await store.publish([Write("a", b"\x01")])
    await store.aclose()

    async def interrupted(_store: SqliteStore, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        assert replace == (words == "restore")
        await anext(pages)
        signal.raise_signal(number)
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    monkeypatch.setattr(SqliteStore, "adopt", interrupted)
    with trio.fail_after(20):
        ended = copy.command(f"sqlite:{source}", target) if words == "copy" else restore.command(source, store=target)
        assert await ended == exit_codes.INTERRUPTED
    assert names(tmp_path) == ["source.db", "target.db"]


async def test_ctrl_c_where_restore_asks_ends_it(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'softstate.db'}"
    store = await open_store(url)
    await store.publish([Write("a", b"\x01")])
    await store.aclose()
    await backup.command(tmp_path / "backup.db", store=url)
    keyboard, terminal = os.openpty()
    with open(keyboard, "rb"), open(terminal, "rb"), trio.fail_after(20):  # noqa: PTH123, ASYNC230 - descriptors
        words = softstate("store", "restore", str(tmp_path / "backup.db"), "--store", url)
        async with child(words, subprocess.PIPE, terminal) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            said = b""
            while b"Type 'restore' to go on: " not in said:
                said += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == exit_codes.INTERRUPTED
            assert await process.stderr.receive_some() == b""


@pytest.mark.parametrize("number", SIGNALS)
async def test_check_leaves_nothing_behind_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    words = softstate("store", "check", "--store", f"sqlite:{tmp_path / 'softstate.db'}")
    with trio.fail_after(20):
        async with child(words) as process:
            assert process.stdout is not None
            async for line in Lines(process.stdout):
                if line.startswith("ok "):
                    process.send_signal(number)
                    break
            assert await process.wait() == exit_codes.INTERRUPTED
    assert names(tmp_path) == []


@pytest.mark.parametrize(("module", "function"), [(tempfile, "mkdtemp"), (shutil, "rmtree")])
async def test_ctrl_c_while_a_scratch_store_is_made_or_put_away_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str
) -> None:
    real = getattr(module, function)
    signals = [signal.SIGINT]

    def interrupted(*args: Any, **options: Any) -> Any:
        if function == "rmtree" and signals:
            signal.raise_signal(signals.pop())
        made = real(*args, **options)
        if signals:
            signal.raise_signal(signals.pop())
        return made

    with monkeypatch.context() as patched, trio.fail_after(20):
        patched.setattr(module, function, interrupted)
        assert await check.command(store=f"sqlite:{tmp_path / 'softstate.db'}") == exit_codes.INTERRUPTED
    assert signals == []
    assert names(tmp_path) == []


async def test_ctrl_c_in_the_middle_of_a_garbage_collection_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An exception in a callback of the collector is dropped. Hypothesis has such a callback in this very process.
    real = tempfile.mkdtemp
    signals = [signal.SIGINT]

    def interrupted(_phase: str, _info: dict[str, int]) -> None:
        if signals:
            signal.raise_signal(signals.pop())

    def collecting(*args: Any, **options: Any) -> Any:
        gc.callbacks.append(interrupted)
        gc.collect()
        gc.callbacks.remove(interrupted)
        return real(*args, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", collecting)
    with trio.fail_after(20):
        assert await check.command(store=f"sqlite:{tmp_path / 'softstate.db'}") == exit_codes.INTERRUPTED
    assert signals == []
    assert names(tmp_path) == []


async def test_a_hang_up_that_is_ignored_interrupts_nothing() -> None:
    """`nohup` has it ignored, for a command that is to go on without its terminal."""

    async def work() -> int:
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
        return exit_codes.OK

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert await interruptible(work) == exit_codes.OK
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
