"""Other systems for `bench recovery`: how they are started, each as its documentation advises for a durable node.

Their programs are looked for in the folder of ``--peers``, on PATH, and where packages put servers. One that is not
there is left out, and a note says how to get it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.load.peer_protocols import CHANNEL, PROTOCOLS
from bench.measure.servers import NotInstalled, find
from bench.speed.recovery.crash import Herd, System

ADVICE = {
    "centrifugo": "go install github.com/centrifugal/centrifugo/v6@latest",
    "nats": "go install github.com/nats-io/nats-server/v2@latest",
}
PROGRAMS = {"centrifugo": "centrifugo", "nats": "nats-server"}
NATS_LEAST = (2, 10)
"""The version of nats-server from which on it can sync each publish to the disk."""
VERSION_S_MAX = 10.0
NAMES = {"centrifugo": "Centrifugo", "nats": "NATS KV"}


def peer_systems(folder: Path | None) -> tuple[dict[str, System], list[str]]:
    """Return the systems that are installed, by name, and notes about the others."""
    systems, notes = {}, []
    for key, command in COMMANDS.items():
        try:
            program = _program(folder, key)
        except NotInstalled as missing:
            notes.append(f"{NAMES[key]} was left out: {missing}; then --peers FOLDER")
            continue
        systems[NAMES[key]] = System(
            partial(command, program),
            load="bench.load.peers",
            options={"system": key},
            publishing=PROTOCOLS[key]().publishing,
            own=False,
        )
    return systems, notes


def _program(folder: Path | None, key: str) -> str:
    path = shutil.which(PROGRAMS[key], path=str(folder)) if folder is not None else None
    path = path or find(PROGRAMS[key], ADVICE[key])
    if key == "nats":
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=VERSION_S_MAX)
        found = re.search(r"v(\d+)\.(\d+)", said.stdout)
        if found is None or (int(found[1]), int(found[2])) < NATS_LEAST:
            raise NotInstalled(f"{path} is older than 2.10, which first synced each publish ({ADVICE[key]})")
    return path


def centrifugo(program: str, port: int, home: Path, _herd: Herd) -> Sequence[str]:
    """Return the command line of Centrifugo with its engine in memory, and a namespace that keeps its newest value."""
    namespace = {
        "name": CHANNEL, "history_size": 10, "history_ttl": "1h", "force_recovery": True,
        "force_recovery_mode": "cache", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
    }  # fmt: skip
    config = {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "http_api": {"insecure": True},
        "client": {"insecure": True, "allow_anonymous_connect_without_token": True, "allowed_origins": ["*"]},
        "channel": {"namespaces": [namespace]},
        "log": {"level": "error"},
    }
    file = home / "centrifugo.json"
    file.write_text(json.dumps(config))
    return [program, "--config", str(file)]


def nats(program: str, port: int, home: Path, _herd: Herd) -> Sequence[str]:
    """Return the command line of nats-server with JetStream, which writes each publish to the disk."""
    file = home / "nats.conf"
    file.write_text(
        f'listen: "127.0.0.1:{port}"\nmax_connections: 65536\nlogtime: false\n'
        f'jetstream {{ store_dir: "{home}", sync_interval: always }}\n'
    )
    return [program, "-c", str(file)]


COMMANDS: dict[str, Callable[[str, int, Path, Herd], Sequence[str]]] = {"centrifugo": centrifugo, "nats": nats}
"""Command lines, from a program, a port and a folder for files."""
