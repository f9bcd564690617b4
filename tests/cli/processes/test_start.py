"""Commands that ask a node once start without a loop: it would be most of their start. Their modules are counted."""

from __future__ import annotations

import json
import sys

import trio

from tests.kit.node_rig import node

LEFT_OUT = (
    "trio", "anyio", "asyncio", "ssl", "rich", "websockets", "trio_websocket", "structlog", "httptools",
    "prometheus_client", "softstate.client.machine.machine", "softstate.client.shell", "softstate.server",
)  # fmt: skip
"""Modules that `get`, `list` and `publish` do not import: each takes 10 to 150 ms of CPU."""

MODULES_MAX = 300
"""Modules that one of them imports at most, those of the interpreter included."""

PROGRAM = """
import json, sys
from softstate.cli import run
codes = [run(words) for words in json.loads(sys.argv[1])]
print(json.dumps([codes, sorted(sys.modules)]))
"""


async def test_get_list_and_publish_start_without_a_loop() -> None:
    async with node(wait_s=60) as running:
        commands = [
            ["publish", "a/b", "[1]"],
            ["get", "a/b"],
            ["list", "a/", "--json"],
            ["publish", "a/b", "2", "--key", "k"],
        ]
        words = json.dumps([[*each, "--url", running.url] for each in commands])
        done = await trio.run_process([sys.executable, "-c", PROGRAM, words], capture_stdout=True)
    *printed, last = done.stdout.decode().splitlines()
    codes, modules = json.loads(last)
    assert codes == [0] * len(commands)
    assert printed[1] == "[1]"
    assert json.loads(printed[2])["topic"] == "a/b"
    assert [name for name in modules if name.startswith(LEFT_OUT)] == []
    assert len(modules) <= MODULES_MAX
