"""Target: the client machine, fed with any messages that a codec accepts, in any order.

An input is a script of one event a line: a server message in JSON (an `id` of ``?`` stands for that of the newest
request), or a word and its argument. So a failing input is readable, and is still a script when lines are removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from bench.trials.fuzz.mutation import ODD_JSON, as_json, damage, draw, mutate
from bench.trials.fuzz.target import Broken, Target
from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Closed,
    Connect,
    Connected,
    ConnectFailed,
    Deliver,
    Disconnect,
    Event,
    Jumped,
    Lost,
    Opened,
    PollAnswered,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
    Ticked,
    Unwanted,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.errors import ERRORS_BY_CODE, RequestError
from softstate.wire import CBOR, JSON
from softstate.wire.messages import BatchResult, Polled, Renewed, ServerMessage, Subscribed, Welcome

URLS = ("ws://one:1", "ws://two:2")
TICKS_PER_S_MAX = 200
"""Wake-ups that a machine may request in a second."""

WAIT_S_MAX = 600.0
NAMES = ("a", "b/c", "b/", "/", "orders/42")
WORDS = ("connected", "refused", "lost", "failed", "jump", "want", "unwant", "publish", "wait", "wait", "wait")


class _World:
    """A machine, its clock, and the ids of its newest requests."""

    def __init__(self) -> None:
        self.machine = Machine(MachineOptions(URLS), Random(0))
        self.now = 1_000.0
        self.conn = 0
        self.request = 0
        self.batch = 0
        self.size = 0
        self.id: int | str = 0
        self.tickets = 0

    def do(self, event: Event) -> None:
        for action in self.machine.handle(event, self.now):
            self._take(action)

    def _take(self, action: Action) -> None:
        match action:
            case Connect():
                self.conn = action.conn
            case Send(message=message):
                self.id = getattr(message, "id", self.id)
                for codec in (CBOR, JSON):
                    codec.client_message(codec.encode(message))
            case SendPoll():
                self.request = action.request
                CBOR.dumps(action.message)
            case SendPublish():
                self.batch, self.size = action.request, len(action.changes)
            case Deliver(changes=changes):
                for change in changes:
                    if not any(name in ("/", change.topic) or change.topic.startswith(name) for name in NAMES):
                        raise Broken(f"delivered a change of an unsubscribed topic: {change}")
            case Disconnect() | Abandon():
                pass

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises `Broken` if the machine requests too many ticks."""
        end, ticks = self.now + seconds, 0
        while (due := self.machine.deadline()) <= end:
            ticks += 1
            if ticks > 100 + TICKS_PER_S_MAX * seconds:
                raise Broken(f"{ticks} ticks in {seconds:g} s: {self.machine.mode}, due {due - self.now:g} s from now")
            self.now = max(self.now, due)
            self.do(Ticked())
        if math.isnan(due):
            raise Broken("the deadline is not a number")
        self.now = end


def _number(text: str, most: int) -> int:
    return min(int(text[:6]), most) if text[:6].isascii() and text[:6].isdigit() else 0


def _name(text: str) -> str:
    return NAMES[_number(text, len(NAMES) - 1)]


def _publish(world: _World, text: str) -> Event:
    world.tickets += 1
    return PublishRequested(world.tickets, _name(text).rstrip("/") or "a", 1, False, None, f"k{world.tickets}")


def _error(text: str) -> RequestError | None:
    kinds: Sequence[type[RequestError]] = list(ERRORS_BY_CODE.values())
    number = _number(text, 99)
    return kinds[number]("no", retry_ms=number) if number < len(kinds) else None


_EVENTS: Mapping[str, Callable[[_World, str], Event]] = {
    "connected": lambda world, _: Connected(world.conn),
    "refused": lambda world, text: ConnectFailed(world.conn, "no", _number(text, 999) or None),
    "lost": lambda world, text: Lost(world.conn, _number(text, 9999) or None, "gone"),
    "failed": lambda world, text: RequestFailed(max(world.request, world.batch), "no", _error(text)),
    "jump": lambda _, __: Jumped(),
    "want": lambda _, text: Wanted([_name(text)]),
    "unwant": lambda _, text: Unwanted([_name(text)]),
    "publish": _publish,
    "close": lambda _, __: Closed(),
    "open": lambda _, __: Opened(),
}


class MachineTarget(Target):
    """The sans-I/O client."""

    name = "machine"

    def make(self, random: Random) -> bytes:
        """Take a client through some steps of a normal start, then send it any messages and events."""
        lines = [b"want 0", b"want 2", b"connected", _line(Welcome, random), _line(Subscribed, random)]
        lines = lines[: random.randrange(len(lines) + 1)]
        for _ in range(random.randrange(30)):
            if random.random() < 0.5:
                lines.append(
                    f"{random.choice(WORDS)} {random.choice([0, 1, 3, 20, 404, 503, 1000, 4001, 4200])}".encode()
                )
            else:
                lines.append(_line(random.choice([ServerMessage, Subscribed, Renewed, Polled, BatchResult]), random))
        return b"\n".join(lines)

    async def check(self, data: bytes) -> str:
        """Run the script: the machine must not raise or spin, and may only send messages that decode."""
        world = _World()
        world.do(Opened())
        for line in data.split(b"\n"):
            _run_line(world, line)
        world.wait(60.0)
        world.do(Closed())
        if world.machine.mode not in ("closed", "stopped") or world.machine.deadline() != math.inf:
            raise Broken(f"the machine is {world.machine.mode} after it was closed")
        return world.machine.mode


def _line(kind: Any, random: Random) -> bytes:
    tree = draw(kind, random)
    for key in ("position", "topic"):
        if isinstance(tree.get(key), dict):
            tree[key] = {"epoch": "e", "lineage": random.choice(["l", "l", "m"]), "revision": random.randrange(50)}
        elif isinstance(tree.get(key), str):
            tree[key] = random.choice(NAMES[:2])
    if random.random() < 0.9:
        tree["id"] = "?"
    if random.random() < 0.4:
        tree = mutate(tree, random, ODD_JSON)
    line = as_json(tree)
    return damage(line, random).replace(b"\n", b"") if random.random() < 0.05 else line


def _run_line(world: _World, line: bytes) -> None:
    word, _, argument = line.decode("latin-1").partition(" ")
    if word in _EVENTS:
        event = _EVENTS[word](world, argument)
        if not (isinstance(event, Wanted) and _held(world, event.names[0])):
            world.do(event)
        return
    if word == "wait":
        world.wait(_number(argument, int(WAIT_S_MAX)))
        return
    _receive(world, line)


def _held(world: _World, name: str) -> bool:
    return name in world.machine._knowledge.subscriptions  # noqa: SLF001 - `Wanted` must not name a held name


def _receive(world: _World, line: bytes) -> None:
    try:
        message = JSON.server_message(line)
    except RequestError:
        try:
            results = [JSON.loads(line, BatchResult)] * world.size
        except RequestError:
            return
        world.do(PublishAnswered(world.batch, results))
        return
    if getattr(message, "id", None) == "?":
        message = msgspec.structs.replace(message, id=world.id)
    world.do(Arrived(world.conn, message))
    if isinstance(message, Polled):
        world.do(PollAnswered(world.request, message))
