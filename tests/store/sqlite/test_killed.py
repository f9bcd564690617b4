"""S3: when processes are killed with -9 while publishing, nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import softstate
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store.base import Applied, Write
from softstate.store.sqlite.store import SqliteStore

PUBLISHER = """
import sys, trio
from softstate.store import Write, open_store

async def main():
    store = await open_store("sqlite:" + sys.argv[1])
    number = 0
    while True:
        group = [Write(f"t/{n % 7}", n.to_bytes(4, "big"), key=str(n)) for n in range(number, number + 3)]
        done = await store.publish(group)
        for publish, verdict in zip(group, done.verdicts):
            print(publish.key, verdict.version, flush=True)
        number += 3

trio.run(main)
"""


async def publish_until_killed(path: Path, acknowledgements: int) -> list[tuple[int, int]]:
    """Run a publisher, kill it after so many acknowledgements, and return all that it gave: (number, version)."""
    environment = {**os.environ, "PYTHONPATH": str(Path(softstate.__file__).parents[1])}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", PUBLISHER, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    output = b""
    async with process.stdout:
        while output.count(b"\n") < acknowledgements:
            chunk = await process.stdout.receive_some()
            assert chunk, "the publisher ended by itself"
            output += chunk
        process.kill()
        async for chunk in process.stdout:
            output += chunk
    assert await process.wait() == -signal.SIGKILL
    lines = output[: output.rfind(b"\n")].splitlines()
    return [(int(number), int(version)) for number, version in map(bytes.split, lines)]


@pytest.mark.parametrize("acknowledgements", [1, 100, 500])
async def test_nothing_acknowledged_is_lost(acknowledgements: int, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    acknowledged = await publish_until_killed(path, acknowledgements)
    store = await SqliteStore.open(str(path))
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    stored = {record.topic: record for record in page.records}
    for number, version in acknowledged:
        record = stored[f"t/{number % 7}"]
        assert record.version >= version
        assert record.cbor is not None
        assert int.from_bytes(record.cbor, "big") >= number
        (verdict,) = (await store.publish([Write(record.topic, b"", key=str(number))])).verdicts
        assert verdict == Applied(version, repeated=True), "the key still stands for the first success"
    await store.aclose()
