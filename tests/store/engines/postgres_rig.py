"""A real PostgreSQL server for tests, with a database and a role of softstate's own. See `tests.store.engines.rig`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import trio
from psycopg import sql

from softstate.errors import SoftstateError
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import KEYS_MAX
from softstate.store.postgres.store import PostgresStore
from tests.kit.engines import missing
from tests.kit.processes import until
from tests.store.engines.rig import WAIT_S, free_port

PASSWORD = "tell-nobody-7391"
ROLE = "softstate"
DATABASE = "softstate_tests"
SCHEMA = "softstate"

_CONFIG = """
listen_addresses = '127.0.0.1'
max_connections = 40
max_wal_senders = 4
max_prepared_transactions = 4
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
"""


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs; skip the test if there is none, unless engines are required."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        missing("PostgreSQL is not installed: run .dev/engines")
    return (found[-1] if found else Path(str(on_path))).parent


def server_user() -> str | None:
    """Return the user to run a server as: PostgreSQL refuses to run as root. None: as ourselves."""
    return "postgres" if os.geteuid() == 0 else None


def _runs(pid: int) -> bool:
    """Tell whether a process exists, and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class PostgresServer:
    """One server: its data under `folder`, on a port of its own. Everything here blocks, with a bound."""

    def __init__(self, folder: Path, *, port: int | None = None, encoding: str = "UTF8") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self._encoding = encoding
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        """Run one of PostgreSQL's programs; return its output."""
        done = subprocess.run(
            [binaries() / program, *arguments], input=stdin, capture_output=True, timeout=WAIT_S, user=server_user(),
            cwd=self.folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )  # fmt: skip
        assert done.returncode == 0, (program, arguments, done.stdout, done.stderr)
        return done.stdout

    def create(self) -> None:
        """Make an empty cluster. The administrator is let in over the socket, all others by password over TCP."""
        self.run(
            "initdb", "-D", self.data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E",
            self._encoding, "--locale=C", "--no-sync",
        )  # fmt: skip
        self.configure(f"{_CONFIG}unix_socket_directories = '{self.folder}'")
        with (self.data / "pg_hba.conf").open("a") as access:
            access.write("local replication postgres trust\n")

    def configure(self, lines: str) -> None:
        """Add to the configuration; the last word on a setting counts."""
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(f"{lines}\n")

    def furnish(self) -> None:
        """Make softstate's role and database."""
        self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        self.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    def start(self, *settings: str) -> None:
        """Start the server, and return once it answers."""
        options = [f"-c{setting}" for setting in (f"port={self.port}", *settings)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, *options], stdout=log, stderr=log, user=server_user(),
                cwd=self.folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            )  # fmt: skip
        until(f"PostgreSQL answers; see {self.folder}/log", self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text()[-2000:])
        with suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False

    def processes(self) -> list[int]:
        """List the server and its children, each of which has a process group of its own."""
        assert self._process is not None
        parent = self._process.pid
        found = [parent]
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(folder.name))
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill it with SIGKILL, all its processes. Does nothing when it does not run."""
        if self._process is not None:
            # Stopped first, or the children would see their parent die and go in peace, or new ones come.
            self.signal(signal.SIGSTOP)
            processes = self.processes()
            self.signal(signal.SIGKILL)
            self._process.wait(WAIT_S)
            self._process = None
            # Until then they hold its shared memory, and it cannot be started again.
            until("all processes of PostgreSQL have ended", lambda: not any(map(_runs, processes)))

    def stop(self) -> None:
        """Shut it down as an operator would, cutting connections."""
        self.run("pg_ctl", "stop", "-D", self.data, "-m", "fast", "-w")
        assert self._process is not None
        self._process.wait(WAIT_S)
        self._process = None

    def replace_data(self, source: Path) -> None:
        """Put a copy of a data folder in place of ours, while the server does not run."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.own(shutil.copytree(source, self.data))

    def own(self, folder: Path) -> None:
        """Give a folder to the user that the server runs as."""
        user = server_user()
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        folder.chmod(0o700)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the administrator."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )

    def execute(self, statement: str, *, database: str = "postgres") -> Sequence[tuple[Any, ...]]:
        """Run one statement as the administrator; return its rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else ()

    def change_setting(self, setting: str, value: str) -> None:
        """Set something for all sessions, and return once new ones have it."""
        self.execute(f"ALTER SYSTEM SET {setting} = {value}")
        self.execute("SELECT pg_reload_conf()")
        until(f"{setting} is {value}", lambda: self.execute(f"SHOW {setting}") == [(value.strip("'"),)])


@contextmanager
def running_server(*, encoding: str = "UTF8") -> Iterator[PostgresServer]:
    """Run a new server for the length of a block, and leave nothing behind."""
    binaries()
    # Not pytest's folder: no other user may look into that.
    folder = Path(tempfile.mkdtemp(prefix="softstate-postgres-"))
    server = PostgresServer(folder, encoding=encoding)
    try:
        server.own(folder)
        server.create()
        server.start()
        server.furnish()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


class PostgresBackend:
    """One schema of a server. `snapshot` and `restore` are pg_dump and psql, as an operator would use them."""

    def __init__(self, server: PostgresServer, schema: str = SCHEMA) -> None:
        self.server = server
        self.schema = schema
        self.url = f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{server.port}/{DATABASE}?schema={schema}"
        self.opened: list[PostgresStore] = []

    async def open(self, *, keys_max: int = KEYS_MAX) -> PostgresStore:
        store = await PostgresStore.open(self.url, keys_max=keys_max)
        self.opened.append(store)
        return store

    async def open_to_read(self) -> PostgresStore:
        store = await PostgresStore.open(self.url, read_only=True)
        self.opened.append(store)
        return store

    def tell(self, statement: str) -> Sequence[tuple[Any, ...]]:
        """Run SQL as the administrator, with the schema's name in place of each SCHEMA; return its rows."""
        return self.server.execute(statement.replace("SCHEMA", f'"{self.schema}"'), database=DATABASE)

    async def close_stores(self) -> None:
        """Close every store that was opened here."""
        for store in self.opened:
            await store.aclose()

    async def snapshot(self) -> bytes:
        return await trio.to_thread.run_sync(
            lambda: self.server.run("pg_dump", *self._administrator(), "--schema", f'"{self.schema}"')
        )

    async def restore(self, snapshot: Any) -> None:
        drop = f'DROP SCHEMA "{self.schema}" CASCADE;'
        arguments = (*self._administrator(), "--set", "ON_ERROR_STOP=1", "--single-transaction", "--quiet", "-c", drop)
        await trio.to_thread.run_sync(lambda: self.server.run("psql", *arguments, "-f", "-", stdin=snapshot))

    def _administrator(self) -> Sequence[str]:
        return "-h", str(self.server.folder), "-p", str(self.server.port), "-U", "postgres", "-d", DATABASE

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as another program would, to publish directly; its search_path does not know of softstate."""
        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, user=ROLE, password=PASSWORD, dbname=DATABASE, connect_timeout=5
        )

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one of the schema's functions in a transaction of its own; return what it returns."""
        with self.connect() as connection:
            return call(connection, self.schema, function, *arguments)

    async def publish_directly(self, topic: str, json: str | None) -> None:
        """Publish JSON text, or delete, as another program would that wants the version: the head moves at once."""
        if json is None:
            await trio.to_thread.run_sync(lambda: self.call("delete_now", topic))
        else:
            await trio.to_thread.run_sync(lambda: self.call("publish_now", topic, json))

    async def send(self, topic: str, json: str | None) -> None:
        """Publish JSON text, or delete, as most programs do: by way of the inbox."""
        if json is None:
            await trio.to_thread.run_sync(lambda: self.call("delete", topic))
        else:
            await trio.to_thread.run_sync(lambda: self.call("publish", topic, json))


def call(connection: psycopg.Connection[tuple[Any, ...]], schema: str, function: str, *arguments: Any) -> Any:
    """Call one of a schema's functions within a transaction."""
    holes = sql.SQL(", ").join([sql.Placeholder()] * len(arguments))
    statement = sql.SQL("SELECT {}.{}({})").format(sql.Identifier(schema), sql.Identifier(function), holes)
    row = connection.execute(statement, arguments).fetchone()
    assert row is not None
    return row[0]


class PostgresRig(PostgresBackend):
    """A server of its own, for tests of faults. Implements `tests.store.engines.rig.Rig`."""

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[PostgresRig]:
        """Run one for the length of a block."""
        with running_server() as server:
            yield cls(server)

    async def start(self) -> None:
        await trio.to_thread.run_sync(self.server.start)

    async def kill(self) -> None:
        await trio.to_thread.run_sync(self.server.kill)

    def freeze(self) -> None:
        self.server.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.server.signal(signal.SIGCONT)

    async def backup(self) -> Path:
        """Copy the whole cluster with pg_basebackup, while it runs."""
        target = self.server.folder / f"backup-{len(list(self.server.folder.iterdir()))}"
        arguments = ("-h", self.server.folder, "-p", str(self.server.port), "-U", "postgres", "-D", target)
        await trio.to_thread.run_sync(
            lambda: self.server.run("pg_basebackup", *arguments, "--checkpoint=fast", "--no-sync")
        )
        return target

    async def restore(self, backup: Any) -> None:
        """Stop, replace the whole cluster by a copy of a backup, start; or put a `snapshot` back while it runs."""
        if isinstance(backup, bytes):
            await super().restore(backup)
            return

        def restore() -> None:
            self.server.stop()
            self.server.replace_data(backup)
            self.server.start()

        await trio.to_thread.run_sync(restore)

    async def wipe(self) -> None:
        """Stop, make an empty cluster in place of the old, start."""

        def wipe() -> None:
            self.server.stop()
            shutil.rmtree(self.server.data)
            self.server.create()
            self.server.start()
            self.server.furnish()

        await trio.to_thread.run_sync(wipe)

    async def fail_over(self, standby: PostgresServer) -> None:
        """Kill the server, and put a standby in its place, on the same port, as primary from then on."""

        def fail_over() -> None:
            self.server.kill()
            standby.kill()
            standby.port = self.server.port
            standby.start()
            standby.execute("SELECT pg_promote()")
            self.server = standby

        await trio.to_thread.run_sync(fail_over)

    @contextmanager
    def standby(self) -> Iterator[PostgresServer]:
        """Run a standby that follows this server, until it is killed or the block ends."""
        folder = Path(tempfile.mkdtemp(prefix="softstate-standby-"))
        standby = PostgresServer(folder)
        primary = self.server
        try:
            standby.own(folder)
            arguments = ("-h", primary.folder, "-p", str(primary.port), "-U", "postgres", "-D", standby.data)
            standby.run("pg_basebackup", *arguments, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
            standby.configure(f"unix_socket_directories = '{folder}'")
            standby.start()
            yield standby
        finally:
            standby.kill()
            shutil.rmtree(folder)

    async def refuse_writes(self, *, on: bool) -> None:
        value = "on" if on else "off"
        await trio.to_thread.run_sync(lambda: self.server.change_setting("default_transaction_read_only", value))

    async def aclose(self) -> None:
        await self.kill()


async def asked(store: PostgresStore, witness: Position) -> Page | SoftstateError:
    """Read everything as a client does that has seen a position; return the page, or the error for that client."""
    (answer,) = await store.read([Query(prefixes={ALL: 0}, witness=witness)])
    assert isinstance(answer, Page | SoftstateError)
    return answer
