"""Opening a PostgreSQL store: the URL, credentials, privileges, what is not ours, and what every refusal says."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import trio

from softstate.errors import ConfigError, SoftstateError, StoreMissing, StoreRefused, Unavailable
from softstate.store.base import Dump
from softstate.store.postgres.store import CONNECTIONS_MAX, PostgresStore
from softstate.store.postgres.url import read_address
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put, state
from tests.kit.processes import WAIT_S, until
from tests.store.engines.postgres_rig import DATABASE, PASSWORD, ROLE, PostgresBackend, PostgresServer, call

NUMBERS = count()


async def refused(url: str, words: str, kind: type[SoftstateError] = StoreRefused) -> SoftstateError:
    with pytest.raises(kind, match=words) as caught:
        await PostgresStore.open(url)
    assert PASSWORD not in repr(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return caught.value


# The URL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/d?shema=a", "unknown option 'shema'; there are application_name, .*, schema, .*, sslcert"),
        ("postgresql://h/d?host=other", "unknown option 'host'"),
        ("postgresql://h/d?password=x", "unknown option 'password'"),
        ("postgresql://h/d?schema=", "schema must be 1 to 63 bytes and not begin with 'pg_', not ''"),
        ("postgresql://h/d?schema=pg_toast", "schema must be 1 to 63 bytes"),
        ("postgresql://h/d?schema=" + "x" * 64, "schema must be 1 to 63 bytes"),
        ("postgresql://h/d?connect_timeout=soon", "connect_timeout must be a number of at least 1, not 'soon'"),
        ("postgresql://h/d?connect_timeout=0", "connect_timeout must be a number of at least 1, not '0'"),
        ("postgresql://h/d?connect_timeout=3601", "connect_timeout must be at most 3600, not 3601"),
        ("postgresql://h/d?schema=%00", "schema must not hold a NUL"),
        ("postgresql://h/d?options=\ud800", "options must be valid Unicode"),
        ("postgresql://%2Ftmp%00/d", "the host must not hold a NUL"),
        ("postgresql://a%2Cb/d", "host 'a%2Cb' is no name or address"),
        ("postgresql://a..b/d", r"host 'a\.\.b' is no name or address"),
        ("postgresql:///d", "'' is not HOST or HOST:PORT"),
    ],
)
async def test_wrong_urls(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await PostgresStore.open(url)


def test_the_url_reaches_libpq() -> None:
    address = read_address(
        "postgresql://me:p%40ss@[::1]:1,%2Ftmp%2Fpg/my%20db?schema=s&sslmode=require&connect_timeout=4"
    )
    assert address.parameters == {
        "host": "::1,/tmp/pg", "port": "1,5432", "dbname": "my db", "user": "me", "password": "p@ss",
        "client_encoding": "utf8", "target_session_attrs": "primary", "sslmode": "require", "connect_timeout": "4",
    }  # fmt: skip
    assert (address.name, address.schema) == ("postgresql://me@[::1]:1,%2Ftmp%2Fpg/my%20db?schema=s", "s")
    assert "p@ss" not in repr(address)
    plain = read_address("postgresql://h")
    assert plain.parameters == {"host": "h", "port": "5432", "client_encoding": "utf8", "connect_timeout": "2"}
    assert (plain.name, plain.schema) == ("postgresql://h", "softstate")
    folder = f"/{'f' * 80}"
    assert (
        read_address(f"postgresql://%2F{folder[1:]},%40abstract,é").parameters["host"] == f"{folder},@abstract,xn--9ca"
    )
    assert read_address("postgresql://a,b?target_session_attrs=any").parameters["target_session_attrs"] == "any"


async def test_option_that_libpq_refuses(backend: PostgresBackend) -> None:
    await refused(backend.url + "&sslmode=perhaps", 'invalid sslmode value: "perhaps"')


def test_missing_driver_says_what_to_install() -> None:
    program = "import sys; sys.modules['psycopg'] = None; import softstate.store.postgres.store"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S)
    assert "ConfigError: store postgresql://… needs psycopg: pip install '.[postgres]'" in done.stderr


# Credentials ---------------------------------------------------------------------------------------------------------


async def test_wrong_password(backend: PostgresBackend) -> None:
    await refused(
        backend.url.replace(PASSWORD, "guess"), "password authentication failed .*give the right user and pass"
    )


async def test_missing_password(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    await refused(backend.url.replace(f":{PASSWORD}", ""), "no password supplied.*password_file=…, as password_env=…")


async def test_password_from_elsewhere(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = backend.url.replace(f":{PASSWORD}", "")
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    (tmp_path / "pgpass").write_text(f"127.0.0.1:*:*:{ROLE}:{PASSWORD}\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("STORE_PASSWORD", PASSWORD)
    for option in (f"password_file={tmp_path}/secret", "password_env=STORE_PASSWORD", f"passfile={tmp_path}/pgpass"):
        store = await PostgresStore.open(f"{bare}&{option}")
        backend.opened.append(store)
        assert store.name == bare
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    backend.opened.append(await PostgresStore.open(bare))


async def test_unknown_role_and_database(backend: PostgresBackend) -> None:
    await refused(
        backend.url.replace(f"/{DATABASE}", "/nowhere"), 'database "nowhere" does not exist: create the database'
    )
    await refused(backend.url.replace(f"{ROLE}:", "nobody:"), "authentication failed")


async def test_password_changed_while_it_runs(backend: PostgresBackend, server: PostgresServer) -> None:
    """For a store that was open it may pass: a setting that was changed may be changed back."""
    store = await backend.open()
    server.execute(f"ALTER ROLE {ROLE} PASSWORD 'other'")
    try:
        with pytest.raises(Unavailable, match="give the right user and password"):
            await store.head()
        with pytest.raises(StoreRefused, match="give the right user and password"):
            await store.reopen()
    finally:
        server.execute(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    await store.reopen()
    await put(store, "a")


# Privileges ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def guest(server: PostgresServer) -> str:
    """Return a role that may connect, and no more."""
    name = f"guest_{next(NUMBERS)}"
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    return name


async def test_may_not_create_the_schema(backend: PostgresBackend, server: PostgresServer, guest: str) -> None:
    url = backend.url.replace(f"{ROLE}:", f"{guest}:")
    await refused(url, f'let the owner of the database run CREATE SCHEMA "{backend.schema}" AUTHORIZATION')
    server.execute(f'CREATE SCHEMA "{backend.schema}" AUTHORIZATION {guest}', database=DATABASE)
    store = await PostgresStore.open(url)
    backend.opened.append(store)
    await put(store, "a")
    await store.destroy()


async def test_may_not_use_the_tables(backend: PostgresBackend, guest: str) -> None:
    await backend.open()
    await refused(backend.url.replace(f"{ROLE}:", f"{guest}:"), "permission denied .*lacks a privilege")


async def test_limited_connections(backend: PostgresBackend, server: PostgresServer) -> None:
    """A store that gets one connection only can write; what it cannot have is told, and comes when there is room."""

    def number() -> int:
        return int(server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'")[0][0])

    # The server may learn a moment later that those of the tests before were closed.
    await trio.to_thread.run_sync(lambda: until("every connection is gone", lambda: number() == 0))
    server.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")
    try:
        store = await backend.open()
        await put(store, "a")
        with pytest.raises(Unavailable, match="too many connections for role"):
            await store.head()
    finally:
        server.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    assert "a" in await state(store)


async def test_connections_are_bounded(backend: PostgresBackend, server: PostgresServer) -> None:
    """Under any load: three connections, one more while it adopts, none once it is closed."""
    source, store = await PostgresBackend(server, f"open_{next(NUMBERS)}").open(), await backend.open()
    await put(source, "a")
    counts: list[int] = []

    def number() -> int:
        rows = server.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'softstate%'")
        return int(rows[0][0])

    async def watched() -> AsyncIterator[Dump]:
        async for page in pages(source):
            counts.append(number())
            yield page

    await source.head()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(store.wait, 10**6)
            nursery.start_soon(put, store, "b")
            nursery.start_soon(store.head)
        await trio.to_thread.run_sync(lambda: until("it listens too", lambda: number() >= 5))
        nursery.cancel_scope.cancel()
    await store.head()
    await store.adopt(watched(), replace=True)
    await source.aclose()
    await store.aclose()
    assert max(counts) <= 2 + CONNECTIONS_MAX
    await trio.to_thread.run_sync(lambda: until("every connection is gone", lambda: number() == 0))


async def test_settings_of_the_role_do_no_harm(backend: PostgresBackend, server: PostgresServer, guest: str) -> None:
    server.execute(f'CREATE SCHEMA "{backend.schema}" AUTHORIZATION {guest}', database=DATABASE)
    for setting in (
        "default_transaction_isolation = 'serializable'", "statement_timeout = 1000", "search_path = 'public'",
        "synchronous_commit = off", "lock_timeout = 1", "standard_conforming_strings = off", "bytea_output = 'escape'",
        "idle_session_timeout = 1000", "idle_in_transaction_session_timeout = 1", "extra_float_digits = -15",
    ):  # fmt: skip
        server.execute(f"ALTER ROLE {guest} SET {setting}")
    url = backend.url.replace(f"{ROLE}:", f"{guest}:")
    stores = [await PostgresStore.open(url), await PostgresStore.open(url)]
    backend.opened += stores
    async with trio.open_nursery() as nursery:
        for store in stores * 8:
            nursery.start_soon(put, store, f"t/{id(store)}")
    assert (await stores[0].head()).revision == 2 + 16
    for connection in (stores[0]._engine.reader, stores[0]._engine.writer):
        assert await connection.call(lambda on: on.execute("SHOW idle_session_timeout").fetchone(), 3) == ("0",)
    assert await stores[0]._engine.writer.call(lambda on: on.execute("SHOW statement_timeout").fetchone(), 3) == ("0",)
    # An application that lives with the role's time-outs would be cut off between its own two statements.
    patient = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0"
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user=guest, password=PASSWORD, dbname=DATABASE, options=patient
    ) as app:
        call(app, backend.schema, "publish", "a", "[1e300, 0.1]")
        call(app, backend.schema, "publish_now", "b", "[1e300, 0.1]")
    assert len(await state(stores[0])) == 4


# Existing schemas ----------------------------------------------------------------------------------------------------


async def test_created_by_several_at_once(backend: PostgresBackend) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(backend.open)
    positions = [await store.head() for store in backend.opened]
    assert {(position.epoch, position.revision) for position in positions} == {(positions[0].epoch, 6)}


async def test_schema_of_another_application(backend: PostgresBackend, server: PostgresServer) -> None:
    server.execute(f'CREATE SCHEMA "{backend.schema}" AUTHORIZATION {ROLE}', database=DATABASE)
    backend.tell("CREATE TABLE SCHEMA.meta (id integer)")
    await refused(backend.url, "holds other tables than a store's, and was left untouched: name another one")
    for name in ("topic", "lineage", "idempotency"):
        backend.tell(f"CREATE TABLE SCHEMA.{name} (id integer)")
    await refused(backend.url, "holds other tables than a store's")
    found = backend.tell("SELECT count(*) FROM pg_proc WHERE pronamespace = 'SCHEMA'::regnamespace")
    assert found == [(0,)]


async def test_foreign_objects_beside_ours(backend: PostgresBackend) -> None:
    """Objects of others in our schema stay, and keep it from being deleted."""
    store = await backend.open()
    await put(store, "a")
    backend.tell("CREATE TABLE SCHEMA.theirs (id integer)")
    await backend.open()
    with pytest.raises(StoreRefused, match="cannot be deleted"):
        await store.destroy()
    assert "a" in await state(store)
    backend.tell("DROP TABLE SCHEMA.theirs")
    await store.destroy()
    assert backend.tell("SELECT to_regnamespace('SCHEMA')") == [(None,)]


async def test_layouts_that_are_not_known(backend: PostgresBackend) -> None:
    await (await backend.open()).aclose()
    backend.tell("UPDATE SCHEMA.meta SET layout = 3")
    await refused(backend.url, "has layout 3, this softstate knows 2: install the softstate that wrote it")
    backend.tell("DELETE FROM SCHEMA.meta")
    await refused(backend.url, "nothing in meta: if a backup is being restored, wait for its end")


async def test_database_with_another_encoding(backend: PostgresBackend, server: PostgresServer) -> None:
    server.execute(f"CREATE DATABASE latin OWNER {ROLE} ENCODING 'LATIN1' TEMPLATE template0")
    await refused(backend.url.replace(f"/{DATABASE}", "/latin"), "encoding LATIN1, which cannot hold every topic")


async def test_old_server(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softstate.store.postgres.connection.SERVER_VERSION_MIN", 99)
    await refused(backend.url, r"is PostgreSQL \d\d, and softstate needs 99: upgrade it")


async def state_of(backend: PostgresBackend) -> object:
    """Return what a store's own row and its lineage rows are."""
    return [backend.tell(f"TABLE SCHEMA.{table}") for table in ("meta", "lineage")]


async def test_nothing_is_made_unless_asked_for(backend: PostgresBackend, server: PostgresServer) -> None:
    """Neither the schema, nor tables in one that is empty; not when it is opened again either."""
    with pytest.raises(StoreMissing, match=r"no store in schema .*, and none was made: .* \(softstate store create\)"):
        await PostgresStore.open(backend.url, create=False)
    server.execute(f'CREATE SCHEMA "{backend.schema}" AUTHORIZATION {ROLE}', database=DATABASE)
    with pytest.raises(StoreMissing):
        await PostgresStore.open(backend.url, create=False)
    with pytest.raises(StoreMissing):
        await PostgresStore.open(backend.url, read_only=True)
    found = backend.tell("SELECT count(*) FROM pg_class WHERE relnamespace = 'SCHEMA'::regnamespace")
    assert found == [(0,)]
    await (await backend.open()).aclose()
    store = await PostgresStore.open(backend.url, create=False)
    backend.opened.append(store)
    await put(store, "a")
    server.execute(f'DROP SCHEMA "{backend.schema}" CASCADE', database=DATABASE)
    with pytest.raises(StoreMissing):
        await store.reopen()
    assert backend.tell("SELECT to_regnamespace('SCHEMA')") == [(None,)]


@pytest.mark.parametrize("whose", [f"DATABASE {DATABASE}", f"ROLE {ROLE}"])
async def test_a_session_that_began_read_only_is_replaced(
    backend: PostgresBackend, server: PostgresServer, whose: str
) -> None:
    """A setting of a database or a role is a session's for its life: the first refusal ends the session."""
    await (await backend.open()).aclose()
    server.execute(f"ALTER {whose} SET default_transaction_read_only = on")
    try:
        store, other = await backend.open(), await backend.open()
        with pytest.raises(Unavailable, match="takes no writes"):
            await put(other, "a")
    finally:
        server.execute(f"ALTER {whose} RESET default_transaction_read_only")
    assert "takes no writes" in store.unwritten
    with pytest.raises(Unavailable, match="takes no writes"):
        await put(store, "a")
    for each in (store, other):
        version = await put(each, "b")
        assert each.unwritten == ""
        assert (await each.head()).revision == version


async def test_reading_leaves_no_trace(backend: PostgresBackend) -> None:
    """Opened to read, a store commits no lineage row, moves nothing from the inbox, and refuses to change anything."""
    store = await backend.open()
    await put(store, "a")
    await backend.send("sent", "1")
    before = await state_of(backend)
    for _ in range(3):
        reader = await PostgresStore.open(backend.url, read_only=True)
        backend.opened.append(reader)
        assert await reader.head() == await store.head()
        assert "a" in await state(reader)
        assert (await reader.info()).layout == 2
        assert [page.upto for page in [await reader.dump(0)]] == [2]
        with trio.move_on_after(1.5):
            await reader.wait(10**6)
        assert await state_of(backend) == before
    for change in (
        lambda: put(reader, "b"), lambda: reader.compact(tombstones=1, keys=1), reader.reopen, reader.destroy,
        lambda: reader.adopt(pages(store), replace=True),
    ):  # fmt: skip
        with pytest.raises(StoreRefused, match="was opened to read only: open it to write"):
            await change()
    assert await state_of(backend) == before
    await put(store, "b")
    assert "sent" in await state(reader)


async def test_lineage_rows_below_the_floor_go(backend: PostgresBackend) -> None:
    """But for the one in force there, so that positions from the floor on stay on the history."""
    store = await backend.open()
    await put(store, "a")
    for _ in range(4):
        await store.reopen()
    await put(store, "a", None)
    kept = await store.head()
    await store.reopen()
    newest = await store.head()
    floor = await store.compact(tombstones=kept.revision, keys=0)
    assert floor == kept.revision
    rows = backend.tell("SELECT start FROM SCHEMA.lineage ORDER BY start")
    assert rows == [(6,), (8,)]
    assert list(await store.lineage_at([1, 5, 6, floor, 8])) == [
        None, None, kept.lineage, kept.lineage, newest.lineage,
    ]  # fmt: skip
    assert (await store.feed(kept)).upto == newest


# No server there ------------------------------------------------------------------------------------------------------


async def test_no_server_on_the_port(backend: PostgresBackend) -> None:
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))
        url = backend.url.replace(f":{backend.server.port}", f":{bound.getsockname()[1]}")
        await refused(url, "[Cc]onnection refused", Unavailable)


async def test_a_server_that_never_answers(backend: PostgresBackend) -> None:
    """Each host has its time, so that another one gets its turn."""
    with trio.socket.socket() as silent:
        await silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        await refused(backend.url.replace(f"127.0.0.1:{backend.server.port}", address), "timeout expired", Unavailable)
        both = backend.url.replace("127.0.0.1", f"{address},127.0.0.1")
        store = await PostgresStore.open(both)
        backend.opened.append(store)
        await put(store, "a")
        assert "a" in await state(store)
