"""A pooler between a store and PostgreSQL: one of transactions is refused at open, one of sessions is not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.store.postgres.errors import explain
from softstate.store.postgres.store import PostgresStore
from softstate.testing.conformance.stage import put, state
from tests.kit.engines import missing
from tests.kit.pooler import Pooler, Session, pooling
from tests.kit.processes import WAIT_S, until
from tests.store.engines.postgres_rig import DATABASE, PASSWORD, ROLE, PostgresBackend, PostgresServer, server_user
from tests.store.engines.rig import free_port

SCHEMAS = count()

REFUSED = "a pooler in front of it .PgBouncer.* gives each transaction another session.*pool_mode = session"


def behind(backend: PostgresBackend, port: int) -> str:
    return backend.url.replace(f":{backend.server.port}", f":{port}")


def tables(backend: PostgresBackend) -> int:
    rows = backend.server.execute(
        f"SELECT count(*) FROM pg_tables WHERE schemaname = '{backend.schema}'", database=DATABASE
    )
    return int(rows[0][0])


def scripted(backend: PostgresBackend, **how: object) -> Pooler:
    return Pooler(backend.server.folder, backend.server.port, **how)  # type: ignore[arg-type]


def last_freed(free: deque[Session]) -> Session:
    return free.pop()


def first_freed(free: deque[Session]) -> Session:
    return free.popleft()


@pytest.mark.parametrize("pick", [last_freed, first_freed])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("reset_always", [False, True])
async def test_a_pooler_of_transactions_is_refused(
    backend: PostgresBackend, size: int, pick: Callable[[deque[Session]], Session], reset_always: bool
) -> None:
    """However many sessions it has, whichever it gives away first: nothing is made on the server."""
    async with pooling(scripted(backend, size=size, pick=pick, reset_always=reset_always)) as pooler:
        with pytest.raises(StoreRefused, match=REFUSED) as caught:
            await PostgresStore.open(behind(backend, pooler.port))
    assert PASSWORD not in repr(caught.value)
    assert tables(backend) == 0


@pytest.mark.parametrize("others", [1, 3])
async def test_a_pooler_of_transactions_that_serves_others_is_refused(backend: PostgresBackend, others: int) -> None:
    """Other clients have made it open several sessions already, and some of these are busy."""
    async with pooling(scripted(backend, size=others + 2, pick=first_freed)) as pooler:
        busy = [await trio.to_thread.run_sync(connect, pooler.port) for _ in range(others)]
        try:
            for connection in busy:
                await trio.to_thread.run_sync(connection.execute, "BEGIN")
            with pytest.raises(StoreRefused, match=REFUSED):
                await PostgresStore.open(behind(backend, pooler.port))
        finally:
            for connection in busy:
                await trio.to_thread.run_sync(connection.close)


def connect(port: int) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host="127.0.0.1", port=port, user=ROLE, password=PASSWORD, dbname=DATABASE, autocommit=True, sslmode="disable"
    )


async def test_a_pooler_of_statements_is_refused(backend: PostgresBackend) -> None:
    """It says so itself, with SQLSTATE 08P01."""
    async with pooling(scripted(backend, mode="statement", size=4)) as pooler:
        with pytest.raises(StoreRefused, match="gives each transaction another session"):
            await PostgresStore.open(behind(backend, pooler.port))
    assert tables(backend) == 0


async def test_a_pooler_of_sessions_is_accepted(backend: PostgresBackend) -> None:
    async with pooling(scripted(backend, mode="session", size=4)) as pooler:
        store = await PostgresStore.open(behind(backend, pooler.port))
        for number in range(12):
            await put(store, f"a/{number}")
        assert len(await state(store)) == 12
        await store.reopen()
        await store.aclose()


async def test_a_pooler_with_one_session_leaves_the_store_that_one(backend: PostgresBackend) -> None:
    """A second connection never gets a session, which tells nothing of how they are pooled."""
    async with pooling(scripted(backend, mode="session", size=1)) as pooler:
        store = await PostgresStore.open(behind(backend, pooler.port))
        await put(store, "a")
        with pytest.raises(Unavailable):
            await store.head()
        await store.aclose()


async def test_a_pooler_that_changes_its_mode_is_told_from_a_server_in_trouble(backend: PostgresBackend) -> None:
    """While a store runs nothing is refused for good: publishes fail and say why, and reopening refuses."""
    async with pooling(scripted(backend, mode="session", size=6)) as pooler:
        store = await PostgresStore.open(behind(backend, pooler.port))
        await put(store, "a")
        pooler.mode = "transaction"
        with pytest.raises(StoreRefused, match=REFUSED):
            await store.reopen()
        pooler.mode = "session"
        await store.reopen()
        assert "a" in await state(store)
        await store.aclose()


@pytest.mark.parametrize(
    "error", [psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement,
              psycopg.errors.ProtocolViolation]
)  # fmt: skip
def test_errors_of_a_mix_up_say_the_same(error: type[psycopg.Error]) -> None:
    said = 'prepared statement "_pg3_1" already exists'
    for opening, kind in ((True, StoreRefused), (False, Unavailable)):
        found = explain(error(said), "postgresql://h/d", opening=opening)
        assert type(found) is kind
        assert f"postgresql://h/d: {said}: a pooler in front of it" in str(found)
        assert "pool_mode = session" in str(found)


@pytest.mark.parametrize("said", ["query_wait_timeout", "server conn crashed?", "server login has been failing"])
def test_a_pooler_without_a_session_may_pass(said: str) -> None:
    found = explain(psycopg.errors.ProtocolViolation(said), "postgresql://h/d", opening=True)
    assert type(found) is Unavailable
    assert "no session for us: see its log" in str(found)


# PgBouncer itself ----------------------------------------------------------------------------------------------------


class PgBouncer:
    """One process, which pools as its settings say."""

    def __init__(self, server: PostgresServer, folder: Path, settings: str) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            missing("PgBouncer is not installed: run .dev/engines")
        self.port = free_port()
        self._log = folder / "log"
        (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{DATABASE} = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = md5\nauth_file = {folder}/users.txt\n{settings}"
        )
        server.own(folder)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, folder / "pgbouncer.ini"], stdout=log, stderr=log, user=server_user(), cwd=folder
            )
        until("PgBouncer answers", self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            connect(self.port).close()
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)


@pytest.fixture
def bouncer(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[PgBouncer]:
    folder = server.folder / f"pgbouncer-{next(SCHEMAS)}"
    folder.mkdir()
    bouncer = PgBouncer(server, folder, request.param)
    try:
        yield bouncer
    finally:
        bouncer.close()


@pytest.mark.parametrize(
    "bouncer",
    [
        "pool_mode = transaction\ndefault_pool_size = 1\n",
        "pool_mode = transaction\n",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 5\n",
        "pool_mode = transaction\nserver_reset_query_always = 1\n",
        "pool_mode = statement\n",
    ],
    indirect=True,
)
async def test_pgbouncer_is_refused(backend: PostgresBackend, bouncer: PgBouncer) -> None:
    with pytest.raises(StoreRefused, match=REFUSED):
        await PostgresStore.open(behind(backend, bouncer.port))
    assert tables(backend) == 0


@pytest.mark.parametrize("bouncer", ["pool_mode = session\n"], indirect=True)
async def test_pgbouncer_pooling_sessions_is_accepted(backend: PostgresBackend, bouncer: PgBouncer) -> None:
    stores = [await PostgresStore.open(behind(backend, bouncer.port)) for _ in range(2)]
    for number in range(12):
        for store in stores:
            await put(store, f"{id(store)}/{number}")
    assert len(await state(stores[0])) == 24
    for store in stores:
        await store.aclose()
