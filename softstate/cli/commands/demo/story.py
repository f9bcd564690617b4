"""The demo, scene by scene, and the table of results at its end."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from softstate.cli.commands.demo.ledger import Ledger, Subscriber, spread_text
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.updates import Updates
from softstate.client.machine.events import ModeChanged
from softstate.model import Change
from softstate.session.load_advice import renew_ms

SUBSCRIBERS = 20
TOPICS = tuple(f"demo/counter-{number}" for number in range(1, 6))
TTL_MS = 2_000
TIMEOUT_MS = 2_000
POLL_MS = 500
PUBLISH_EVERY_S = 0.02
SAMPLE_EVERY_S = 0.1
SCENE_S_MAX = 20.0
"""Longest wait for the outcome of a scene; after that the promise counts as broken."""

BOUND_S = (1.2 * renew_ms(TTL_MS) + TIMEOUT_MS) / 1_000
"""Promise B, while one node can be reached: until a client knows that it was cut off, and polls."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader that has left to who runs the command; rich would end the process, with exit code 1."""
        raise  # noqa: PLE0704 - rich calls this where it handles the error


class Story:
    """Two nodes, `SUBSCRIBERS` subscribers in this process and one in its own, one publisher."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._console = _Console(highlight=False, soft_wrap=True)
        self._ledger = Ledger([Subscriber() for _ in range(SUBSCRIBERS)], BOUND_S)
        self._updates: dict[int, Updates] = {}
        self._urls: list[str] = []
        self._publishing = trio.CancelScope()
        self._published = trio.Event()
        self._stopped = Watched()
        self._broken: list[str] = []

    async def run(self) -> bool:
        """Run all scenes, print the table, and return whether every promise was kept."""
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            push, poll = self._node(nursery, "all"), self._node(nursery, "poll")
            self._urls = [push.url, poll.url]
            await self._start(push, poll)
            async with connect(self._urls, name="demo reader") as client:
                await self._push(nursery)
                await self._expire()
                await self._kill(push)
                await self._restart(push)
                stored = await self._finish(client)
            nursery.cancel_scope.cancel()
        self._report(stored)
        verdict = "[bold red]A promise was broken." if self._broken else "[bold green]Every promise was kept."
        self._console.print(f"{verdict}[/] ({trio.current_time() - started:.0f} s)")
        return not self._broken

    # Scenes ----------------------------------------------------------------------------------------------------------

    async def _start(self, push: NodeProcess, poll: NodeProcess) -> None:
        self._say("Two nodes start on one SQLite file: one pushes and answers polls, one only answers polls.")
        await push.start()
        await poll.start()
        for node in (push, poll):
            self._aside(f"{node.announcement}")

    async def _push(self, nursery: trio.Nursery) -> None:
        self._say(
            f"{SUBSCRIBERS} subscribers follow demo/; each takes a lease of {TTL_MS / 1000:g} s on what it wants."
        )
        for number in range(SUBSCRIBERS):
            nursery.start_soon(self._subscribe, number)
        nursery.start_soon(self._watch)
        await self._until(lambda: self._live() == SUBSCRIBERS and self._stopped.live, "all subscribers to be live")
        self._aside(f"{self._live()} of {SUBSCRIBERS} are live")
        self._say("A publisher counts up. Every change is stored first, then pushed.")
        nursery.start_soon(self._publish)
        nursery.start_soon(self._sample)
        await trio.sleep(1.5)
        self._aside(f"{self._ledger.acknowledged} published, {self._changes()} pushed, oldest knowledge {self._age()}")

    async def _expire(self) -> None:
        self._say("One more subscriber, a process of its own, is stopped with SIGSTOP: it renews its lease no more.")
        before = await self._status(self._urls[0], "sessions")
        self._stopped.send(signal.SIGSTOP)
        with trio.move_on_after(SCENE_S_MAX) as scope:
            while (after := await self._status(self._urls[0], "sessions")) >= before:  # noqa: ASYNC110 - another process
                await trio.sleep(0.1)
        self._check(not scope.cancelled_caught, "the lease of a stopped subscriber did not expire")
        self._aside(f"its lease has expired: the node held {before} sessions and now holds {after}")
        newest = self._ledger.newest
        self._stopped.send(signal.SIGCONT)
        await self._until(lambda: self._stopped.newest >= newest, "the stopped subscriber to catch up")
        self._aside("continued, it notices, polls, takes a new lease and has missed nothing")

    async def _kill(self, push: NodeProcess) -> None:
        self._say("The pushing node is killed with SIGKILL, in mid-stream.")
        killed_s = trio.current_time()
        await push.kill()
        self._ledger.kill(killed_s, await self._status(self._urls[1], "revision"))
        await self._until(
            lambda: all(math.isfinite(s) for s in self._ledger.fresh_after_s()), "fresh values by polling"
        )
        self._aside(
            f"{SUBSCRIBERS - self._live()} of {SUBSCRIBERS} poll the other node; oldest knowledge {self._age()}"
        )
        await trio.sleep(2.0)
        self._aside(f"publishing goes on over HTTP: {self._ledger.acknowledged} so far; oldest knowledge {self._age()}")

    async def _restart(self, push: NodeProcess) -> None:
        self._say("The node starts again. It remembers no session, and needs none.")
        await push.start()
        self._ledger.restarted_s = trio.current_time()
        await self._until(
            lambda: all(math.isfinite(s) for s in self._ledger.live_after_s()), "all subscribers to be live again"
        )
        self._aside(f"{self._live()} of {SUBSCRIBERS} are live again; oldest knowledge {self._age()}")
        await trio.sleep(1.0)

    async def _finish(self, client: Client) -> dict[str, int]:
        self._publishing.cancel()
        await self._published.wait()
        stored = {change.topic: change.version for change in await client.list("demo/")}
        await self._until(lambda: self._ledger.behind(stored) == 0, "all subscribers to know the final state")
        await self._until(lambda: self._stopped.versions == stored, "the stopped subscriber to know the final state")
        return stored

    # Actors ----------------------------------------------------------------------------------------------------------

    def _node(self, nursery: trio.Nursery, role: str) -> NodeProcess:
        store = f"sqlite:{self._folder / 'demo.db'}"
        times = ["--ttl", f"{TTL_MS}ms", "--timeout-ms", str(TIMEOUT_MS), "--poll-every-ms", str(POLL_MS)]
        recover = ["--recover-base-ms", "200", "--recover-cap-ms", "2000"]
        log = self._folder / f"{role}.log"
        return NodeProcess(nursery, free_port(), ["--store", store, "--role", role, *times, *recover], log)

    async def _subscribe(self, number: int) -> None:
        subscriber = self._ledger.subscribers[number]
        async with connect(self._urls, name=f"demo {number}") as client, client.subscribe("demo/") as updates:
            self._updates[number] = updates
            async for event in updates.events():
                if isinstance(event, Change):
                    self._ledger.applied(subscriber, event, trio.current_time())
                elif isinstance(event, ModeChanged):
                    self._ledger.mode_changed(subscriber, event.mode, trio.current_time())

    async def _watch(self) -> None:
        options = [word for url in self._urls for word in ("--url", url)]
        async with child(softstate("watch", "demo/", "--json", *options)) as process:
            self._stopped.process = process
            assert process.stdout is not None
            async for line in Lines(process.stdout):
                self._stopped.take(line)

    async def _publish(self) -> None:
        async with connect(self._urls, name="demo publisher") as client:
            with self._publishing:
                number = 0
                while True:
                    topic = TOPICS[number % len(TOPICS)]
                    self._ledger.published += 1
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + SCENE_S_MAX):
                        version = await client.publish(topic, {"count": number})
                        self._ledger.acknowledge(topic, version, trio.current_time())
                    number += 1
                    await trio.sleep(PUBLISH_EVERY_S)
        self._published.set()

    async def _sample(self) -> None:
        while True:
            await trio.sleep(SAMPLE_EVERY_S)
            taken = [(number, updates.age, trio.current_time()) for number, updates in self._updates.items()]
            for _ in range(2 * len(TOPICS)):
                await trio.lowlevel.checkpoint()  # let every subscriber take what was pending when its age was asked
            for number, age_s, now in taken:
                self._ledger.sample(self._ledger.subscribers[number], age_s, now)

    # Telling ---------------------------------------------------------------------------------------------------------

    def _say(self, sentence: str) -> None:
        self._console.print(f"[bold]•[/] {sentence}")

    def _aside(self, sentence: str) -> None:
        self._console.print(f"  [dim]{sentence}[/]")

    def _check(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self._broken.append(otherwise)
            self._console.print(f"  [bold red]{otherwise}[/]")

    async def _until(self, reached: Callable[[], object], what: str) -> None:
        with trio.move_on_after(SCENE_S_MAX):
            while not reached():  # noqa: ASYNC110 - many things, in other processes too, may make it true
                await trio.sleep(0.02)
            return
        self._check(False, f"waited {SCENE_S_MAX:g} s for {what}, which did not happen")

    async def _status(self, url: str, count: str) -> int:
        async with connect(url, push=False) as client:
            return int(str((await client.status())[count]))

    def _live(self) -> int:
        return sum(subscriber.mode == "live" for subscriber in self._ledger.subscribers)

    def _changes(self) -> int:
        return sum(subscriber.changes for subscriber in self._ledger.subscribers)

    def _age(self) -> str:
        return f"{max(updates.age for updates in self._updates.values()):.1f} s"

    def _report(self, stored: dict[str, int]) -> None:
        ledger = self._ledger
        lost, back = ledger.lost(stored), sum(s.went_back for s in ledger.subscribers) + self._stopped.went_back
        worst_s, fresh, live = ledger.worst_age_s(), ledger.fresh_after_s(), ledger.live_after_s()
        table = Table(show_header=False)
        for name, text, kept in (
            ("published", f"{ledger.published}", True),
            ("acknowledged", f"{ledger.acknowledged}", ledger.acknowledged > 0),
            ("acknowledged, then lost", f"{lost}", lost == 0),
            ("subscribers that went backwards", f"{back}", back == 0),
            ("ages that were too young", f"{ledger.too_young} of {ledger.samples}", ledger.too_young == 0),
            ("worst age, against its bound", f"{worst_s:.2f} s, {BOUND_S:.2f} s", worst_s <= BOUND_S),
            ("first fresh value after the kill", spread_text(fresh), math.isfinite(max(fresh))),
            ("live again after the restart", spread_text(live), math.isfinite(max(live))),
        ):
            table.add_row(name, text if kept else f"[bold red]{text}[/]")
            if not kept:
                self._broken.append(name)
        self._console.print(table)


class Watched:
    """The changes and modes that a ``softstate watch --json`` process printed."""

    def __init__(self) -> None:
        self.process: trio.Process | None = None
        self.versions: dict[str, int] = {}
        self.went_back = 0
        self.live = False

    @property
    def newest(self) -> int:
        """The highest version that it printed, 0 before the first."""
        return max(self.versions.values(), default=0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self.process is None:
            raise Failure("softstate watch did not start", UNAVAILABLE)
        self.process.send_signal(number)

    def take(self, line: str) -> None:
        """Read one line of its output."""
        event = json.loads(line)
        if event["event"] == "change":
            topic, version = event["topic"], event["version"]
            self.went_back += version < self.versions.get(topic, 0)
            self.versions[topic] = version
        elif event["event"] == "mode":
            self.live = event["mode"] == "live"
