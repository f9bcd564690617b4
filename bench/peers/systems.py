"""The systems of `bench peers`: how each server is started, its tuning, what it makes durable, its version.

Each is configured as its documentation advises; limits that protect a server from slow readers keep their defaults.
Programs are looked for in the folder of ``--peers``, on PATH, and where packages put servers; packages of npm in the
``node_modules`` of the folder of ``--npm``, or of the one that the variable NPM_FOLDER names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version as package_version
from pathlib import Path
from signal import SIGKILL
from typing import NamedTuple

from bench.measure.checkouts import THIS
from bench.measure.cost import cpu_s, resident_bytes
from bench.measure.servers import NotInstalled, Server, find, running
from softstate import __version__
from softstate.cli.processes.child import free_port

OURS = "softstate"
NAMESPACE = "state"
"""The namespace of Centrifugo's channels (``state:TOPIC``), and the bucket of NATS (``$KV.state.TOPIC``)."""
NPM_FOLDER = "NPM_FOLDER"
"""The variable that names a folder in which npm has installed packages."""
NATS_LEAST = (2, 10)
"""The version of nats-server from which on it can sync each publish to the disk."""
VERSION_S_MAX = 10.0

CENTRIFUGO_ADVICE = "go install github.com/centrifugal/centrifugo/v6@latest; then --peers FOLDER"
NATS_ADVICE = "go install github.com/nats-io/nats-server/v2@latest; then --peers FOLDER"
REDIS_ADVICE = "apt install redis-server"
NODE_ADVICE = "Node.js: apt install nodejs"
NPM_ADVICE = "npm install --prefix FOLDER socket.io@4.8 ws@8 bufferutil; then --npm FOLDER"
PYTHON_ADVICE = "pip install 'softstate[bench]'"

_SERVERS = Path(__file__).parent / "servers"
_SYNC = {True: "always", False: "2m"}
"""``sync_interval`` of nats-server; 2 minutes is its default."""


class Places(NamedTuple):
    """Folders of what is not on PATH: programs, and ``node_modules`` of npm. None: not given."""

    programs: Path | None = None
    npm: Path | None = None


class Process(NamedTuple):
    """One server process to start. `folder` is its working directory, `announces` what it prints once it is ready."""

    name: str
    command: Sequence[str]
    port: int
    folder: Path | None = None
    announces: str = ""


@dataclass(frozen=True, slots=True)
class Up:
    """A system that runs. `port` is that of its clients; the processes of its store are among `servers`."""

    port: int
    servers: Sequence[Server]

    def cpu_s(self) -> float:
        """Return the CPU seconds that all its processes have used."""
        return sum(cpu_s(server.pid) for server in self.servers)

    def resident_bytes(self) -> int:
        """Return the resident memory of all its processes."""
        return sum(resident_bytes(server.pid) for server in self.servers)

    def kill(self) -> None:
        """Kill all its processes at once (SIGKILL); those that have ended already are left alone."""
        for server in self.servers:
            with suppress(ProcessLookupError):
                os.kill(server.pid, SIGKILL)


@dataclass(frozen=True, slots=True)
class System:
    """One system of this machine.

    `durable` says what an acknowledged publish survives, `tuned` how it is configured, `talk` is the name of its
    protocol in `bench.peers.talks`. `processes` returns what to start, the store before its server, the server that
    clients talk to last, from its port, a folder for files, and whether it sends pings.
    """

    name: str
    version: str
    durable: str
    tuned: str
    talk: str
    processes: Callable[[int, Path, bool], Sequence[Process]]

    @contextmanager
    def running(self, port: int, home: Path, *, pings: bool = True) -> Iterator[Up]:
        """Run the system with its files in `home`; started there again, it has what it made durable.

        Without `pings` it sends none for an hour, and expects no renewals: for a load that answers none. Raises
        `ServerFailed`.
        """
        with ExitStack() as stack:
            servers = []
            for process in self.processes(port, home, pings):
                mine = home / process.name
                mine.mkdir(exist_ok=True)
                words = (process.command, process.port, mine, process.folder, process.announces)
                servers.append(stack.enter_context(running(process.name, *words)))
            yield Up(port, servers)


def systems(places: Places, only: Sequence[str] = ()) -> tuple[dict[str, System], list[str]]:
    """Return the systems that are installed, by name, and a line for each other one that says how to get it.

    With `only`, those alone, by the names of `MAKERS`.
    """
    found, notes = {}, []
    for name, make in MAKERS.items():
        if only and name not in only:
            continue
        try:
            found[name] = make(name, places)
        except NotInstalled as missing:
            notes.append(f"{name} was left out: {missing}")
    return found, notes


# softstate ------------------------------------------------------------------------------------------------------------


def softstate(name: str, places: Places) -> System:
    """Return this checkout's softstate, with its default store."""
    del places

    def processes(port: int, home: Path, pings: bool) -> list[Process]:
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--store", f"sqlite:{home / 'softstate.db'}"]
        words += [] if pings else ["--ttl", "1h", "--idle-s-max", "3600"]
        return [Process("softstate", THIS.softstate(*words), port, THIS.folder, "softstate listens")]

    durable = "kill -9 and a power cut: SQLite, synchronous FULL"
    version = f"{__version__}, commit {THIS.commit()}"
    return System(name, version, durable, "defaults; CBOR over WebSocket", "softstate", processes)


# Centrifugo and Redis -------------------------------------------------------------------------------------------------


def centrifugo(name: str, places: Places, *, redis: bool) -> System:
    """Return Centrifugo with its engine in memory or in Redis. Raises `NotInstalled`."""
    program = _find(places, "centrifugo", CENTRIFUGO_ADVICE)
    version = f"{go_version(program, 'github.com/centrifugal/centrifugo/v6')}"
    store = _find(places, "redis-server", REDIS_ADVICE) if redis else ""
    if redis:
        version += f", Redis {redis_version(store)}"

    def processes(port: int, home: Path, pings: bool) -> list[Process]:
        started = [redis_process(store, free_port(), home)] if redis else []
        config = centrifugo_config(port, pings=pings)
        if redis:
            config["engine"] = {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{started[0].port}"}}
        file = home / "centrifugo.json"
        file.write_text(json.dumps(config))
        return [*started, Process("centrifugo", [program, "--config", str(file)], port)]

    durable = "kill -9 and a power cut: Redis, appendfsync always" if redis else "nothing: memory"
    tuned = "channels keep their newest value (recovery mode cache); JSON over WebSocket, HTTP API"
    return System(name, version, durable, tuned, "centrifugo", processes)


def centrifugo_config(port: int, *, pings: bool) -> dict[str, object]:
    """Return the configuration of Centrifugo, with a namespace that keeps its newest value."""
    namespace = {
        "name": NAMESPACE, "history_size": 1, "history_ttl": "1h", "force_recovery": True,
        "force_recovery_mode": "cache", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
        "allow_publish_for_client": True, "allow_publish_for_anonymous": True,
    }  # fmt: skip
    client: dict[str, object] = {"insecure": True, "allowed_origins": ["*"]}
    if not pings:
        client |= {"ping_interval": "1h", "pong_timeout": "30m"}
    return {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "http_api": {"insecure": True},
        "client": client,
        "channel": {"namespaces": [namespace]},
        "log": {"level": "error"},
    }


def redis(name: str, places: Places) -> System:
    """Return Redis by itself. Raises `NotInstalled`."""
    program = _find(places, "redis-server", REDIS_ADVICE)

    def processes(port: int, home: Path, pings: bool) -> list[Process]:
        del pings
        return [redis_process(program, port, home)]

    durable = "kill -9 and a power cut: appendfsync always"
    tuned = "SET and PUBLISH in MULTI; RESP2 over TCP"
    return System(name, redis_version(program), durable, tuned, "redis", processes)


def redis_process(program: str, port: int, home: Path) -> Process:
    """Return a Redis that syncs each write before it answers, and takes more than 10,000 clients.

    Its protected mode takes clients from 127.0.0.1 alone, and the generator has other loopback addresses.
    """
    data = home / "data"
    data.mkdir(exist_ok=True)
    command = [
        program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--daemonize", "no", "--save", "",
        "--appendonly", "yes", "--appendfsync", "always", "--maxclients", "19900", "--tcp-backlog", "4096",
        "--protected-mode", "no",
        "--loglevel", "warning",
    ]  # fmt: skip
    return Process("redis", command, port)


# NATS -----------------------------------------------------------------------------------------------------------------


def nats(name: str, places: Places, *, always: bool) -> System:
    """Return nats-server with JetStream, which syncs each publish, or every two minutes. Raises `NotInstalled`."""
    program = _find(places, "nats-server", NATS_ADVICE)
    version = _said(program, "--version", r"v(\d+\.\d+[.\d]*)")
    if tuple(int(part) for part in version.split(".")[:2]) < NATS_LEAST:
        raise NotInstalled(f"{program} is older than 2.10, which first synced each publish ({NATS_ADVICE})")

    def processes(port: int, home: Path, pings: bool) -> list[Process]:
        file = home / "nats.conf"
        file.write_text(
            f'listen: "127.0.0.1:{port}"\nmax_connections: 65536\nlogtime: false\n'
            + ("" if pings else 'ping_interval: "1h"\n')
            + f'jetstream {{ store_dir: "{home}", sync_interval: {_SYNC[always]} }}\n'
        )
        return [Process("nats", [program, "-c", str(file)], port)]

    survived = "kill -9 and a power cut" if always else "kill -9, not a power cut"
    tuned = "a bucket that keeps the newest value, on disk; watchers in memory; NATS protocol over TCP"
    return System(name, version, f"{survived}: sync_interval {_SYNC[always]}", tuned, "nats", processes)


# Libraries: servers that store nothing --------------------------------------------------------------------------------


def node_server(name: str, places: Places, *, package: str, script: str, talk: str) -> System:
    """Return a server of a package of npm, with bufferutil beside it. Raises `NotInstalled`."""
    node = find("node", NODE_ADVICE)
    folder = (places.npm or Path(os.environ.get(NPM_FOLDER, "."))).resolve()
    versions = [npm_version(folder, wanted) for wanted in dict.fromkeys((package, "ws", "bufferutil"))]
    program = str(_SERVERS / script)

    def processes(port: int, _home: Path, pings: bool) -> list[Process]:
        return [Process(package, [node, program, str(folder), str(port), str(int(pings))], port)]

    version = f"{', '.join(versions)}, Node.js {_said(node, '--version', r'v([.0-9]+)')}"
    return System(name, version, "nothing: not stored", "bufferutil, no compression", talk, processes)


def websockets(name: str, places: Places) -> System:
    """Return a server of `websockets` on uvloop. Raises `NotInstalled`."""
    del places
    try:
        version = f"{package_version('websockets')}, uvloop {package_version('uvloop')}"
    except PackageNotFoundError as missing:
        raise NotInstalled(f"{missing.name} is not installed ({PYTHON_ADVICE})") from None

    def processes(port: int, _home: Path, pings: bool) -> list[Process]:
        command = [sys.executable, "-m", "bench.peers.servers.websockets_server", "--port", str(port)]
        return [Process("websockets", [*command, *([] if pings else ["--no-pings"])], port)]

    return System(name, version, "nothing: not stored", "broadcast(), no compression", "lines", processes)


MAKERS: dict[str, Callable[[str, Places], System]] = {
    OURS: softstate,
    "Centrifugo": partial(centrifugo, redis=False),
    "Centrifugo + Redis": partial(centrifugo, redis=True),
    "NATS KV": partial(nats, always=True),
    "NATS KV (2m sync)": partial(nats, always=False),
    "Redis": redis,
    "Socket.IO": partial(node_server, package="socket.io", script="socketio_server.js", talk="socketio"),
    "ws": partial(node_server, package="ws", script="ws_server.js", talk="lines"),
    "websockets": websockets,
}
"""The function that makes each system, by its name."""


# Programs and versions ------------------------------------------------------------------------------------------------


def _find(places: Places, program: str, advice: str) -> str:
    named = shutil.which(program, path=str(places.programs)) if places.programs is not None else None
    return named or find(program, advice)


def _said(program: str, option: str, pattern: str) -> str:
    said = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=VERSION_S_MAX).stdout
    found = re.search(pattern, said)
    if found is None:
        raise NotInstalled(f"{program} {option} printed no version, but {said[:80]!r}: install another one")
    return found[1]


def redis_version(program: str) -> str:
    """Return the version of redis-server."""
    return _said(program, "--version", r"v=([.0-9]+)")


def go_version(program: str, module: str) -> str:
    """Return the version of a program's main module, which ``go install`` writes into it; "unknown" if it is not there.

    Its own ``version`` is that of releases alone.
    """
    found = re.search(rb"\nmod\t" + re.escape(module.encode()) + rb"\tv([^\t\n]+)", Path(program).read_bytes())
    return found[1].decode() if found else "unknown"


def npm_version(folder: Path, package: str) -> str:
    """Return the name and version of an installed package of npm. Raises `NotInstalled`."""
    try:
        about = json.loads((folder / "node_modules" / package / "package.json").read_text())
    except OSError:
        raise NotInstalled(f"{package} of npm is not in {folder} ({NPM_ADVICE})") from None
    return f"{package} {about['version']}"
