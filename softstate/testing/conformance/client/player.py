"""Level 4: plays a script, a step after the other: what the node does, and what the client is told and answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias, final

import trio

from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.sockets import Asked, Port, Socket
from softstate.testing.conformance.client.trace import FOLDER, Trace
from softstate.wire import digest_of, digest_text

SCRIPTS = FOLDER.with_name("scripts")
"""The committed scripts."""

WITHIN_S = 5.0
"""How long a step may take, unless it says otherwise."""

OPEN_WITHIN_S = 60.0
"""How long the first command may take: the adapter's process has to start."""

Ask: TypeAlias = Callable[[Json], Awaitable[Json]]
"""Gives a command to a client's adapter, and returns the answer."""


class ScriptFails(AssertionError):
    """A client did something else than a script says; the message names the line."""


class Differs(Exception):
    """Something that came is not what was expected."""


@final
class Player:
    """Plays one script on `port`; `ask` gives commands to the client."""

    def __init__(self, script: Trace, port: Port, url: str, ask: Ask, nursery: trio.Nursery) -> None:
        self._script = script
        self._port = port
        self._url = url
        self._ask = ask
        self._nursery = nursery
        self._bound: dict[str, Any] = {}
        self._sockets: dict[str, Socket] = {}
        self._kept: list[Asked] = []
        self._answers: dict[str, trio.MemoryReceiveChannel[Json]] = {}

    async def play(self) -> None:
        """Play all steps. Raises `ScriptFails` at the first one that does not come about."""
        for number, step in enumerate(self._script.lines, start=2):
            what = f"{self._script.name}, line {number}, {json.dumps(step, ensure_ascii=False)[:200]}"
            within_s = step.get("within_s", OPEN_WITHIN_S if step.get("client") == "open" else WITHIN_S)
            try:
                with trio.fail_after(within_s):
                    await self._step(step)
            except trio.TooSlowError:
                raise ScriptFails(f"{what}: it did not come within {within_s:g} s") from None
            except Differs as error:
                raise ScriptFails(f"{what}: {error}") from None

    async def _step(self, step: Json) -> None:
        if "client" in step:
            await self._command(step)
        elif "request" in step:
            await self._request(step)
        elif step["node"] == "accept":
            socket = await self._port.sockets.receive()
            self._match(step.get("handshake", {}), socket.form)
            if "refuse" in step:
                await socket.refuse(self._filled(step["refuse"]))
            else:
                await socket.accept()
                self._sockets[step.get("on", "")] = socket
        else:
            await self._on_socket(step, self._sockets[step.get("on", "")])

    async def _on_socket(self, step: Json, socket: Socket) -> None:
        match step["node"]:
            case "expect":
                self._match(step["message"], await socket.arrived.receive())
            case "send":
                await socket.send(self._filled(step["message"]), step.get("frames", 1))
            case "ping":
                await socket.ping(step["text"])
                self._match({"pong": step["text"]}, await socket.arrived.receive())
            case "bytes":
                await socket.raw(bytes.fromhex(step["hex"]))
            case "close":
                await socket.close(step["code"])
            case "cut":
                await socket.cut()
            case other:
                raise Differs(f"{other!r} is nothing that a node does")

    async def _request(self, step: Json) -> None:
        """Answer the first request that fits and whose client still waits; others wait for their own steps."""
        while True:
            for asked in [each for each in self._kept if not each.gone]:
                bound = dict(self._bound)
                try:
                    self._match(step["request"], asked.form)
                except Differs:
                    self._bound = bound
                    continue
                self._kept.remove(asked)
                asked.answer = self._filled(step["answer"])
                asked.answered.set()
                return
            self._kept.append(await self._port.asked.receive())

    async def _command(self, step: Json) -> None:
        if step["client"] == "await":
            self._check(step, await self._answers.pop(step["of"]).receive())
            return
        command = {name: item for name, item in step.items() if name not in OWN}
        command = {**command, "url": self._url} if step["client"] == "open" else command
        if "as" not in step:
            self._check(step, await self._ask(command))
            return
        put, self._answers[step["as"]] = trio.open_memory_channel[Json](1)

        async def later() -> None:
            await put.send(await self._ask(command))

        self._nursery.start_soon(later)

    def _check(self, step: Json, answer: Json) -> None:
        self._match(step.get("gives", {}), {"error": None, **answer})
        if "gives" not in step and answer.get("error") is not None:
            raise Differs(f"the client answers {answer}")
        age = answer.get("age")
        if ("below" in step and (age is None or age > step["below"])) or (
            "above" in step and age is not None and age < step["above"]
        ):
            raise Differs(f"the age is {age}")

    def _match(self, wanted: Any, found: Any, where: str = "") -> None:
        """Compare: all that is wanted has to be there, and more may be. Raises `Differs`."""
        if isinstance(wanted, str) and wanted.startswith("$"):
            if wanted not in self._bound:
                self._bound[wanted] = found
            wanted = self._bound[wanted]
        if isinstance(wanted, dict) and isinstance(found, dict) and "$digest" not in wanted:
            for name, item in wanted.items():
                self._match(item, found.get(name), f"{where}.{name}" if where else name)
        elif self._filled(wanted) != found:
            raise Differs(f"{where or 'it'} is {json.dumps(found)[:300]}")

    def _filled(self, form: Any) -> Any:
        """Fill in what is bound, the messages that the header has, and digests."""
        match form:
            case {"$digest": names}:
                return digest_text(digest_of(names))
            case {"$like": name, **changed}:
                return self._filled({**self._script.header["like"][name], **changed})
            case dict():
                return {name: self._filled(item) for name, item in form.items()}
            case list():
                return [self._filled(item) for item in form]
            case str() if form.startswith("$"):
                return self._bound[form]
        return form


OWN = ("as", "gives", "below", "above", "within_s", "of")
"""Fields of a client's step that are the player's."""


async def play(script: Trace, ask: Ask, *, address: str = "127.0.0.1", port: int = 0) -> None:
    """Play a script on a port of its own. Raises `ScriptFails`."""
    async with trio.open_nursery() as nursery:
        sockets = Port()
        listening = await nursery.start(sockets.serve, address, port)
        failure: ScriptFails | None = None
        try:
            await Player(script, sockets, f"ws://{address}:{listening}", ask, nursery).play()
        except ScriptFails as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def read_script(path: Path) -> Trace:
    """Read a script."""
    return Trace.of(path.read_text("utf-8"))
