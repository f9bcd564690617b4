"""Store engines: throw-away ones that are durable, and those that a user names by a URL.

A throw-away engine listens on a free loopback port, with its files in a folder that is removed at the end:

- redis: ``appendonly yes`` and ``appendfsync always``, no snapshots;
- postgres: a new cluster with the defaults of PostgreSQL, except for 200 connections;
- etcd: one member, defaults;
- sqlite: a file, no process.

All of them sync to the disk of temporary folders (``TMPDIR``). In an engine that the user names, this run writes to
namespaces of its own only, and removes them at the end.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import trio

from bench.measure.servers import LOOK_EVERY_S, START_S_MAX, NotInstalled, ServerFailed, find, folder, running
from softstate.cli.processes.child import free_port
from softstate.errors import ConfigError
from softstate.store import open_store

CONNECTIONS = 200
"""Limit of PostgreSQL's connections, 100 by default: seven nodes with a pool each, and the bare writers."""
POSTGRES_PATHS = "/usr/lib/postgresql"
"""Debian's folder for the programs of all versions, which is not in PATH."""

_NAMESPACE_OPTION = {"redis": "namespace", "postgres": "schema", "etcd": "namespace"}
_SCHEMES = {
    "redis": "redis", "rediss": "redis", "postgresql": "postgres", "postgres": "postgres", "etcd": "etcd",
    "etcds": "etcd",
}  # fmt: skip
_TLS = ("rediss", "etcds")


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. `kind` is sqlite, redis, postgres or etcd; `about` describes its configuration.

    All names that this run writes begin with `mark`. `url` may contain a password; for sqlite it is the folder of the
    files. `kept`: the user named it, so it is left as it was.
    """

    kind: str
    about: str
    url: str = field(repr=False)
    kept: bool = False
    process: int = 0
    """The process of a throw-away engine, whose children belong to it; 0: none."""
    mark: str = field(default_factory=lambda: f"softstate_bench_{secrets.token_hex(4)}")

    @property
    def has_native(self) -> bool:
        """Whether `bench.load.engines.native` can load it: that has no TLS, and SQLite does not notify."""
        return self.kind != "sqlite" and self.url.partition(":")[0] not in _TLS

    @contextmanager
    def store(self, name: str) -> Iterator[str]:
        """Yield the URL of a new store in the engine; delete the store at the end."""
        if self.kind == "sqlite":
            yield f"sqlite:{self.url}/{name}.db"
            return
        url = with_option(self.url, _NAMESPACE_OPTION[self.kind], f"{self.mark}_{name}")
        try:
            yield url
        finally:
            if self.kept:
                trio.run(_destroy, url)


async def _destroy(url: str) -> None:
    store = await open_store(url)
    await store.destroy()


def with_option(url: str, option: str, value: str) -> str:
    """Return a URL with an option added or replaced."""
    base, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith(f"{option}=")]
    return f"{base}?{'&'.join([*kept, f'{option}={value}'])}"


@contextmanager
def engine(store: str) -> Iterator[Engine]:
    """Run the throw-away engine of a name, or use the one that a URL names.

    Raises `NotInstalled`, `ConfigError` if `store` is neither a name nor a URL of an engine, and `ServerFailed` if the
    engine does not start.
    """
    if store in THROW_AWAY:
        with THROW_AWAY[store]() as started:
            yield started
        return
    kind = _SCHEMES.get(store.partition("://")[0]) if "://" in store else None
    if kind is None:
        raise ConfigError(
            f"--store must be one of {', '.join(THROW_AWAY)}, or a URL that begins with one of"
            f" {', '.join(f'{scheme}://' for scheme in _SCHEMES)}; TMPDIR says where sqlite and all others keep files"
        )
    yield Engine(kind, "as its owner has configured it", store, kept=True)


@contextmanager
def sqlite_engine() -> Iterator[Engine]:
    """Make a folder for SQLite files; remove it at the end."""
    with folder() as home:
        yield Engine("sqlite", "WAL, synchronous FULL", str(home))


@contextmanager
def redis_engine() -> Iterator[Engine]:
    """Run a Redis that syncs before it answers. Raises `NotInstalled`."""
    program = find("redis-server", "apt install redis-server")
    _find_driver("coredis", "redis")
    with folder() as home:
        port = free_port()
        command = [
            program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--daemonize", "no",
            "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning",
        ]  # fmt: skip
        with running("redis-server", command, port, home) as server:
            url = f"redis://127.0.0.1:{port}/0"
            yield Engine("redis", "appendonly yes, appendfsync always", url, process=server.pid)


@contextmanager
def etcd_engine() -> Iterator[Engine]:
    """Run an etcd of one member. Raises `NotInstalled`."""
    program = find("etcd", "apt install etcd-server")
    with folder() as home:
        port, peer = free_port(), f"http://127.0.0.1:{free_port()}"
        client = f"http://127.0.0.1:{port}"
        command = [
            program, "--data-dir", str(home / "data"), "--logger", "zap", "--log-level", "error",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        ]  # fmt: skip
        with running("etcd", command, port, home):
            _wait_for_leader(port)
            yield Engine("etcd", "one member, defaults", f"etcd://127.0.0.1:{port}")


@contextmanager
def postgres_engine() -> Iterator[Engine]:
    """Run a new cluster, as ``postgres`` if the bench runs as root, whom PostgreSQL refuses. Raises `NotInstalled`."""
    programs = _postgres_programs()
    _find_driver("psycopg", "postgres")
    with folder() as home:
        data, port = home / "data", free_port()
        data.mkdir()
        as_postgres: list[str] = []
        if os.geteuid() == 0:
            # That user must have access to the folder. setpriv execs, so the process that is started is PostgreSQL's.
            as_postgres = [find("setpriv", "apt install util-linux"), "--reuid=postgres", "--regid=postgres"]
            as_postgres.append("--clear-groups")
            home.chmod(0o755)
            shutil.chown(data, "postgres", "postgres")
        pg_ctl = [*as_postgres, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", f"{START_S_MAX:.0f}"]
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "",
            "max_connections": str(CONNECTIONS), "dynamic_shared_memory_type": "mmap",
        }  # fmt: skip
        words = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "softstate", "-A", "trust", "-E", "UTF8"]
        _run([*as_postgres, *initdb, "--locale=C"], home)
        _run([*pg_ctl, "-l", str(data / "output.log"), "-o", words, "start"], home)
        try:
            process = int((data / "postmaster.pid").read_text().splitlines()[0])
            yield Engine("postgres", "defaults", f"postgresql://softstate@127.0.0.1:{port}/postgres", process=process)
        finally:
            _run([*pg_ctl, "-m", "immediate", "stop"], home)


THROW_AWAY: Mapping[str, Callable[[], AbstractContextManager[Engine]]] = {
    "sqlite": sqlite_engine,
    "redis": redis_engine,
    "postgres": postgres_engine,
    "etcd": etcd_engine,
}
"""Throw-away engines by name."""


def _find_driver(module: str, extra: str) -> None:
    """Raise `NotInstalled` if a package is missing that nodes need."""
    if find_spec(module) is None:
        raise NotInstalled(f"{module} is not installed (pip install 'softstate[{extra}]')")


def _run(command: Sequence[str], home: Path) -> None:
    """Run a program to its end. Raises `ServerFailed` with its output."""
    # The output goes to a file: a pipe would be kept open by the server that pg_ctl starts.
    log = home / "commands.log"
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False)
    if done.returncode != 0:
        said = log.read_text(errors="replace").strip()
        raise ServerFailed(f"{' '.join(command)} failed: {said or 'it printed nothing'}")


def _postgres_programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs. Raises `NotInstalled`."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = [path for path in Path(POSTGRES_PATHS).glob("*/bin") if re.fullmatch(r"\d+", path.parent.name)]
    if not versions:
        raise NotInstalled("postgres is not installed (apt install postgresql)")
    return max(versions, key=lambda path: int(path.parent.name))


def _wait_for_leader(port: int) -> None:
    """Wait until etcd has a leader, which is after it listens. Raises `ServerFailed`."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=START_S_MAX) as reply:
                if b'"true"' in reply.read():
                    return
        except OSError:
            pass
        time.sleep(LOOK_EVERY_S)
    raise ServerFailed(f"etcd had no leader within {START_S_MAX:g} s")
