"""A simulated world: real nodes and real clients in one process, on virtual time; everything else is simulated.

::

    async def scenario(world: World) -> None:
        alice = await world.client("alice", "orders/")
        bob = await world.client("bob")
        bob.publish("orders/1", "new")
        await world.sleep(1)
        world.faults.crash("n1")
        await world.sleep(60)
        assert alice.known()["orders/1"].value == "new"

    world = run_world(seed=1, scenario=scenario)
    print(world.trace.digest())          # the same in every run of this seed

The product runs unchanged: `softstate.connect`, `Node`, and everything below them. The network, the disk and clocks are
simulated, and so is the instant at which a process ends or stands still. Threads and TLS are *not* simulated, nor is a
monotonic clock that stands still while a client's host sleeps (its tasks stand still, and its timers are late).

(Deterministic simulation of a whole distributed system in one thread: Zhou et al., "FoundationDB: A Distributed
Unbundled Transactional Key Value Store", SIGMOD 2021, section 4.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from softstate.client.machine.state import BEAT_MS
from softstate.model import Durability
from softstate.server import ServerConfig
from softstate.testing.network.capacity import Capacity
from softstate.testing.network.frame_tap import Frame
from softstate.testing.network.http_tap import HttpTap
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.proxy import PROXY_NAME
from softstate.testing.network.route import Route
from softstate.testing.simulation.callout import HOST as BESIDE, SimCallout
from softstate.testing.simulation.client import SimClient
from softstate.testing.simulation.determinism import Seeds, captured_logs, deterministic_scheduling
from softstate.testing.simulation.disk import LOSES_UNSYNCED, SimDisk
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.faults import Faults
from softstate.testing.simulation.freezer import Freezer
from softstate.testing.simulation.issuer import TOKEN_S, SimIssuer
from softstate.testing.simulation.listener import StreamListener
from softstate.testing.simulation.node import SimNode
from softstate.testing.simulation.signed_issuer import RULES_S, SignedIssuer
from softstate.testing.trace import MessageWritten, Trace

LIMIT_S = 24 * 3_600.0
"""Default limit of a scenario, in virtual seconds."""

LOOK_S = 0.01
"""Interval of the checks of `World.until`, in virtual seconds."""


class ScenarioTimeout(AssertionError):
    """A scenario, or a wait in it, exceeded its limit in virtual time."""


@final
class World:
    """One run of a scenario. `run_world` makes it; the scenario uses it, and its `trace` can be read afterwards."""

    def __init__(
        self,
        seed: int,
        nursery: trio.Nursery,
        freezer: Freezer,
        *,
        nodes: int = 2,
        config: ServerConfig | None = None,
        durability: Durability = Durability.DURABLE,
        sync_every_s: float = 1.0,
        sample_every_s: float = 1.0,
        record_messages: bool = False,
        capacity: Capacity | None = None,
        token_s: float | None = None,
        callout: bool | Literal["names"] = False,
        policy_folder: Path | None = None,
    ) -> None:
        self.seed = seed
        self.seeds = Seeds(seed)
        self.trace = Trace()
        self.nursery = nursery
        self.freezer = freezer
        on_frame = self._record if record_messages else None
        self.network = SimNetwork(self.seeds.random("network"), on_frame=on_frame)
        self.disk = SimDisk(self.seeds.random("disk"), self.trace.add, durability)
        self.issuer = self._issuer(token_s, policy_folder)
        self.callout = SimCallout(self.network, self.trace, asks_names=callout == "names") if callout else None
        self._environment = Environment(
            self.seeds, self.trace, nursery, freezer, self.network, self.disk, self.issuer, self.callout
        )
        self.clients: dict[str, SimClient] = {}
        self.listeners: dict[str, StreamListener] = {}
        self.nodes: dict[str, SimNode] = {}
        config = config or ServerConfig()
        names = [f"n{number}" for number in range(1, nodes + 1)]
        config = replace(config, allow_host=(*config.allow_host, *names, PROXY_NAME))
        for name in names:
            self.nodes[name] = SimNode(self._environment, name, config)
            if capacity is not None:
                self.network.limit(name, capacity)
        self.faults = Faults(self._environment, self.nodes, self.clients)
        self._http: dict[tuple[int, str], HttpTap] = {}
        self._sync_every_s = sync_every_s
        self._sample_every_s = sample_every_s

    def _issuer(self, token_s: float | None, policy_folder: Path | None) -> SimIssuer | SignedIssuer | None:
        if policy_folder is not None:
            return SignedIssuer(self.network, self.trace, policy_folder, token_s or TOKEN_S)
        return None if token_s is None else SimIssuer(self.trace, token_s)

    async def start(self) -> None:
        """Start the network and every node. `run_world` does."""
        self.nursery.start_soon(self.network.run)
        self.nursery.start_soon(self._thaw_at_end)
        if self.callout is not None:
            self.nursery.start_soon(self.callout.run)
        if isinstance(self.issuer, SignedIssuer):
            self.nursery.start_soon(self.issuer.run)
        if self.disk.durability in LOSES_UNSYNCED:
            self.nursery.start_soon(self._sync)
        if self._sample_every_s < math.inf:
            self.nursery.start_soon(self._sample)
        for place in self.nodes.values():
            await place.start()

    async def client(
        self,
        name: str,
        *names: str,
        nodes: Sequence[str] | None = None,
        urls: Sequence[str] = (),
        push: bool = True,
        codec: Literal["cbor", "json"] = "cbor",
        ttl_ms: int | None = None,
        beat_ms: int | None = BEAT_MS,
        allowed: Sequence[str] | None = None,
        subject: str | None = None,
    ) -> SimClient:
        """Start a client that follows `names`, on a host of its own.

        It knows `urls` (of a proxy, for example) or else `nodes`, in order; by default all nodes. The other arguments
        are those of `softstate.connect`. Where nodes check credentials, it may do what `allowed` covers, by default
        `names`; its tokens are a `subject`'s, by default its own.
        """
        assert name not in self.clients, f"the world has a client {name} already"
        assert name not in self.nodes, f"{name} is a node"
        urls = urls or [self.nodes[node].url for node in (nodes or self.nodes)]
        options: dict[str, Any] = {"push": push, "codec": codec, "ttl_ms": ttl_ms, "beat_ms": beat_ms}
        if self.issuer is not None:
            for whose in {name: None, subject or name: None}:  # the oracle looks for the rights of the receiver
                self.issuer.allow(whose, *(names if allowed is None else allowed))
            options["token"] = self.issuer.provider(subject or name)
            if isinstance(self.issuer, SignedIssuer):
                await trio.sleep(RULES_S)  # else its names would be denied before nodes have read that it may have them
        elif self.callout is not None:
            self.callout.allow(name, *(names if allowed is None else allowed))
            options["token"] = self.callout.provider(name)
        client = self.clients[name] = SimClient(self._environment, name, names, urls, options)
        client.start()
        await wait_all_tasks_blocked()
        return client

    async def listener(
        self, name: str, *names: str, nodes: Sequence[str] | None = None, urls: Sequence[str] = ()
    ) -> StreamListener:
        """Start a client of streams that follows `names`, on a host of its own; as in `client`."""
        assert name not in self.listeners, f"the world has a listener {name} already"
        urls = urls or [self.nodes[node].url for node in (nodes or self.nodes)]
        listener = self.listeners[name] = StreamListener(self._environment, name, names, urls)
        listener.start()
        await wait_all_tasks_blocked()
        return listener

    # Time ------------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The true time, in virtual seconds since the world began."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await trio.sleep(seconds)

    async def until(self, check: Callable[[], bool], within_s: float = 600.0) -> None:
        """Wait until a check returns True. Raises `ScenarioTimeout` after `within_s` virtual seconds."""
        ends_s = trio.current_time() + within_s
        while not check():
            if trio.current_time() >= ends_s:
                raise ScenarioTimeout(f"the awaited condition did not hold within {within_s:g} virtual seconds")
            await trio.sleep(LOOK_S)

    async def settled(self) -> None:
        """Wait until every task waits for time to pass: all that is due at this instant has happened."""
        await wait_all_tasks_blocked()

    # In the background ---------------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Record the state of every node and client that is not frozen. Best called after `settled`."""
        places: list[SimNode | SimClient | StreamListener]
        places = [*self.nodes.values(), *self.clients.values(), *self.listeners.values()]
        for place in places:
            if place.name not in self.freezer:
                place.sample()

    async def _sample(self) -> None:
        while True:
            await trio.sleep(self._sample_every_s)
            await wait_all_tasks_blocked()
            self.sample()

    async def _sync(self) -> None:
        while True:
            await trio.sleep(self._sync_every_s)
            self.disk.sync()

    async def _thaw_at_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:  # also after a failure: a frozen task would never end
            for host in (*self.nodes, *self.clients):
                self.freezer.thaw(host)

    def _record(self, connection: int, route: Route, frame: Frame) -> None:
        if frame.opcode is None:
            checked = self.issuer is not None or self.callout is not None
            if checked and BESIDE not in (route.sender, route.receiver):
                self._record_http(connection, route, frame.data)
            return
        message = frame.message
        if message is not None:
            now = trio.current_time()
            self.trace.add(MessageWritten(now, connection, route.sender, route.receiver, frame.op, message))

    def _record_http(self, connection: int, route: Route, data: bytes) -> None:
        key, now = (connection, route.sender), trio.current_time()
        if key not in self._http:
            self._http[key] = HttpTap(from_client=route.sender not in self.nodes)
        tap = self._http[key]
        for message in tap.feed(data):
            op = "request" if tap.from_client else "answer"
            self.trace.add(MessageWritten(now, connection, route.sender, route.receiver, op, message))


def run_world(
    seed: int, scenario: Callable[[World], Awaitable[None]], *, limit_s: float = LIMIT_S, **options: Any
) -> World:
    """Run a scenario in a world of its own, on virtual time, and return the world as it is at the end.

    `options` are those of `World`: ``nodes``, ``config``, ``durability`` and ``sync_every_s`` (how often a disk that
    does not claim durability becomes durable all the same), ``sample_every_s``, ``record_messages``, ``capacity``:
    what each node can do (None: any amount of work, at once), and ``token_s``: for how long tokens are good (None:
    nodes check no credentials), ``callout``: nodes ask one about tokens (``"names"``: and names),
    or ``policy_folder``: an empty one, in which all nodes have their policy file (tokens are signed, and keys fetched).
    The same seed and scenario give the same
    trace in every process, if the scenario draws random numbers from ``world.seeds`` only.

    Passes on errors of the scenario, a node or a client, and raises `ScenarioTimeout` after `limit_s` virtual seconds.
    Notes on the error give the seed, the time, the faults injected so far, and the last lines of the nodes' logs.
    """
    worlds: list[World] = []
    freezer = Freezer()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(seed, nursery, freezer, **options)
            worlds.append(world)
            with trio.move_on_after(limit_s) as limit:
                await world.start()
                await scenario(world)
            if limit.cancelled_caught:
                raise ScenarioTimeout(f"the scenario took more than {limit_s:g} virtual seconds")
            nursery.cancel_scope.cancel()

    clock = MockClock(autojump_threshold=0)
    with deterministic_scheduling(seed), captured_logs() as logs, freezer.installed():
        try:
            trio.run(main, clock=clock)
        except BaseException as error:
            single = _only(error)
            _add_notes(single, seed, clock.current_time(), worlds, logs)
            if single is error:
                raise
            raise single from None
    return worlds[0]


def _only(error: BaseException) -> BaseException:
    """Take a single exception out of the groups that nurseries put around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _add_notes(error: BaseException, seed: int, now_s: float, worlds: Sequence[World], logs: deque[str]) -> None:
    error.add_note(f"simulated world: seed {seed}, at {now_s:.6f} s")
    for world in worlds:
        error.add_note("faults: " + ("; ".join(world.faults.injected) or "none"))
    if logs:
        error.add_note("last log lines of the nodes:\n  " + "\n  ".join(logs))
