"""A bug at each door and in each task of a real node ends one connection or request at most (S18).

`DOORS` is the list: a fault is injected at a place, and what should come of it. `TASKS` names the doors of every task
that a node starts, or why it has none; a task that is missing there fails a test.
"""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import structlog.testing
import trio

import softstate
from softstate import Change
from softstate.cli.exit_codes import exit_code_of
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.shell.clock import TrioClock
from softstate.errors import NodeFailed
from softstate.lease import LeaseTable
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.patience import Patience
from softstate.server.fanout.outbox import Outbox
from softstate.server.fanout.recent_changes import RecentChanges
from softstate.server.fanout.turns import Turns
from softstate.server.http import peer as http_peer, topic_routes
from softstate.server.http.begun_poll import BegunPoll
from softstate.server.http.channel import HttpChannel
from softstate.server.http.message import Request
from softstate.server.http.peer import HttpPeer
from softstate.server.http.server import HttpServer
from softstate.server.measure.client_reports import ClientReports
from softstate.server.storage.batcher import Batcher
from softstate.server.storage.follower import StoreFollower
from softstate.server.storage.heads import HeadReads
from softstate.server.storage.housekeeping import Housekeeping
from softstate.server.websocket.beats import Beats
from softstate.server.websocket.channel import Channel
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.publishes import Publishes
from softstate.store import MemoryDisk, MemoryStore
from softstate.store.base import Write
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.stream import SimListener
from softstate.wire.websocket import FrameReader

ROOT = Path(softstate.__file__).parent / "server"

URL = "ws://localhost:80"
CONFIG = ServerConfig(ttl_ms=2_000, timeout_ms=1_000, poll_every_ms=50, recover_base_ms=20, recover_cap_ms=200)


class Rig:
    """A node in memory that is not strict, as in production."""

    def __init__(self, config: ServerConfig) -> None:
        self.network = SimNetwork(Random("network"))
        self.bulkhead = Bulkhead(strict=False)
        self.store = MemoryStore(MemoryDisk(Random("disk")))
        position = self.store.disk.image.position
        self.node = Node(config, self.store, position, jitter=Random("node"), bulkhead=self.bulkhead)
        self.ended: BaseException | None = None

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self.node.run([self.network.listen("localhost", 80)], started=task_status.started)
        except NodeFailed as error:
            self.ended = error

    @asynccontextmanager
    async def client(self, host: str, **options: Any) -> AsyncIterator[Client]:
        opener = self.network.opener(host)
        async with connect(URL, open_stream=opener, random=Random(host), clock=TrioClock(), **options) as client:
            yield client

    async def get(self, path: str, method: str = "GET", body: str = "") -> tuple[int, Any]:
        """Make one request, with a connection of its own; 0 is the status of a connection that was closed."""
        stream = await self.network.open_stream("curl", "localhost", 80)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        data = b""
        try:
            await stream.send_all((head + body).encode())
            while received := await stream.receive_some():
                data += received
        except trio.BrokenResourceError:
            pass
        await stream.aclose()
        if not data:
            return 0, None
        head_text, _, body_text = data.decode().partition("\r\n\r\n")
        return int(head_text.split()[1]), json.loads(body_text) if body_text.startswith("{") else body_text

    def connection_of(self, name: str) -> Connection:
        (found,) = (each for each in self.node.sockets if each.machine.name == name)
        return found


@pytest.fixture(autouse=True)
def _bugs_are_not_printed() -> Generator[None]:
    """Keep log lines in memory: to print the traceback of each bug, with all variables, takes half of a test's time."""
    with structlog.testing.capture_logs():
        yield


@asynccontextmanager
async def running(config: ServerConfig = CONFIG) -> AsyncIterator[Rig]:
    rig = Rig(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.network.run)
        await nursery.start(rig.run)
        yield rig
        nursery.cancel_scope.cancel()


Act = Callable[[Rig, Client], Any]
"""Makes the fault happen; is given the rig, and a client to whom it may happen."""


class Door(NamedTuple):
    """A method that raises once, and what reaches it."""

    owner: Any
    method: str
    act: Act
    status: int | None = None
    """The status of the answer that `act` gets, if it makes a request."""
    code: int | None = None
    """The code that the victim's connection is closed with: only there does the method raise."""


async def publish(_rig: Rig, victim: Client) -> None:
    await victim.publish("v/1", 1)


async def wait(_rig: Rig, _victim: Client) -> None:
    await trio.sleep(61)


async def beat(rig: Rig, _victim: Client) -> None:
    rig.node.beats.set(rig.connection_of("victim"), 1_000)  # its lease is too short to be granted any
    await trio.sleep(2)


async def renew(_rig: Rig, _victim: Client) -> None:
    await trio.sleep(3)


async def row(rig: Rig, _victim: Client) -> None:
    await MemoryStore(rig.store.disk).aclose()
    await trio.sleep(0.1)


async def stuck(rig: Rig, victim: Client) -> None:
    await victim.publish("v/1", 1)
    await trio.sleep(5)


async def congest(rig: Rig, victim: Client) -> None:
    connection = rig.connection_of("victim")
    assert connection.outbox is not None
    connection.outbox._congest()
    await trio.sleep(0.1)


async def idle(_rig: Rig, _victim: Client) -> None:
    await trio.sleep(20)


async def again(rig: Rig, _victim: Client) -> None:
    async with rig.client("third") as client:
        await client.publish("v/2", 2)


async def poll_names(rig: Rig, victim: Client) -> None:
    async with victim.subscribe("v/", "more/") as updates:
        await updates.synced()


async def many(_rig: Rig, victim: Client) -> None:
    async with victim.subscribe(*(f"many/{number}" for number in range(2_000))) as updates:
        await updates.synced()


async def drain(rig: Rig, _victim: Client) -> None:
    await rig.node.drain()
    await trio.sleep(0.5)


async def silent(rig: Rig, _victim: Client) -> None:
    stream = await rig.network.open_stream("curl", "localhost", 80)
    await trio.sleep(20)
    await stream.aclose()


def request(path: str, method: str = "GET", body: str = "") -> Act:
    async def act(rig: Rig, _victim: Client) -> int:
        status, answer = await rig.get(path, method, body)
        if status >= 500:
            assert "this node met an error of its own" in answer["message"]
        return status

    return act


DOORS: dict[str, Door] = {
    # HTTP, at each step of a request
    "head": Door(Request, "of", request("/v1/status"), status=500),
    "route": Door(http_peer, "find", request("/v1/status"), status=500),
    "handler": Door(Node, "metrics", request("/metrics"), status=500),
    "async handler": Door(Node, "status", request("/v1/status"), status=500),
    "body": Door(HttpPeer, "_take_body", request("/v1/poll", "POST", "{}"), status=500),
    "stream": Door(http_peer, "begin_stream", request("/v1/events?topic=a"), status=500),
    "held poll": Door(BegunPoll, "late", request("/v1/poll", "POST", '{"topics":{"x":0},"wait_ms":1000}'), status=500),
    "held": Door(HttpChannel, "hang_up", request("/v1/topics/none?wait_ms=1000"), status=500),
    "reply": Door(HttpPeer, "_send", request("/healthz"), status=500),
    "written": Door(HttpChannel, "_replied", request("/healthz"), status=200),
    "task of a request": Door(http_peer, "answer", request("/v1/status"), status=500),
    "value": Door(topic_routes, "checked_value", request("/v1/topics/v", "PUT", "1"), status=500),
    "answer to a write": Door(topic_routes, "_published", request("/v1/topics/v", "PUT", "1"), status=500),
    "read": Door(MemoryStore, "read", request("/v1/topics"), status=500),
    "lineage": Door(MemoryStore, "lineage_at", request("/v1/topics/here"), status=500),
    "commit": Door(MemoryStore, "publish", request("/v1/topics/v", "PUT", "1"), status=500),
    "connection": Door(HttpServer, "open", request("/healthz"), status=0),
    "first read": Door(HttpChannel, "readable", request("/healthz"), status=500),
    "received": Door(HttpChannel, "_read", request("/healthz"), status=500),
    "admission": Door(HttpPeer, "admitted", request("/v1/topics"), status=500),
    "time of http": Door(HttpChannel, "_time_out", silent),
    "accept": Door(SimListener, "accept", again),
    # WebSocket
    "handshake": Door(Connection, "__init__", again),
    "answer to a handshake": Door(Connection, "begin", again),
    "welcome": Door(Connection, "_read", again),
    "message": Door(Connection, "_read", publish, code=1011),
    "first bytes": Door(FrameReader, "feed", again),
    "bytes": Door(Channel, "readable", publish, code=1011),
    "request": Door(Connection, "carry_out", publish, code=1011),
    "answer": Door(Publishes, "_published", publish, code=1011),
    "certificate": Door(Connection, "_caught_up", renew, code=1011),
    "push": Door(Connection, "offer", publish, code=1011),
    "row": Door(Connection, "moved", row, code=1011),
    "flush": Door(Outbox, "flush", publish, code=1011),
    "beat": Door(Connection, "beat", beat, code=1011),
    "congested": Door(Outbox, "writable", congest, code=1011),
    "late": Door(Channel, "late", idle, code=1011),
    "patience": Door(Patience, "_run_once", idle),
    "portion": Door(Connection, "_turn_begun", many, code=1011),
    "page": Door(Connection, "_answered", poll_names, code=1011),
    "bye": Door(Connection, "drain", drain),
    # Tasks of the node
    "batch": Door(Batcher, "_serve", publish),
    "stuck": Door(Batcher, "_detect_stuck_call", stuck),
    "turns": Door(Turns, "_begin_turn", many),
    "head of the store": Door(MemoryStore, "head", renew),
    "late renewals": Door(HeadReads, "_settle_first_late", renew),
    "feed": Door(MemoryStore, "feed", row),
    "follow": Door(StoreFollower, "_follow_once", row),
    "beats": Door(Beats, "beat", beat),
    "upkeep": Door(MemoryStore, "compact", wait),
    "warnings": Door(Housekeeping, "log_warnings", wait),
    "expiry": Door(LeaseTable, "expire", wait),
    "sweep": Door(Node, "_sweep_once", wait),
    "ages": Door(ClientReports, "sample", wait),
    "winding down": Door(HttpServer, "drain", drain),
}

TASKS: dict[str, tuple[str, ...] | str] = {
    "fanout/turns.py self._refill": ("turns",),
    "edge/stream_wire.py self._tell_writable": ("congested",),
    "edge/stream_wire.py self._tell_again": ("bytes",),
    "node.py self.numbers.run": ("ages",),
    "node.py self.siblings.run": "needs workers: tests/server/test_siblings.py",
    "siblings.py ask": "of a scrape, by this worker",
    "node.py self.patience.run": ("late", "patience"),
    "edge/stream_wire.py task": ("task of a request", "async handler"),
    "edge/tls.py task": ("task of a request", "async handler"),
    "edge/pump.py task": ("task of a request", "async handler"),
    "http/peer.py self._answer_later": ("task of a request", "async handler"),
    "http/peer.py self._stream_later": ("stream",),
    "edge/pump.py partial(_sleep, after_s, call)": "sleeps, and has sockets listened to again",
    "node.py self.pump.run": "feeds real sockets only: tests/server/edge/test_pump.py, test_acceptor.py",
    "storage/access.py batcher.run": ("read", "lineage", "batch"),
    "storage/access.py self.heads.run": ("head of the store",),
    "storage/access.py self.writes.batcher.run": ("commit", "batch"),
    "storage/access.py self.follower.follow": ("feed", "follow"),
    "storage/access.py self._housekeeping.run": ("upkeep", "warnings"),
    "storage/batcher.py self._detect_stuck_calls": ("stuck",),
    "storage/heads.py self._settle_late": ("late renewals",),
    "http/context.py self._end_when_gone": ("held",),
    "websocket/connection.py self._reach": ("page",),
    "listeners.py serve": ("connection",),
    "node.py self.beats.run": ("beat", "beats"),
    "node.py self.memory.run": "needs memory_max: tests/server/memory/test_watch.py",
    "node.py self.warden.judge": "needs rules: tests/server/auth/test_warden_judging.py",
    "node.py self.warden.forget": "needs rules: tests/server/auth/test_warden.py",
    "node.py forget_tickets": "needs rules: tests/server/events/test_tickets.py",
    "node.py self._end_at_once": "waits for the bulkhead, and cancels",
    "node.py accept_all": ("accept",),
    "node.py self._sweep": ("expiry", "sweep"),
    "serving.py certificate.run": "needs a certificate: tests/server/test_certificates.py",
    "serving.py keeper.run": "needs a policy file: tests/server/auth/test_keeper.py",
    "auth/keeper.py self._fetch": "the same",
    "auth/keeper.py self._look": "the same",
    "auth/keeper.py self._callout.run": "needs a callout: tests/server/auth/test_callout.py",
    "auth/callout.py self._ask": "the same",
    "auth/callout.py self._ask_names": "the same",
    "auth/once.py partial(_fetch, issuer, found)": "of commands, which run no node",
}


def test_every_task_of_a_node_has_a_door() -> None:
    started = set()
    for path in sorted(ROOT.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                if call.func.attr in ("start_soon", "spawn_system_task") or ast.unparse(call.func) == "nursery.start":
                    started.add(f"{path.relative_to(ROOT)} {ast.unparse(call.args[0])}")
                assert call.func.attr != "serve_listeners"
    assert started == TASKS.keys()
    doors = {door for task in TASKS.values() if isinstance(task, tuple) for door in task}
    assert doors <= DOORS.keys()


ERRORS: list[Exception] = [
    ZeroDivisionError("injected"), MemoryError("injected"), RecursionError("injected"), KeyError("injected"),
    ExceptionGroup("injected", [AssertionError("injected"), TypeError("injected")]), StopIteration("injected"),
]  # fmt: skip


def break_once(patch: pytest.MonkeyPatch, door: Door, error: Exception, *objects: object) -> list[int]:
    """Make a method raise, the next time that it is called, of one of the `objects` if there are any.

    Returns the list of such calls since.
    """
    calls: list[int] = []
    original = vars(door.owner)[door.method]
    plain = original.__func__ if isinstance(original, classmethod | staticmethod) else original

    def broken(*args: Any, **kwargs: Any) -> Any:
        if not objects or args[0] in objects:
            calls.append(1)
            if len(calls) == 1:
                raise error
        return plain(*args, **kwargs)

    patch.setattr(door.owner, door.method, classmethod(broken) if isinstance(original, classmethod) else broken)
    return calls


@pytest.mark.parametrize("error", ERRORS[:1], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", DOORS)
async def test_a_bug_at_a_door_ends_one_connection_or_request_at_most(
    name: str, error: Exception, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check(DOORS[name], error, monkeypatch)


@pytest.mark.parametrize("error", ERRORS[1:], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["handler", "read", "message", "push", "feed", "upkeep"])
async def test_whatever_the_bug_is(
    name: str, error: Exception, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check(DOORS[name], error, monkeypatch)


async def check(door: Door, error: Exception, patch: pytest.MonkeyPatch) -> None:
    """Let a door break while two clients follow the node: one that it may happen to, and an innocent one."""
    codes: list[int] = []
    close = Connection._close

    def closing(self: Connection, code: int, reason: str) -> None:
        codes.append(code)
        close(self, code, reason)

    patch.setattr(Connection, "_close", closing)
    with structlog.testing.capture_logs() as logs:
        async with running() as rig, rig.client("innocent", name="innocent") as innocent:
            async with innocent.subscribe("w/") as updates:
                await innocent.publish("here", 0)
                await updates.synced()
                async with rig.client("victim", name="victim") as victim, victim.subscribe("v/", "w/") as its_updates:
                    await its_updates.synced()
                    await victim.publish("v/0", 0)
                    await trio.sleep(0.1)
                    bystander = rig.connection_of("innocent")
                    draining = door.act is drain
                    own = rig.connection_of("victim")
                    objects = (own, own.outbox, own._publishes) if door.code is not None else ()
                    calls = break_once(patch, door, error, *objects)
                    status = await door.act(rig, victim)
                    assert calls, "the door was not reached"
                    assert rig.bulkhead.bugs >= 1
                    if door.status is not None:
                        assert status == door.status
                    if draining:
                        return
                    # All others were left alone, and all is well again.
                    await trio.sleep(5)
                    assert rig.ended is None
                    if door.code is not None:
                        assert codes == [door.code]
                        assert bystander in rig.node.sockets
                        assert own not in rig.node.sockets
                    await again(rig, victim)
                    version = await victim.publish("w/1", "after")
                    for each in (updates, its_updates):
                        async for change in each:
                            if change.topic == "w/1":
                                assert change == Change("w/1", version, "after")
                                break
                    assert (await rig.get("/readyz"))[0] == 200
                    assert (innocent.mode, victim.mode) == ("live", "live")
                    assert f"softstate_bugs_total {rig.bulkhead.bugs}.0" in (await rig.get("/metrics"))[1]
    assert any(line["event"] == "bug" and line.get("exc_info") is not None for line in logs)


# The end of the node -------------------------------------------------------------------------------------------------


async def test_a_hub_that_fails_twice_ends_the_node_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: RecentChanges, _topic: str, _version: int) -> None:
        raise ZeroDivisionError

    async with running() as rig, rig.client("victim", name="victim") as victim:
        async with victim.subscribe("v/") as updates:
            await updates.synced()
            before = rig.node.hub.position
            monkeypatch.setattr(RecentChanges, "note", broken)
            await MemoryStore(rig.store.disk).aclose()
            await trio.sleep(1)
            await rig.store.publish([Write("v/1", b"\x01")])
            await trio.sleep(1)
            assert isinstance(rig.ended, NodeFailed)
            assert "its hub failed twice" in str(rig.ended)
            assert rig.node.hub.position.revision <= before.revision + 1, "a lineage row alone has passed"
            assert exit_code_of(rig.ended) == 70


async def test_too_many_bugs_within_a_minute_drain_the_node(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "metrics", lambda _self: 1 / 0)
    async with running(replace(CONFIG, bugs_per_minute_max=3)) as rig, rig.client("innocent") as innocent:
        async with innocent.subscribe("w/") as updates:
            await updates.synced()
            for number in range(4):
                assert (await rig.get("/metrics"))[0] == 500
                assert rig.node.draining == (number == 3)
            await trio.sleep(CONFIG.drain_s + 1)
            assert isinstance(rig.ended, NodeFailed)
            assert "more than 3 bugs within a minute (bugs_per_minute_max)" in str(rig.ended)


async def test_bugs_that_come_slowly_drain_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "metrics", lambda _self: 1 / 0)
    async with running(replace(CONFIG, bugs_per_minute_max=3)) as rig:
        for _ in range(10):
            assert (await rig.get("/metrics"))[0] == 500
            await trio.sleep(25)
        assert not rig.node.draining
