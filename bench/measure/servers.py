"""Throw-away servers: processes on free loopback ports, with their files in a folder that is removed at the end.

Each function is a context manager that yields once the server listens, and kills it at the end. Each server is
configured as its documentation advises for many idle connections: no pings within a run, no persistence, no limit that
disconnects a subscriber. All raise `NotInstalled` if the program is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure.checkouts import THIS, Checkout
from softstate.cli.processes.child import free_port, unconfigured
from softstate.errors import SoftstateError

ANSWER_S_MAX = 30.0
"""Time within which a server must answer a GET."""
START_S_MAX = 20.0
"""Time within which a server must listen."""
LOOK_EVERY_S = 0.02

SYSTEM_PATHS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
"""Folders of servers that the PATH of an ordinary user may leave out."""


class NotInstalled(SoftstateError):
    """A program is not installed on this machine; the message names it and says how to install it."""


class ServerFailed(SoftstateError):
    """A server ended, or did not listen in time; the message ends with the last line of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    name: str
    port: int
    pid: int
    folder: Path

    def get(self, path: str) -> bytes:
        """Return the body of a GET. Raises `urllib.error.URLError`, and `HTTPError` for other answers than 2xx."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_S_MAX) as reply:
            body: bytes = reply.read()
        return body

    def counter(self, name: str) -> float:
        """Return the value of a node's counter ``softstate_NAME_total``, which has no labels."""
        return counter_in(self.get("/metrics").decode(), name)


def count_lost(server: Server, acknowledged: Mapping[str, int]) -> int:
    """Return the number of topics whose value, a number, is lower at a node than the newest acknowledged one."""
    return sum(int(json.loads(server.get(f"/v1/topics/{topic}"))) < number for topic, number in acknowledged.items())


def counter_in(metrics: str, name: str) -> float:
    """Return the value of a counter in the text of ``/metrics``. Raises `ServerFailed` if it is not there."""
    found = re.search(rf"^softstate_{name}_total (\S+)$", metrics, re.MULTILINE)
    if found is None:
        raise ServerFailed(f"/metrics has no softstate_{name}_total: this bench needs a node that counts it")
    return float(found[1])


@contextmanager
def softstate_server(
    *options: str, store: str = "", name: str = "softstate", checkout: Checkout = THIS
) -> Iterator[Server]:
    """Run a checkout's ``softstate serve``; `store` is a URL, or "" for the default, a SQLite file (durable).

    `options` are further words of its command line. Without options that say otherwise, leases and idle HTTP
    connections last an hour.
    """
    with folder() as home:
        port = free_port()
        where = store or f"sqlite:{home / 'softstate.db'}"
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--store", where, *options]
        for option, hour in (("--ttl", "1h"), ("--idle-s-max", "3600")):
            if option not in options:
                words += [option, hour]
        # Its port is open as soon as the first of several workers listens; it announces itself once all do.
        with running(name, checkout.softstate(*words), port, home, checkout.folder, "softstate listens") as server:
            yield server


@contextmanager
def nats_server() -> Iterator[Server]:
    """Run nats-server. Raises `NotInstalled`."""
    program = find("nats-server", "apt install nats-server")
    with folder() as home:
        port = free_port()
        config = home / "nats.conf"
        config.write_text(f'listen: "127.0.0.1:{port}"\nmax_connections: 65536\nping_interval: "1h"\nlogtime: false\n')
        with running("nats-server", [program, "-c", str(config)], port, home) as server:
            yield server


@contextmanager
def mosquitto() -> Iterator[Server]:
    """Run mosquitto with TCP_NODELAY, as the others have it, and unlimited queues. Raises `NotInstalled`."""
    program = find("mosquitto", "apt install mosquitto")
    with folder() as home:
        port = free_port()
        lines = [
            f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false", "set_tcp_nodelay true",
            "max_queued_messages 0", "max_queued_bytes 0", "log_type error",
        ]  # fmt: skip
        if os.geteuid() == 0:
            lines.append("user root")
        config = home / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with running("mosquitto", [program, "-c", str(config)], port, home) as server:
            yield server


@contextmanager
def redis_server() -> Iterator[Server]:
    """Run redis-server without persistence and without output limit of subscribers. Raises `NotInstalled`."""
    program = find("redis-server", "apt install redis-server")
    with folder() as home:
        port = free_port()
        command = [
            program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--daemonize", "no",
            "--save", "", "--appendonly", "no", "--maxclients", "19900", "--timeout", "0", "--tcp-keepalive", "0",
            "--client-output-buffer-limit", "pubsub 0 0 0", "--loglevel", "warning",
        ]  # fmt: skip
        with running("redis-server", command, port, home) as server:
            yield server


@contextmanager
def python_server(module: str, *words: str, name: str = "") -> Iterator[Server]:
    """Run ``python -m MODULE --port PORT WORDS…``, a server that is part of the bench."""
    with folder() as home:
        port = free_port()
        command = [sys.executable, "-m", module, "--port", str(port), *words]
        with running(name or module, command, port, home) as server:
            yield server


@contextmanager
def running(
    name: str, command: Sequence[str], port: int, home: Path, cwd: Path | None = None, announcement: str = ""
) -> Iterator[Server]:
    """Run a command, in the folder `cwd`, that will listen on `port`; its output goes to a file in `home`.

    Variables that configure softstate are not passed on. It is ready once it listens and has printed `announcement`.
    Raises `ServerFailed`.
    """
    log = home / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=cwd,
            env=unconfigured(),
        )  # fmt: skip
    try:
        _wait_until_it_listens(name, process, port, log, announcement)
        yield Server(name, port, process.pid, home)
    finally:
        process.kill()
        process.wait()


def _wait_until_it_listens(
    name: str, process: subprocess.Popen[bytes], port: int, log: Path, announcement: str
) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(LOOK_EVERY_S)
            continue
        if announcement in log.read_text(errors="replace"):
            return
        time.sleep(LOOK_EVERY_S)
    said = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise ServerFailed(f"{name} did not listen within {START_S_MAX:g} s: {said or 'it printed nothing'}")


def find(program: str, advice: str) -> str:
    """Return the path of a program. Raises `NotInstalled`, with `advice` how to install it."""
    path = shutil.which(program) or shutil.which(program, path=SYSTEM_PATHS)
    if path is None:
        raise NotInstalled(f"{program} is not installed ({advice})")
    return path


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="softstate-bench-") as name:
        yield Path(name)
