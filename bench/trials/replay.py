"""Replay a file of changes through a node that is killed with SIGKILL repeatedly, while watchers follow it.

Each part is a process, started as a user would start it: ``softstate serve``, ``softstate publish --ndjson``, many
``softstate watch --json``, and ``softstate list`` at the end. The replay checks the promises S1, S3 and L: no watcher
sees the version of a topic decrease between resets, no acknowledged publish is missing, and each watcher ends with
exactly the state at the end of the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio

from bench.trials.trace import Trace, read_trace
from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.errors import Unavailable
from softstate.names import ALL, covers, prefixes_of

NAMES_MAX = 3
"""Names that one watcher follows at most."""

LOOK_EVERY_S = 0.005
DOWN_S_MAX = 0.5
"""A killed node is started again after a random time up to this."""

READY_S_MAX = 60.0
SETTLE_S_MAX = 60.0
"""Time after the last acknowledgement within which watchers must arrive at the final state."""

SERVE_OPTIONS = ("--ttl", "5s", "--poll-every-ms", "1000", "--recover-cap-ms", "2000")
PUBLISH_TIMEOUT = "60s"


@dataclass(frozen=True)
class Plan:
    """The file, the number of watchers, the number of kills, and the seed."""

    file: Path
    watchers: int
    kills: int
    seed: int


@dataclass
class Watcher:
    """The output of one ``softstate watch --json`` process."""

    names: Sequence[str]
    versions: dict[str, int] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    changes: int = 0
    decreased: int = 0
    resets: int = 0
    complaints: int = 0
    """Events that are none of a healthy node: it refused this watcher, or could not read topics."""
    live: trio.Event = field(default_factory=trio.Event)

    def take(self, event: dict[str, Any]) -> None:
        """Take one line of its output."""
        match event["event"]:
            case "change":
                self._change(event)
            case "mode":
                if event["mode"] == "live":
                    self.live.set()
            case "reset":
                self.resets += 1
                self.versions.clear()
            case _:
                self.complaints += 1

    def _change(self, event: dict[str, Any]) -> None:
        topic, version = event["topic"], event["version"]
        self.changes += 1
        self.decreased += version < self.versions.get(topic, 0)
        self.versions[topic] = version
        if event.get("deleted"):
            self.values.pop(topic, None)
        else:
            self.values[topic] = event["value"]

    def agrees(self, final: dict[str, Any]) -> bool:
        """Return whether it holds exactly the part of the final state that its names cover."""
        return self.values == {t: value for t, value in final.items() if any(covers(name, t) for name in self.names)}


@dataclass
class Report:
    """The figures of one replay."""

    seed: int
    lines: int
    topics: int
    alive: int
    watchers: int
    kills_planned: int
    kills: int = 0
    publish_exit_code: int = -1
    acknowledged: int = 0
    repeated: int = 0
    publish_s: float = 0.0
    missing: int = 0
    """Topics whose value at the node is not that of the file, or that the file does not have."""
    disagreeing: int = 0
    """Watchers whose final state is not that of the file."""
    decreased: int = 0
    resets: int = 0
    complaints: int = 0
    changes_seen: int = 0
    settle_s: float = 0.0
    """Time from the last acknowledgement until all watchers held the final state."""

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return not self.failures()

    def failures(self) -> list[str]:
        """Return the failed checks, in words."""
        checks = {
            f"publish ended with exit code {self.publish_exit_code}": self.publish_exit_code == 0,
            f"{self.acknowledged} of {self.lines} lines acknowledged": self.acknowledged == self.lines,
            f"{self.missing} topics differ on the node": self.missing == 0,
            f"{self.disagreeing} watchers ended with another state": self.disagreeing == 0,
            f"versions decreased {self.decreased} times": self.decreased == 0,
            f"{self.resets} resets, although no history changed": self.resets == 0,
            f"{self.complaints} times a node refused a watcher or could not read topics": self.complaints == 0,
            f"killed {self.kills} times, not {self.kills_planned}": self.kills == self.kills_planned,
        }
        return [text for text, passed in checks.items() if not passed]

    def json(self) -> str:
        """Return the figures as one JSON object."""
        return json.dumps({**asdict(self), "ok": self.ok})

    def __str__(self) -> str:
        rows = [
            ("seed", self.seed),
            ("file", f"{self.lines} changes to {self.topics} topics, {self.alive} alive at the end"),
            ("node killed with SIGKILL", f"{self.kills} times while publishing"),
            ("acknowledged", f"{self.acknowledged} lines in {self.publish_s:.1f} s, {self.repeated} sent twice"),
            ("topics missing or wrong", self.missing),
            ("watchers", f"{self.watchers}, which saw {self.changes_seen} changes"),
            ("watchers with a wrong final state", self.disagreeing),
            ("versions that decreased", self.decreased),
            ("resets", self.resets),
            ("refused, or topics not readable", self.complaints),
            ("last acknowledgement to all settled", f"{self.settle_s:.1f} s"),
            ("verdict", "; ".join(self.failures()) or "all checks passed"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


async def replay(plan: Plan, folder: Path) -> Report:
    """Run a whole replay, with the store in `folder`. Raises `Failure` if a node does not start.

    If cancelled, it kills all processes.
    """
    random = Random(plan.seed)
    trace = read_trace(plan.file)
    watchers = [Watcher(names) for names in choose_names(trace, plan.watchers, random)]
    report = Report(plan.seed, trace.lines, len(trace.topics), len(trace.final), plan.watchers, plan.kills)
    async with trio.open_nursery() as nursery:
        store = f"sqlite:{folder / 'replay.db'}"
        node = NodeProcess(nursery, free_port(), ["--store", store, *SERVE_OPTIONS], folder / "serve.log")
        await node.start()
        for watcher in watchers:
            nursery.start_soon(_watch, watcher, node.url)
        with trio.fail_after(READY_S_MAX):
            for watcher in watchers:
                await watcher.live.wait()
        async with trio.open_nursery() as acting:
            acting.start_soon(_kill, node, plan.kills, trace.lines, random, report, acting.cancel_scope)
            await _publish(plan.file, node.url, report)
            acting.cancel_scope.cancel()
        await _settle(watchers, trace, report)
        report.missing = await _missing(node.url, trace)
        nursery.cancel_scope.cancel()
    report.disagreeing = sum(not watcher.agrees(trace.final) for watcher in watchers)
    report.decreased = sum(watcher.decreased for watcher in watchers)
    report.resets = sum(watcher.resets for watcher in watchers)
    report.complaints = sum(watcher.complaints for watcher in watchers)
    report.changes_seen = sum(watcher.changes for watcher in watchers)
    return report


def choose_names(trace: Trace, watchers: int, random: Random) -> list[Sequence[str]]:
    """Choose the names of each watcher: of the first all topics, of the others some prefixes and topics of the file."""
    prefixes = sorted({prefix for topic in trace.topics for prefix in prefixes_of(topic)} - {ALL})
    names = prefixes + sorted(random.sample(sorted(trace.topics), min(len(prefixes) or 1, len(trace.topics))))
    chosen: list[Sequence[str]] = [(ALL,)]
    while len(chosen) < watchers:
        chosen.append(tuple(random.sample(names, min(random.randint(1, NAMES_MAX), len(names)))))
    return chosen[:watchers]


async def _watch(watcher: Watcher, url: str) -> None:
    async with child(softstate("watch", *watcher.names, "--json", "--url", url)) as process:
        assert process.stdout is not None
        async for line in Lines(process.stdout):
            watcher.take(json.loads(line))


async def _publish(file: Path, url: str, report: Report) -> None:
    command = softstate("publish", "--ndjson", str(file), "--json", "--url", url, "--timeout", PUBLISH_TIMEOUT)
    async with child(command) as process:
        assert process.stdout is not None
        said = [line async for line in Lines(process.stdout)]
        report.publish_exit_code = await process.wait()
    if said:
        counts = json.loads(said[-1])
        report.acknowledged, report.repeated, report.publish_s = counts["lines"], counts["repeated"], counts["seconds"]


async def _kill(
    node: NodeProcess, kills: int, changes: int, random: Random, report: Report, publishing: trio.CancelScope
) -> None:
    """Kill the node when the publisher has reached each of `kills` random lines, and start it again."""
    async with connect(node.url, push=False) as client:
        for line in sorted(random.sample(range(1, max(changes * 9 // 10, kills + 1)), kills)):
            while await _revision(client) < line + report.kills:  # noqa: ASYNC110 - another process
                await trio.sleep(LOOK_EVERY_S)
            await node.kill()
            if not publishing.cancel_called:
                report.kills += 1
            with trio.CancelScope(shield=True):
                await trio.sleep(random.uniform(0, DOWN_S_MAX))
                await node.start()


async def _revision(client: Client) -> int:
    try:
        return int(str((await client.status(timeout_s=1.0))["revision"]))
    except Unavailable:
        return 0


async def _settle(watchers: Sequence[Watcher], trace: Trace, report: Report) -> None:
    began = trio.current_time()
    with trio.move_on_after(SETTLE_S_MAX):
        while not all(watcher.agrees(trace.final) for watcher in watchers):  # noqa: ASYNC110 - as above
            await trio.sleep(LOOK_EVERY_S)
    report.settle_s = round(trio.current_time() - began, 3)


async def _missing(url: str, trace: Trace) -> int:
    """Return the number of topics in which ``softstate list`` and the file's final state differ."""
    listed = {}
    async with child(softstate("list", ALL, "--json", "--url", url)) as process:
        assert process.stdout is not None
        async for line in Lines(process.stdout):
            change = json.loads(line)
            listed[change["topic"]] = change["value"]
    names = listed.keys() | trace.final.keys()
    absent = object()
    return sum(listed.get(name, absent) != trace.final.get(name, absent) for name in names)
