"""The examples work, also when their node is killed and started again in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

import softstate
from softstate import examples
from softstate.examples import compare_and_set, follow, read_your_write
from softstate.store import MemoryDisk
from tests.kit.node_rig import node

FOLDER = Path(examples.__file__).parent


async def test_follow_shows_prices_and_marks_old_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    printed: list[str] = []

    async def printed_is(line: str) -> None:
        while line not in printed:
            printed.extend(capsys.readouterr().out.splitlines())
            await trio.sleep(0.001)

    async def show(updates: softstate.Updates, prices: dict[str, object]) -> None:
        await real_show(updates, prices, every_s=0.001)

    real_show = follow.show
    monkeypatch.setattr(follow, "show", show)
    async with node() as rig, softstate.connect(rig.url) as publisher:
        nursery.start_soon(follow.follow, rig.url)
        await publisher.publish("prices/eur", 1.5)
        await printed_is("prices/eur: 1.5")
        await rig.kill()
        monkeypatch.setattr(follow, "AGE_S_MAX", 0.05)
        await printed_is("prices/eur: 1.5 (may be out of date)")
        monkeypatch.setattr(follow, "AGE_S_MAX", 30.0)
        await rig.start()
        await publisher.publish("prices/eur", 1.6)
        await printed_is("prices/eur: 1.6")
        await publisher.delete("prices/eur")
        await publisher.publish("prices/usd", 2)
        await printed_is("prices/usd: 2")


async def test_counters_lose_no_addition(nursery: trio.Nursery) -> None:
    results: list[int] = []

    async def add(client: softstate.Client) -> None:
        results.append(await compare_and_set.add(client, "counters/visits", 1))

    async with node() as rig, softstate.connect(rig.url) as one, softstate.connect(rig.url) as other:
        async with trio.open_nursery() as adding:
            for client in (one, other) * 5:
                adding.start_soon(add, client)
            while len(results) < 3:
                await trio.sleep(0.001)
            await rig.kill()
            await rig.start()
        change = await one.get("counters/visits")
    assert sorted(results) == list(range(1, 11))
    assert change is not None
    assert change.value == 10


async def test_a_deleted_counter_begins_again() -> None:
    async with node() as rig, softstate.connect(rig.url) as client:
        assert await compare_and_set.add(client, "counters/visits", 5) == 5
        await client.delete("counters/visits")
        assert await compare_and_set.add(client, "counters/visits", 1) == 1


async def test_a_write_is_read_on_another_node() -> None:
    disk = MemoryDisk()
    async with node(disk) as one, node(disk) as other:
        change = await read_your_write.main(one.url, other.url)
    assert change is not None
    assert change.value == {"state": "paid"}


def test_the_test_of_an_application_passes() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "trio_mode=true",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
    ]
    done = subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", str(FOLDER), str(FOLDER / "test_my_app.py")],
        capture_output=True, text=True, check=False, timeout=50, cwd=FOLDER.parents[1],
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_all_examples_are_tried_here() -> None:
    names = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    here = {"follow", "compare_and_set", "read_your_write", "test_my_app"}
    applications = {"revocation", "config", "fastapi_app", "django_app"}  # test_applications.py
    elsewhere = {"cache", "openfeature_provider", "dashboard"}  # files of their own; the last in tests/web/browsers/
    assert names == here | applications | elsewhere
