"""``python -m softstate.testing.conformance.client.node [--client CMD] [SCRIPT…]``: a client against scripted nodes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import final

import trio

from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.player import SCRIPTS, ScriptFails, play, read_script
from softstate.testing.conformance.client.trace import Trace

USAGE = """usage: python -m softstate.testing.conformance.client.node [--client COMMAND] [SCRIPT...]
Plays scripts (all that are shipped, if none is named). COMMAND is your client's adapter: it reads commands, JSON lines,
on standard input, and answers on standard output. Without one, commands are printed, to be carried out by hand."""


@final
class Process:
    """An adapter in a process of its own."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._waiting: dict[int, trio.MemorySendChannel[Json]] = {}
        self._number = 0

    async def ask(self, command: Json) -> Json:
        """Give it a command, and wait for the answer."""
        assert self._process.stdin is not None
        self._number += 1
        put, answer = trio.open_memory_channel[Json](1)
        self._waiting[self._number] = put
        await self._process.stdin.send_all(json.dumps({**command, "id": self._number}).encode() + b"\n")
        return await answer.receive()

    async def read(self) -> None:
        """Take its answers until it ends."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                await self._waiting.pop(answer["id"]).send(answer)


async def by_hand(command: Json) -> Json:
    """Print a command for people."""
    await trio.to_thread.run_sync(print, json.dumps(command, ensure_ascii=False), abandon_on_cancel=True)
    return {}


async def run_script(script: Trace, client: str | None) -> str | None:
    """Play a script; return why it failed, None if it did not."""
    try:
        if client is None:
            await play(script, by_hand)
            return None
        async with trio.open_nursery() as nursery:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = await nursery.start(partial(trio.run_process, shlex.split(client), check=False, **pipes))
            adapter = Process(process)
            nursery.start_soon(adapter.read)
            failure: str | None = None
            try:
                await play(script, adapter.ask)
            except ScriptFails as error:
                failure = str(error)
            nursery.cancel_scope.cancel()
    except ScriptFails as error:
        return str(error)
    return failure


async def main(arguments: list[str]) -> int:
    """Play scripts, and say of each whether it failed; return 1 if one did, 2 if the arguments mean nothing."""
    client = None
    if arguments[:1] == ["--client"] and len(arguments) > 1:
        client, arguments = arguments[1], arguments[2:]
    if any(each.startswith("-") for each in arguments):
        print(USAGE, file=sys.stderr)
        return 2
    paths = [Path(each) for each in arguments] or sorted(SCRIPTS.rglob("*.ndjson"))
    failures = 0
    for path in paths:
        script = read_script(path)
        failure = await run_script(script, client)
        failures += failure is not None
        print(f"{script.name}: ok" if failure is None else f"FAILED {failure}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:]))
