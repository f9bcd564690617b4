"""Throw-away servers: processes of our own, on free loopback ports, with their files in a folder that is removed.

Each function is a context manager that yields once the server listens, and kills it at the end. Each candidate is
configured as its documentation advises for many quiet connections: no pings within a run, no persistence, no limit
that would cut a subscriber off. `Absent` says what is missing and how to get it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure.checkouts import THIS, Checkout
from softstate.cli.processes.child import free_port
from softstate.errors import SoftstateError

START_S_MAX = 20.0
"""How long a server may take until it listens."""
LOOK_EVERY_S = 0.02

SYSTEM_PATHS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
"""Where servers live that an ordinary user's PATH may leave out."""


class Absent(SoftstateError):
    """A program that this machine does not have; the message names it, and how to install it."""


class ServerFailed(SoftstateError):
    """A server ended, or did not listen in time; the message ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    name: str
    port: int
    pid: int
    folder: Path

    @property
    def url(self) -> str:
        """Where a softstate client finds it."""
        return f"ws://127.0.0.1:{self.port}"


@contextmanager
def softstate_server(
    *options: str, store: str = "", name: str = "softstate", checkout: Checkout = THIS
) -> Iterator[Server]:
    """Run a checkout's ``softstate serve``; `store` is "" for the default, a SQLite file (durable), or ``memory:``.

    `options` are further words of its command line. Leases, and HTTP connections that wait for their turn, last an hour
    unless they say otherwise.
    """
    with folder() as home:
        port = free_port()
        where = store or f"sqlite:{home / 'softstate.db'}"
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--store", where, *options]
        for option, patience in (("--ttl", "1h"), ("--idle-s-max", "3600")):
            if option not in options:
                words += [option, patience]
        with running(name, checkout.softstate(*words), port, home, checkout.folder) as server:
            yield server


@contextmanager
def nats_server() -> Iterator[Server]:
    """Run nats-server. Raises `Absent`."""
    program = find("nats-server", "apt install nats-server")
    with folder() as home:
        port = free_port()
        config = home / "nats.conf"
        config.write_text(f'listen: "127.0.0.1:{port}"\nmax_connections: 65536\nping_interval: "1h"\nlogtime: false\n')
        with running("nats-server", [program, "-c", str(config)], port, home) as server:
            yield server


@contextmanager
def mosquitto() -> Iterator[Server]:
    """Run mosquitto with TCP_NODELAY, as all others have it, and unlimited queues. Raises `Absent`."""
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
    """Run redis-server without persistence, pub/sub clients without output limit. Raises `Absent`."""
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
    """Run ``python -m MODULE --port PORT WORDS…``, a server of the bench's own."""
    with folder() as home:
        port = free_port()
        command = [sys.executable, "-m", module, "--port", str(port), *words]
        with running(name or module, command, port, home) as server:
            yield server


@contextmanager
def running(name: str, command: Sequence[str], port: int, home: Path, cwd: Path | None = None) -> Iterator[Server]:
    """Run a command, in the folder `cwd`, that will listen on `port`; its output goes to a file in `home`.

    Raises `ServerFailed`.
    """
    log = home / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=cwd
        )
    try:
        _wait_until_it_listens(name, process, port, log)
        yield Server(name, port, process.pid, home)
    finally:
        process.kill()
        process.wait()


def _wait_until_it_listens(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(LOOK_EVERY_S)
        else:
            return
    said = log.read_text(errors="replace").strip().rpartition("\n")[2]
    raise ServerFailed(f"{name} did not listen within {START_S_MAX:g} s: {said or 'it said nothing'}")


def find(program: str, advice: str) -> str:
    """Return the path of a program. Raises `Absent` with the advice."""
    path = shutil.which(program) or shutil.which(program, path=SYSTEM_PATHS)
    if path is None:
        raise Absent(f"{program} is not installed ({advice})")
    return path


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="softstate-bench-") as name:
        yield Path(name)
