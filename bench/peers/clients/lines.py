"""Commands as JSON lines on stdin, and their answers on stdout, for processes that run on Trio."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import trio

Command: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]


async def serve(commands: Mapping[str, Command]) -> None:
    """Carry out commands of `bench.load.process`, one after the other, until stdin ends."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        words = json.loads(line)
        print(json.dumps(await commands[words.pop("do")](**words)), flush=True)
