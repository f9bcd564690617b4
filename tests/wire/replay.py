"""Replays the protocol's transcripts: a stranger's client that knows nothing but their steps, against a node in memory.

See `softstate/wire/examples/README.md` for what the steps mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cbor2
import h11
import trio

from softstate.client.shell.sockets import Gone, WebSocket
from softstate.client.shell.websocket import open_websocket
from softstate.client.url import parse_url
from softstate.testing.in_memory import HOST, PORT, MemoryNode
from softstate.wire import Codec
from tests.wire.example_files import expand, with_bytes, write

PATIENCE_S: Final = 30.0
"""Longest wait of a step, in virtual seconds, before the replay fails."""

QUIET_S: Final = 1.0
"""Virtual seconds for which a connection is read at the end: nothing but `position` may come."""

_NAME: Final = re.compile(r"\$([a-z][a-z0-9_]*+)(?!\*)")


def read(codec: Codec, data: bytes | str) -> Any:
    """Read a message without the codec under test."""
    return with_bytes(json.loads(data)) if codec.text else cbor2.loads(data)  # type: ignore[arg-type]


class Bindings:
    """The values bound to the names of a transcript."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def fill(self, item: Any) -> Any:
        """Replace names by what they stand for."""
        if isinstance(item, str):
            whole = _NAME.fullmatch(item)
            if whole is not None:
                return self.values[whole[1]]
            return expand(_NAME.sub(lambda name: str(self.values[name[1]]), item))
        if isinstance(item, list):
            return [self.fill(each) for each in item]
        if isinstance(item, dict):
            return {expand(key): self.fill(each) for key, each in item.items()}
        return item

    def match(self, expected: Any, found: Any, place: str) -> None:
        """Check what came against what a step lists, and bind the names that it meets first."""
        name = _NAME.fullmatch(expected) if isinstance(expected, str) else None
        if name is not None and name[1] not in self.values:
            self.values[name[1]] = found
        elif isinstance(expected, dict) and "$bytes" not in expected:
            assert isinstance(found, dict), f"{place}: {found!r} is no map"
            for key, each in expected.items():
                if each == "$absent":
                    assert key not in found, f"{place}.{key} must not be there: {found}"
                else:
                    assert key in found, f"{place}.{key} is missing: {found}"
                    self.match(each, found[key], f"{place}.{key}")
        elif isinstance(expected, list):
            assert isinstance(found, list), f"{place}: {found!r} is no list"
            assert len(found) == len(expected), f"{place}: {found}"
            for index, each in enumerate(expected):
                self.match(each, found[index], f"{place}[{index}]")
        else:
            wanted = with_bytes(self.fill(expected))
            assert (type(found), found) == (type(wanted), wanted), f"{place}: {found!r} instead of {wanted!r}"


@dataclass
class Reply:
    """An HTTP reply on its way: filled in once it is there."""

    done: trio.Event
    status: int = 0
    headers: dict[str, str] | None = None
    body: bytes = b""


class Replay:
    """One transcript on its way, in one codec."""

    def __init__(self, node: MemoryNode, nursery: trio.Nursery, codec: Codec) -> None:
        self._node = node
        self._network = node._network
        self._nursery = nursery
        self._codec = codec
        self.bound = Bindings()
        self.bound.values["codec"] = codec.name
        self._sockets: dict[str, WebSocket] = {}
        self._waiting: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, Reply] = {}
        self._backup = node.disk.snapshot()
        self._store: dict[str, Callable[[], None]] = {
            "backup": self._back_up,
            "restore": lambda: node.disk.restore(self._backup),
            "down": lambda: self._cut_off(True),
            "up": lambda: self._cut_off(False),
        }

    def _back_up(self) -> None:
        self._backup = self._node.disk.snapshot()

    def _cut_off(self, outage: bool) -> None:
        self._node.disk.outage = outage

    async def run(self, steps: list[dict[str, Any]]) -> None:
        """Take every step, then make sure that nothing was said that no step lists."""
        for number, step in enumerate(steps, 1):
            try:
                with trio.fail_after(PATIENCE_S + step.get("wait_ms", 0) / 1000):
                    await self._step(step)
            except (AssertionError, Gone, KeyError, trio.TooSlowError) as error:
                raise AssertionError(f"step {number}, {step}: {error!r}") from error
        for name in self._sockets:
            with trio.move_on_after(QUIET_S):
                message = await self._receive(name, "")
                raise AssertionError(f"{name} was told more: {message}")

    async def _step(self, step: dict[str, Any]) -> None:
        match step:
            case {"client": name, "connects": True}:
                opener = self._network.opener(name)
                url = parse_url(self._node.url)
                self._sockets[name] = await open_websocket(self._nursery, url, self._codec, opener, PATIENCE_S)
            case {"client": name, "sends": message}:
                data = write(self._codec, with_bytes(self.bound.fill(message)))
                await self._sockets[name].send(data.decode() if self._codec.text else data)
            case {"client": name, "vanishes": True}:
                del self._sockets[name]
                self._network.reset(name, HOST)
            case {"client": name, "reads": False}:
                self._network.not_reading[name] = None
            case {"client": name, "reads": True}:
                self._network.resume_reading(name)
            case {"node": name, "sends": expected}:
                self.bound.match(expected, await self._receive(name, expected["op"]), "message")
            case {"node": name, "skips": op}:
                await self._skip(name, op)
            case {"node": name, "closes": code}:
                await self._closed(name, code)
            case {"http": name, "asks": request}:
                self._ask(name, request)
            case {"http": name, "gets": expected}:
                await self._reply(name, expected)
            case {"wait_ms": duration_ms}:
                await trio.sleep(duration_ms / 1000)
            case {"store": operation}:
                self._store[operation]()
            case _:
                raise AssertionError("there is no such step")

    # WebSocket -------------------------------------------------------------------------------------------------------

    async def _receive(self, name: str, op: str) -> dict[str, Any]:
        while True:
            if name in self._waiting:
                return self._waiting.pop(name)
            message: dict[str, Any] = read(self._codec, await self._sockets[name].receive())
            if message["op"] != "position" or op == "position":
                return message

    async def _skip(self, name: str, op: str) -> None:
        message = await self._receive(name, op)
        while message["op"] == op:
            message = await self._receive(name, op)
        self._waiting[name] = message

    async def _closed(self, name: str, code: int) -> None:
        try:
            message = await self._receive(name, "")
        except Gone as gone:
            found = gone.code
        else:
            raise AssertionError(f"not closed: {message}")
        assert found == code, f"closed with {found}"
        del self._sockets[name]

    # HTTP ------------------------------------------------------------------------------------------------------------

    def _ask(self, name: str, request: dict[str, Any]) -> None:
        request = self.bound.fill(request)
        body = write(self._codec, with_bytes(request["body"])) if "body" in request else b""
        headers = {"Host": f"{HOST}:{PORT}", "Content-Length": str(len(body)), **request.get("headers", {})}
        if not self._codec.text:
            headers |= {"Accept": self._codec.content_type, "Content-Type": self._codec.content_type}
        head = h11.Request(method=request["method"], target=request["path"], headers=list(headers.items()))
        reply = self._replies[name] = Reply(trio.Event())
        self._nursery.start_soon(self._exchange, head, body, reply)

    async def _exchange(self, head: h11.Request, body: bytes, reply: Reply) -> None:
        http = h11.Connection(h11.CLIENT)
        stream = await self._network.open_stream("http", HOST, PORT)
        async with stream:
            data = [http.send(head), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())]
            await stream.send_all(b"".join(part or b"" for part in data))
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Response):
                    reply.status = event.status_code
                    reply.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    reply.body += bytes(event.data)
        reply.done.set()

    async def _reply(self, name: str, expected: dict[str, Any]) -> None:
        reply = self._replies[name]
        await reply.done.wait()
        self.bound.match(expected["status"], reply.status, "status")
        headers = {key.lower(): each for key, each in expected.get("headers", {}).items()}
        self.bound.match(headers, reply.headers, "headers")
        if "body" in expected:
            self.bound.match(expected["body"], read(self._codec, reply.body), "body")
