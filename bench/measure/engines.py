"""Store engines: throw-away ones that keep what they acknowledge, and those that a user names by a URL.

A throw-away engine listens on a free loopback port, with its files in a folder of its own that is removed at the end:

- redis: ``appendonly yes`` and ``appendfsync always``, no snapshots;
- postgres: a new cluster with the defaults of PostgreSQL, but for room for 200 connections;
- etcd: one member, defaults;
- sqlite: a file, no process.

All of them sync to the disk that temporary folders are on (``TMPDIR``). In an engine of the user's own, everything is
written into namespaces of this run's own, which are removed at the end.
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

from bench.measure.servers import LOOK_EVERY_S, START_S_MAX, Absent, ServerFailed, find, folder, running
from softstate.cli.processes.child import free_port
from softstate.errors import ConfigError
from softstate.store import open_store

CONNECTIONS = 200
"""What PostgreSQL is allowed instead of its 100: seven nodes with a pool each, and the bare writers."""
POSTGRES_PATHS = "/usr/lib/postgresql"
"""Where Debian keeps the programs of each version, out of everybody's PATH."""

_NAMESPACE_OPTION = {"redis": "namespace", "postgres": "schema", "etcd": "namespace"}
_SCHEMES = {
    "redis": "redis", "rediss": "redis", "postgresql": "postgres", "postgres": "postgres", "etcd": "etcd",
    "etcds": "etcd",
}  # fmt: skip
_TLS = ("rediss", "etcds")


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. `kind` is sqlite, redis, postgres or etcd; `about` says how it is configured.

    `mark` sets this run's writings apart from all else in the engine. `url` may hold a password; for sqlite it is the
    folder of the files. A `kept` engine is the user's own.
    """

    kind: str
    about: str
    url: str = field(repr=False)
    kept: bool = False
    mark: str = field(default_factory=lambda: f"softstate_bench_{secrets.token_hex(4)}")

    @property
    def speaks(self) -> bool:
        """Whether `bench.load.engines.native` can talk to it: it has no TLS for some, and SQLite tells nobody."""
        return self.kind != "sqlite" and self.url.partition(":")[0] not in _TLS

    @contextmanager
    def store(self, name: str) -> Iterator[str]:
        """Return the URL of a new store in it, which is deleted at the end."""
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
    """Return a URL with an option set, or replaced if it was there."""
    base, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith(f"{option}=")]
    return f"{base}?{'&'.join([*kept, f'{option}={value}'])}"


@contextmanager
def engine(store: str) -> Iterator[Engine]:
    """Run the engine of a name, or take the one that a URL names.

    Raises `Absent` when it is not installed, `ConfigError` for what is neither, `ServerFailed` when it does not start.
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
    """Make a folder for SQLite files."""
    with folder() as home:
        yield Engine("sqlite", "WAL, synchronous FULL", str(home))


@contextmanager
def redis_engine() -> Iterator[Engine]:
    """Run a Redis that syncs before it answers. Raises `Absent`."""
    program = find("redis-server", "apt install redis-server")
    _find_driver("coredis", "redis")
    with folder() as home:
        port = free_port()
        command = [
            program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--daemonize", "no",
            "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning",
        ]  # fmt: skip
        with running("redis-server", command, port, home):
            yield Engine("redis", "appendonly yes, appendfsync always", f"redis://127.0.0.1:{port}/0")


@contextmanager
def etcd_engine() -> Iterator[Engine]:
    """Run an etcd of one member. Raises `Absent`."""
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
    """Run a new cluster, as the user ``postgres`` if we are root, which PostgreSQL refuses. Raises `Absent`."""
    programs = _postgres_programs()
    _find_driver("psycopg", "postgres")
    with folder() as home:
        data, port = home / "data", free_port()
        data.mkdir()
        as_postgres: list[str] = []
        if os.geteuid() == 0:
            # The user must be found, and get at its files; setpriv leaves no process of its own in between.
            as_postgres = [find("setpriv", "apt install util-linux"), "--reuid=postgres", "--regid=postgres"]
            as_postgres.append("--clear-groups")
            home.chmod(0o755)
            shutil.chown(data, "postgres", "postgres")
        pg_ctl = [*as_postgres, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", f"{START_S_MAX:.0f}"]
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "",
            "max_connections": str(CONNECTIONS),
        }  # fmt: skip
        words = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "softstate", "-A", "trust", "-E", "UTF8"]
        _run([*as_postgres, *initdb, "--locale=C"], home)
        _run([*pg_ctl, "-l", str(data / "output.log"), "-o", words, "start"], home)
        try:
            yield Engine("postgres", "defaults", f"postgresql://softstate@127.0.0.1:{port}/postgres")
        finally:
            _run([*pg_ctl, "-m", "immediate", "stop"], home)


THROW_AWAY: Mapping[str, Callable[[], AbstractContextManager[Engine]]] = {
    "sqlite": sqlite_engine,
    "redis": redis_engine,
    "postgres": postgres_engine,
    "etcd": etcd_engine,
}
"""Engines that can be named, and how each is started."""


def _find_driver(module: str, extra: str) -> None:
    """Raise `Absent` if a package is missing that nodes need."""
    if find_spec(module) is None:
        raise Absent(f"{module} is not installed (pip install 'softstate[{extra}]')")


def _run(command: Sequence[str], home: Path) -> None:
    """Run a program that ends. Raises `ServerFailed` with what it said last."""
    # Its output goes to a file, not to a pipe, which the server that it leaves behind would keep open.
    log = home / "commands.log"
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False)
    if done.returncode != 0:
        said = log.read_text(errors="replace").strip()
        raise ServerFailed(f"{' '.join(command)} failed: {said or 'it said nothing'}")


def _postgres_programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs. Raises `Absent`."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = [path for path in Path(POSTGRES_PATHS).glob("*/bin") if re.fullmatch(r"\d+", path.parent.name)]
    if not versions:
        raise Absent("postgres is not installed (apt install postgresql)")
    return max(versions, key=lambda path: int(path.parent.name))


def _wait_for_leader(port: int) -> None:
    """Wait until etcd serves: it listens before it has elected itself. Raises `ServerFailed`."""
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
