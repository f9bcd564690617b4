"""``python -m bench browser``: the client for browsers beside centrifuge-js, each in Node.js with its own server.

Three things: bytes that a page loads, CPU of a change that is delivered to an application, and the time until a client
has a value that was published after its server was killed with SIGKILL and started again.

Changes come in batches, each of which has to be delivered before the next is published, so that neither server takes
the client for slow; each change of softstate is of another topic, so that none takes another's place.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.measure.checkouts import THIS
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import NotInstalled, Server, ServerFailed, find, folder, running
from bench.peers.systems import MAKERS, Places
from bench.speed.recovery.crash import Herd
from bench.speed.recovery.peers import command_of
from softstate.cli.processes.child import free_port
from softstate.web import bundle

OURS, THEIRS = "softstate", "centrifuge-js"
NPM_ADVICE = "npm install --prefix FOLDER centrifuge; then --npm FOLDER"
NODE_LEAST = 20

BATCH = 100
CHANGES = 20_000
CHANGES_QUICK = 4_000
WARM_UP = 2_000
VALUE_CHARS = 80
DOWN_S = 2.0
"""Time from the kill until the server is started again."""
ANSWER_S_MAX = 60.0

SIZE = Column("gzip_bytes", "KB, gzip", 1e-3, digits=1)
CPU = Column("cpu_s", "CPU of a change, µs", 1e6, digits=1)
FRESH = (Column("fresh_s", "from the publish to the client, s"), Column("away_s", "from the kill to that, s"))

_CLIENT = Path(__file__).parent.parent / "load" / "browser_client.js"
_STARTED = "softstate listens"


@dataclass(frozen=True, slots=True)
class System:
    """A server, and its client for browsers. `start` runs the server on a port, with its files in a folder."""

    name: str
    module: Path
    start: Callable[[int, Path], AbstractContextManager[Server]]
    publish: Callable[[int, Sequence[int]], None]
    """Publishes numbers, in one request, to a server on a port; returns once they are acknowledged."""


def browser(measuring: Measuring, npm: Path | None = None, peers: Path | None = None) -> Report:
    """Measure what is installed, and return the report. Raises `NotInstalled` without Node.js, and `ConfigError`."""
    measuring.refuse_against("browser", "it compares two clients, not two checkouts")
    node = node_js()
    report = measuring.report("browser", "the client for browsers in Node.js, one client, server in another process")
    with folder() as made:
        systems = {OURS: ours(made)}
        try:
            systems[THEIRS] = theirs(npm, peers)
        except NotInstalled as missing:
            report.note(f"{THEIRS} was left out: {missing}")
        baseline = THEIRS if THEIRS in systems else ""
        loaded = {OURS: _sizes(made, bundle.BUNDLES), THEIRS: _sizes(_dist(npm), ["centrifuge.js"])}
        sizes = Rounds({name: [{"gzip_bytes": float(loaded[name])}] for name in systems})
        report.table("what a page loads", sizes, [SIZE], baseline=baseline, compares="gzip_bytes")
        count = CHANGES_QUICK if measuring.quick else CHANGES
        deliveries = {name: partial(delivered, node, each, count) for name, each in systems.items()}
        result = run_rounds(deliveries, measuring.rounds, "deliveries")
        report.table(f"{count:,} changes", result, [CPU], baseline=baseline, compares="cpu_s")
        kills = {name: partial(killed, node, each) for name, each in systems.items()}
        result = run_rounds(kills, measuring.rounds, "kill -9")
        title = f"kill -9, {DOWN_S:g} s down, then a publish"
        report.table(title, result, FRESH, baseline=baseline, compares="fresh_s")
    report.note("softstate: each number is durable or not as its store is: here it is a SQLite file, synced")
    report.note("centrifuge-js: Centrifugo keeps the newest value in memory, and tells it when a client comes back")
    return report


def node_js() -> str:
    """Return the path of Node.js. Raises `NotInstalled`."""
    path = find("node", f"Node.js {NODE_LEAST} or newer: apt install nodejs")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=ANSWER_S_MAX).stdout
    if int(said.strip().removeprefix("v").split(".")[0]) < NODE_LEAST:
        raise NotInstalled(f"{path} is {said.strip()}: Node.js {NODE_LEAST} or newer is needed")
    return path


def ours(made: Path) -> System:
    """Write the files that nodes serve into a folder, and return softstate."""
    bundle.write(made)

    def start(port: int, home: Path) -> AbstractContextManager[Server]:
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--store", f"sqlite:{home / 'softstate.db'}"]
        return running(OURS, THIS.softstate(*words), port, home, THIS.folder, _STARTED)

    return System(OURS, made / "softstate.js", start, _publish_ours)


def theirs(npm: Path | None, peers: Path | None) -> System:
    """Return Centrifugo with centrifuge-js. Raises `NotInstalled`."""
    command = command_of(MAKERS["Centrifugo"]("Centrifugo", Places(peers)))
    module = _dist(npm).parent / "build" / "index.mjs"
    if not module.is_file():
        raise NotInstalled(f"centrifuge of npm is not in {npm or 'a folder that was named'} ({NPM_ADVICE})")

    def start(port: int, home: Path) -> AbstractContextManager[Server]:
        return running(THEIRS, command(port, home, Herd(1)), port, home)

    return System("centrifugo", module, start, _publish_theirs)


def _dist(npm: Path | None) -> Path:
    return (npm or Path()) / "node_modules" / "centrifuge" / "dist"


def _sizes(where: Path, names: Sequence[str] | dict[str, str]) -> int:
    files = [where / name for name in names]
    return sum(len(gzip.compress(file.read_bytes(), 9, mtime=0)) for file in files if file.is_file())


# One client ----------------------------------------------------------------------------------------------------------


class Client:
    """A client in a process of Node.js, for the length of a block; it is live when the block begins."""

    def __init__(self, node: str, system: System, port: int) -> None:
        self._command = [node, "--experimental-websocket", "--no-warnings", str(_CLIENT), system.name]
        self._command += [str(system.module), str(port)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **command: int) -> dict[str, Any]:
        """Have it answer when so much was delivered: see the script. Raises `NotInstalled` if it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NotInstalled("the client in Node.js has ended: its output says why")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _following(node: str, system: System) -> Iterator[tuple[Client, Server, Path]]:
    with folder() as home:
        port = free_port()
        with system.start(port, home) as server, Client(node, system, port) as client:
            yield client, server, home


def delivered(node: str, system: System, count: int) -> Figures:
    """Have changes delivered to one client; return its CPU of each."""
    with _following(node, system) as (client, server, _):
        before = 0.0
        for number in range(0, WARM_UP + count, BATCH):
            if number == WARM_UP:
                before = client.ask(count=WARM_UP)["cpu_s"]
            system.publish(server.port, range(number, number + BATCH))
            answer = client.ask(count=number + BATCH)
        return {"cpu_s": (answer["cpu_s"] - before) / count}


def killed(node: str, system: System) -> Figures:
    """Kill the server, start it again, publish a value; return the times until the client has that."""
    with _following(node, system) as (client, server, home):
        system.publish(server.port, [1])
        client.ask(value=1)
        os.kill(server.pid, 9)
        died = time.monotonic()
        time.sleep(DOWN_S)
        with system.start(server.port, home):
            system.publish(server.port, [2])
            published = time.monotonic()
            client.ask(value=2)
            ended = time.monotonic()
    return {"fresh_s": max(ended - published, 0.001), "away_s": ended - died}


def _publish_ours(port: int, numbers: Sequence[int]) -> None:
    changes = [{"topic": f"bench/{number}", "value": _value(number)} for number in numbers]
    _post(port, "/v1/publish", {"changes": changes})


def _publish_theirs(port: int, numbers: Sequence[int]) -> None:
    commands = [{"publish": {"channel": "state:bench", "data": _value(number)}} for number in numbers]
    _post(port, "/api/batch", {"commands": commands})


def _value(number: int) -> dict[str, object]:
    return {"n": number, "text": "x" * VALUE_CHARS}


def _post(port: int, path: str, body: object) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        said = reply.read()
    finally:
        connection.close()
    if reply.status != HTTPStatus.OK:
        raise ServerFailed(f"{path} was answered {reply.status}: {said[:200]!r}")
