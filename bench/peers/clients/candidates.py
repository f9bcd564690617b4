"""The client libraries that are compared: with which driver and server each runs, its version, how to get it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.measure.servers import NotInstalled, find
from bench.peers.systems import NODE_ADVICE, NPM_FOLDER, OURS, Places, System, node_server, npm_version, systems
from softstate import __version__
from softstate.errors import ConfigError

NPM_ADVICE = (
    "npm install --prefix FOLDER centrifuge@5 ws@8 @nats-io/transport-node@3 @nats-io/kv@3 redis@6 socket.io@4.8"
    " socket.io-client@4.8 bufferutil; then --npm FOLDER"
)
DRIVERS = Path(__file__).parent / "drivers"
NODE_WORDS = ("--experimental-websocket", "--no-warnings")
"""Node.js 20 has its WebSocket behind an option."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A client library with its server. `command` returns the command line of its driver, from a port and clients."""

    name: str
    library: str
    """The library and its version."""
    system: System
    command: Callable[[int, int], Sequence[str]]


def candidates(places: Places, bundle: Path, only: Sequence[str] = ()) -> tuple[dict[str, Candidate], list[str]]:
    """Return what is installed, by name, and a line for each other one that says how to get it.

    `bundle` is a folder with softstate.js. With `only`, those alone, by their names; raises `ConfigError` for another.
    """
    unknown = [name for name in only if name not in LIBRARIES]
    if unknown:
        raise ConfigError(f"there is no {', '.join(unknown)}: --only takes {'; '.join(LIBRARIES)}")
    servers, notes = systems(places, ("softstate", "Centrifugo", "NATS KV", "Redis"))
    try:
        servers["Socket.IO"] = _socketio(places)
    except NotInstalled as missing:
        notes.append(f"Socket.IO was left out: {missing}")
    found: dict[str, Candidate] = {}
    for name, (system, packages, words) in LIBRARIES.items():
        if system not in servers or (only and name not in only):
            continue
        try:
            library, command = _of_npm(places, packages, words) if packages else _ours(name, bundle)
        except NotInstalled as missing:
            notes.append(f"{name} was left out: {missing}")
            continue
        found[name] = Candidate(name, library, servers[system], command)
    return found, notes


LIBRARIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "softstate, Python": (OURS, (), ()),
    "softstate.js": (OURS, (), ()),
    "centrifuge-js": ("Centrifugo", ("centrifuge", "ws"), ("centrifuge.js",)),
    "nats.js": ("NATS KV", ("@nats-io/transport-node", "@nats-io/kv"), ("nats.js",)),
    "socket.io-client": ("Socket.IO", ("socket.io-client",), ("socketio.js",)),
    "node-redis": ("Redis", ("redis",), ("redis.js",)),
    "node-redis, read again": ("Redis", ("redis",), ("redis.js", "again")),
}
"""For each name: its system, its packages of npm, and its driver with an option."""


def _ours(name: str, bundle: Path) -> tuple[str, Callable[[int, int], Sequence[str]]]:
    if name == "softstate, Python":
        words = [sys.executable, "-m", "bench.peers.clients.drivers.softstate_python"]
        return f"softstate {__version__}", lambda port, clients: [*words, str(port), str(clients)]
    return f"softstate.js {__version__}", partial(_node_command, find("node", NODE_ADVICE), bundle, ("softstate.js",))


def _of_npm(
    places: Places, packages: tuple[str, ...], words: tuple[str, ...]
) -> tuple[str, Callable[[int, int], Sequence[str]]]:
    node = find("node", NODE_ADVICE)
    folder = (places.npm or Path(os.environ.get(NPM_FOLDER, "."))).resolve()
    try:
        versions = ", ".join(npm_version(folder, package) for package in packages)
    except NotInstalled as missing:
        raise NotInstalled(f"{str(missing).partition(' (')[0]} ({NPM_ADVICE})") from None
    return versions, partial(_node_command, node, folder, words)


def _node_command(node: str, folder: Path, words: tuple[str, ...], port: int, clients: int) -> list[str]:
    script, *option = words
    return [node, *NODE_WORDS, str(DRIVERS / script), str(folder), str(port), str(clients), *option]


def _socketio(places: Places) -> System:
    script = str(DRIVERS / "socketio_server.js")
    made = node_server("Socket.IO", places, package="socket.io", script=script, talk="")
    tuned = "its server keeps the newest values, and sends them to who subscribes"
    return replace(made, durable="nothing: memory", tuned=tuned)
