"""The course of a drill: start, measure without a fault, inject the fault, end it, wait until all settled, judge."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from softstate.cli.commands.drill import faults
from softstate.cli.commands.drill.advised_times import AdvisedTimes, ask_times
from softstate.cli.commands.drill.certificate import make_certificate, opener, trusting
from softstate.cli.commands.drill.ledger import Fault, Ledger
from softstate.cli.commands.drill.plan import Plan, token_of
from softstate.cli.commands.drill.proxy import nginx
from softstate.cli.commands.drill.publisher import Publisher, clean
from softstate.cli.commands.drill.relay import Relay
from softstate.cli.commands.drill.reports import WorkerPlan
from softstate.cli.commands.drill.verdict import Figures, judge
from softstate.cli.commands.drill.worker_process import WorkerProcess
from softstate.cli.exit_codes import UNAVAILABLE, USAGE, Failure
from softstate.cli.processes.child import NodeProcess, free_port
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.url import parse_url

READY_S_MAX = 60.0
"""Longest time until every client is live, before anything is measured."""

SETTLE_CONVERGENCES = 2.0
"""Multiple of promise L's bound to wait for all clients to settle; waiting longer shows nothing new."""

LOOK_EVERY_S = 0.02


class Drill:
    """One drill. `say` is given a sentence about each step; `folder` takes a throw-away store and all logs."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._say = say
        self._ledger = Ledger([plan.follows(client) for client in range(plan.clients)])
        self._urls = plan.urls
        self._ca = ""
        """The certificate by which nodes are trusted; empty: the system's authorities decide."""
        self._nodes: list[NodeProcess] = []
        self._relays: list[Relay] = []
        self._workers: list[WorkerProcess] = []
        self.left: Sequence[str] = ()
        """Topics that were published to the user's own installation, and may be there still after `run`."""

    async def run(self) -> Figures:
        """Run it and return its figures. Raises `Failure` if it cannot begin, or if a step of it fails.

        If cancelled, the fault is ended, every process is killed, and published topics are deleted, or named in `left`.
        """
        _raise_file_limit()
        async with trio.open_nursery() as nursery, AsyncExitStack() as processes:
            if not self._plan.own:
                await self._start_nodes(nursery, processes)
            token, tls = token_of(self._plan.token_file), trusting(self._ca)
            async with connect(self._urls, name="softstate drill", tls=tls, token=token) as client:
                await self._check_prefix(client)
                publisher = Publisher(self._plan, client, self._ledger)
                try:
                    async with trio.open_nursery() as publishing:
                        figures = await self._measure(nursery, publishing, publisher, client)
                        publishing.cancel_scope.cancel()
                finally:
                    if self._plan.own:
                        self.left = await clean(self._urls, self._plan)
            nursery.cancel_scope.cancel()
        return figures

    async def _measure(
        self, nursery: trio.Nursery, publishing: trio.Nursery, publisher: Publisher, client: Client
    ) -> Figures:
        """Go through all steps. Processes run in `nursery`, the publisher in `publishing`, which ends first."""
        with trio.move_on_after(READY_S_MAX) as scope:
            await publisher.once()
        if scope.cancelled_caught:
            raise Failure(f"no node took a publish within {READY_S_MAX:g} s", UNAVAILABLE)
        via = await self._start_relays(nursery) if self._plan.kind == "link" else {}
        await self._start_workers(nursery, via)
        times = await ask_times(self._urls, opener(trusting(self._ca)), self._plan.token_file)
        self._ledger.fault = self._fault(self._plan)
        self._ledger.times = times
        publishing.start_soon(publisher.run)
        self._say(f"measuring without a fault for {self._plan.healthy_s:.1f} s")
        await trio.sleep(self._plan.healthy_s)
        self._say(f"{self._plan.kind}: broken for {self._plan.down_s:.1f} s")
        await faults.inject(self._breaking(), self._plan.down_s, self._ledger)
        self._say("the fault has ended")
        await trio.sleep(self._plan.after_s)
        stored = await self._settle(publisher, client, times)
        for worker in self._workers:
            await worker.stop()
        return judge(self._plan, self._ledger, times, publisher.published, stored)

    # Starting --------------------------------------------------------------------------------------------------------

    async def _start_nodes(self, nursery: trio.Nursery, processes: AsyncExitStack) -> None:
        """Start a node that pushes and one that answers polls only, on one store; both push if both are restarted."""
        rolling = self._plan.kind == "rolling"
        store = f"sqlite:{self._folder / 'drill.db'}"
        secured: list[str] = []
        if self._plan.tls:
            pair = await make_certificate(self._folder)
            secured, self._ca = pair.options, str(pair.cert)
        for number, role in enumerate(("all", "all" if rolling else "poll")):
            options = ["--store", store, "--role", role, *secured, *_times(self._plan.clients)]
            log = self._folder / f"node-{number}.log"
            self._nodes.append(NodeProcess(nursery, free_port(), options, log, tls=self._plan.tls))
        async with trio.open_nursery() as starting:
            for node in self._nodes:
                starting.start_soon(node.start)
        self._urls = tuple(node.url for node in self._nodes)
        how = ", with TLS" if self._plan.tls else ""
        if self._plan.nginx:
            proxy = await processes.enter_async_context(nginx(self._folder, [node.port for node in self._nodes]))
            self._urls, how = (proxy,), ", behind nginx"
        which = "two nodes" if rolling else "a node that pushes and one that only answers polls"
        self._say(f"started {which}, on one SQLite file{how}")

    async def _start_relays(self, nursery: trio.Nursery) -> dict[str, int]:
        """Put a relay before each node given, or, in a throw-away installation, before the node that pushes."""
        via = {}
        for text in self._urls if self._plan.own else self._urls[:1]:
            url = parse_url(text)
            relay = Relay(url.host, url.port)
            await nursery.start(relay.serve)
            self._relays.append(relay)
            via[f"{url.host}:{url.port}"] = relay.port
        return via

    async def _start_workers(self, nursery: trio.Nursery, via: dict[str, int]) -> None:
        plan = self._plan
        for number, clients in enumerate(plan.shares()):
            follows = {client: list(plan.follows(client)) for client in clients}
            token_file = str(plan.token_file or "")
            plan_of_worker = WorkerPlan(
                list(self._urls), list(plan.names), follows, via, self._ca, token_file, plan.runtime
            )
            worker = WorkerProcess(nursery, plan_of_worker, self._ledger.take, self._folder / f"worker-{number}.log")
            self._workers.append(worker)
            await worker.start()
        if not await self._all_live():
            raise Failure(f"only {self._live()} of {plan.clients} clients were live in {READY_S_MAX:g} s", UNAVAILABLE)
        how = "softstate.sync" if plan.runtime == "sync" else plan.runtime
        self._say(f"{plan.clients} clients of {how} are live, in {len(self._workers)} processes")

    async def _check_prefix(self, client: Client) -> None:
        if self._plan.own and await client.list(self._plan.prefix):
            message = f"--prefix {self._plan.prefix} holds topics already, and would be deleted: name one that is empty"
            raise Failure(message, USAGE)

    # The fault -------------------------------------------------------------------------------------------------------

    def _fault(self, plan: Plan) -> Fault:
        """Return which clients the fault touches, and whether they can still reach a node."""
        if plan.kind == "client":
            return Fault(touched=frozenset(self._workers[0].clients + self._workers[-1].clients))
        all_clients = frozenset(range(plan.clients))
        reachable = plan.kind == "rolling" or (not plan.own and plan.kind in ("server", "link"))
        return Fault(touched=all_clients, reachable=reachable)

    def _breaking(self) -> faults.Breaking:
        plan = self._plan
        match plan.kind:
            case "link":
                return faults.links_stalled(self._relays)
            case "client":
                return faults.clients_hit(self._workers[0], self._workers[-1], self._ledger)
            case "rolling" if plan.own:
                return faults.restarted_by(plan.kill_command)
            case "rolling":
                return faults.nodes_restarted(self._nodes, self._all_live)
            case "server" | "store" if plan.own:
                return faults.commanded(plan.kill_command, plan.start_command)
            case "server":
                return faults.node_killed(self._nodes[0])
            case "store":
                return faults.store_locked(self._folder / "drill.db")

    # Settling --------------------------------------------------------------------------------------------------------

    async def _settle(self, publisher: Publisher, client: Client, times: AdvisedTimes) -> dict[int, int]:
        """Stop publishing, wait until all clients are live and know the final state, and return that state."""
        limit_s = SETTLE_CONVERGENCES * times.converge_s_max
        with trio.move_on_after(limit_s) as scope:
            await publisher.stop()
        if scope.cancelled_caught:
            raise Failure(f"publishes were not answered within {limit_s:.1f} s after the fault", UNAVAILABLE)
        listed = {change.topic: change.version for change in await client.list(self._plan.prefix)}
        stored = {number: listed.get(name, 0) for number, name in enumerate(self._plan.names)}
        await self._until(lambda: self._settled(stored), limit_s)
        return stored

    def _settled(self, stored: dict[int, int]) -> bool:
        touched = [self._ledger.followers[client] for client in self._ledger.fault.touched]
        recovered = all(max(follower.fresh_s, follower.live_s) < math.inf for follower in touched)
        return recovered and self._ledger.behind(stored) == 0

    async def _all_live(self) -> bool:
        """Wait until every client is live, within `READY_S_MAX`."""
        return await self._until(lambda: self._live() == self._plan.clients, READY_S_MAX)

    def _live(self) -> int:
        return sum(follower.mode == "live" for follower in self._ledger.followers)

    async def _until(self, reached: Callable[[], bool], limit_s: float) -> bool:
        with trio.move_on_after(limit_s):
            while not reached():  # noqa: ASYNC110 - many things, in other processes, may make it true
                await trio.sleep(LOOK_EVERY_S)
            return True
        return False


def _times(clients: int) -> list[str]:
    """Return the times of a throw-away node: short, for a short drill, yet long enough for this host to keep them.

    Leases are as short as they may be with a beat a second, two of which fit between renewals.
    """
    ttl_ms, timeout_ms, poll_ms = max(6_000, 12 * clients), max(1_000, 4 * clients), max(500, 4 * clients)
    leases = ["--ttl", f"{ttl_ms}ms", "--timeout-ms", str(timeout_ms), "--poll-every-ms", str(poll_ms)]
    return [*leases, "--recover-base-ms", "200", "--recover-cap-ms", "2000", "--store-s-max", "1"]


def _raise_file_limit() -> None:
    """Allow this process and its children as many open files as the system lets them have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
