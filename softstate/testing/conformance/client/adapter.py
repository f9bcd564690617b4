"""Level 4, the Python client's side: carries out the commands of scripts. ``python -m … adapter [trio|asyncio]``.

Commands come as JSON lines on standard input, each with an `id`; answers go to standard output with the same `id`, in
any order, since a command may wait for what only another one brings about.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, cast, final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.receipt import Receipt
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.errors import RequestError, SoftstateError
from softstate.model import Change
from softstate.testing.conformance.client.form import Json, change_form, plain


@final
class Adapter:
    """One client, and what a script calls its parts by. `tasks` hold it open."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._client: Client | None = None
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._handles: dict[str, Updates] = {}
        self._receipts: dict[str, Receipt] = {}

    @property
    def _open_client(self) -> Client:
        assert self._client is not None, "a script opens the client first"
        return self._client

    async def ask(self, command: Json) -> Json:
        """Carry out a command; return what it gives, or its `error`."""
        given = {name: item for name, item in command.items() if name not in ("client", "id")}
        try:
            found: Json = await getattr(self, f"_{command['client']}")(**given)
        except RequestError as error:
            return {"error": error.code}
        except SoftstateError as error:
            return {"error": type(error).__name__}
        return found

    async def _open(self, url: str, **options: Any) -> Json:
        self._client = await self._tasks.start(self._hold, url, options)
        return {}

    async def _hold(self, url: str, options: dict[str, Any], *, task_status: TaskStatus[Client]) -> None:
        """Be the one task that enters and leaves the client's block."""
        async with connect(url, **options) as client:
            task_status.started(client)
            await self._closing.wait()
        self._closed.set()

    async def _close(self) -> Json:
        self._closing.set()
        await self._closed.wait()
        return {}

    async def _subscribe(self, handle: str, names: list[str]) -> Json:
        self._handles[handle] = await self._open_client.subscribe(*names).__aenter__()
        return {}

    async def _next(self, handle: str) -> Json:
        async for event in self._handles[handle].events():
            if isinstance(event, Change):
                return {"change": change_form(event)}
            if isinstance(event, Reset):
                return {"reset": True}
        return {"end": True}

    async def _end(self, handle: str) -> Json:
        self._handles[handle].close()
        return {}

    async def _mode(self, wanted: str) -> Json:
        async for mode in self._open_client.modes():
            if mode == wanted:
                break
        return {}

    async def _age(self, handle: str) -> Json:
        return {"age": plain(self._handles[handle].age)}

    async def _publish(self, receipt: str, topic: str, value: Any, expect: int | None = None) -> Json:
        self._receipts[receipt] = self._open_client.publish_soon(topic, value, expect=expect, each=True)
        return {}

    async def _outcome(self, receipt: str) -> Json:
        return {"version": (await self._receipts[receipt].wait()).version}

    async def _get(self, topic: str) -> Json:
        found = await self._open_client.get(topic)
        return {"change": None if found is None else change_form(found)}


async def main() -> None:
    """Take commands until standard input ends."""
    async with anyio.create_task_group() as tasks:
        adapter = Adapter(tasks)

        async def carry_out(command: Json) -> None:
            answer = {**await adapter.ask(command), "id": command["id"]}
            os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")

        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            tasks.start_soon(carry_out, cast("Json", json.loads(line)))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
