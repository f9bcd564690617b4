"""Carrying over a store that softstate of November 2026 has written (layout 1), kept in ``november/postgres.sql``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from softstate.errors import StoreRefused, StoreRewound, Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Write
from softstate.store.postgres import migration
from softstate.store.postgres.store import PostgresStore
from softstate.testing.conformance.stage import put, state
from softstate.wire import decode_value
from tests.store.engines.postgres_rig import DATABASE, PostgresBackend, PostgresServer, call

NOVEMBER = (Path(__file__).parent / "november" / "postgres.sql").read_text()

SCHEMAS = count()

APP = "november_app"
"""A role that may publish there."""

EPOCH, LINEAGES, HEAD = "644384c65183d30da6aa3c71e6300735", {1: "f91b6d77d94cb6c2", 11: "446c351beef375e7"}, 18

VALUES: dict[str, Any] = {
    "null": None, "text": "ä€", "number": -7, "real": 1.5, "bytes": b"\0\xff", "map": {"a": [1, {"b": None}]},
    "ä/nested/name": True, "after": 1, "direct": {"state": "paid"}, "json": {"by": "hand"},
}  # fmt: skip

UNREADABLE = {"damaged", "deep", "tag", "not json"}


CATALOG = [
    (
        "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attcollation,"
        " pg_get_expr(adbin, adrelid) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE relnamespace = 'SCHEMA'::regnamespace"
        " AND relkind = 'r' AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2"
    ),
    (
        "SELECT conrelid::regclass::text, contype, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'SCHEMA'::regnamespace ORDER BY 1, 2, 3"
    ),
    "SELECT tablename, replace(indexdef, 'NAME', '') FROM pg_indexes WHERE schemaname = 'NAME' ORDER BY 1, 2",
    (
        "SELECT oid::regprocedure::text, prosrc, prosecdef, provolatile FROM pg_proc"
        " WHERE pronamespace = 'SCHEMA'::regnamespace ORDER BY 1"
    ),
    (
        "SELECT relname, description FROM pg_description JOIN pg_class ON objoid = pg_class.oid"
        " WHERE relnamespace = 'SCHEMA'::regnamespace AND objsubid = 0 ORDER BY 1, 2"
    ),
]
"""The questions to PostgreSQL that tell one schema from another."""


@pytest.fixture(scope="module")
def server(server: PostgresServer) -> PostgresServer:
    """It with a role that may publish."""
    server.execute(f"CREATE ROLE {APP}")
    return server


@pytest.fixture
async def november(server: PostgresServer) -> AsyncIterator[PostgresBackend]:
    """A schema as the old softstate has left it."""
    backend = PostgresBackend(server, f"november_{next(SCHEMAS)}")
    dump = NOVEMBER.replace("november.", f"{backend.schema}.")
    dump = re.sub(
        r"\bSCHEMA november\b|(?<=TO ')november(?=')", lambda at: at[0].replace("november", backend.schema), dump
    )
    dump = dump.replace("current_schema", "current_schema")
    await trio.to_thread.run_sync(
        lambda: server.run("psql", *backend._administrator(), "--set", "ON_ERROR_STOP=1", "-q", stdin=dump.encode())
    )
    yield backend
    await backend.close_stores()


def layout(backend: PostgresBackend) -> int:
    ((layout,),) = backend.tell("SELECT layout FROM SCHEMA.meta")
    return int(layout)


async def test_everything_is_carried_over(november: PostgresBackend) -> None:
    store = await november.open()
    assert layout(november) == 2
    position = await store.head()
    assert (position.epoch, position.revision) == (EPOCH, HEAD + 1)
    found = await state(store)
    readable = {topic: record for topic, record in found.items() if topic not in UNREADABLE}
    assert {topic: decode_value(record.cbor or b"") for topic, record in readable.items()} == VALUES
    assert {readable[topic].version for topic in VALUES} == {2, 3, 4, 5, 6, 7, 9, 12, 16, 18}
    assert list(await store.lineage_at([1, 10, 11, 18])) == [LINEAGES[1], LINEAGES[1], LINEAGES[11], LINEAGES[11]]
    (page,) = await store.read([Query(prefixes={ALL: 0}, witness=Position(EPOCH, LINEAGES[11], HEAD))])
    assert isinstance(page, Page), "a client of before is at home"
    feed = await store.feed(Position(EPOCH, LINEAGES[1], 9))
    assert ("gone", 10, None) in [(record.topic, record.version, record.cbor) for record in feed.records]
    first = (await store.publish([Write("text", b"\x00", key="key 1", digest=b"\1\1\1\1")])).verdicts
    assert first == [Applied(3, repeated=True)]
    assert (await store.info()).keys == 8
    assert await put(store, "new") == HEAD + 2
    await november.send("text", "2")
    assert await put(store, "newer") == HEAD + 4


async def test_rows_that_do_not_decode_get_no_checksum(november: PostgresBackend) -> None:
    await november.open()
    rows = november.tell("SELECT topic FROM SCHEMA.topic WHERE checksum <> SCHEMA.checksum(topic, version, value)")
    assert {topic for (topic,) in rows} == UNREADABLE


async def test_the_layout_is_that_of_a_new_store(november: PostgresBackend, server: PostgresServer) -> None:
    """Columns, types, constraints, indexes, functions and comments; only the places of columns differ."""
    new = PostgresBackend(server, f"new_{next(SCHEMAS)}")
    await november.open()
    await (await new.open()).aclose()
    for statement in CATALOG:
        of_both = [
            [
                tuple(str(cell).replace(backend.schema, "…") for cell in row)
                for row in backend.tell(statement.replace("NAME", backend.schema))
            ]
            for backend in (november, new)
        ]
        assert of_both[0] == of_both[1]
        assert of_both[0]


async def test_reading_migrates_nothing(november: PostgresBackend) -> None:
    before = november.tell("TABLE SCHEMA.meta")
    with pytest.raises(StoreRefused, match=r"has layout 1, of November 2026: stop every node .* \(softstate serve\)"):
        await PostgresStore.open(november.url, read_only=True)
    assert november.tell("TABLE SCHEMA.meta") == before
    store = await PostgresStore.open(november.url, create=False)
    november.opened.append(store)
    assert layout(november) == 2


async def test_programs_may_go_on_publishing(november: PostgresBackend) -> None:
    """Roles that could call a function can call each that has its name now, and the tables stay closed to them."""
    store = await november.open()
    with november.server.connect(DATABASE) as connection:
        connection.execute(f"SET ROLE {APP}")
        call(connection, november.schema, "publish", "a", "1")
        version = call(connection, november.schema, "publish", "b", "1", None)
        assert call(connection, november.schema, "publish_now", "c", "1") == version + 1
        assert call(connection, november.schema, "delete", "a") == ""
        assert call(connection, november.schema, "delete_now", "c") == version + 3
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            call(connection, november.schema, "send", "a", b"\x01")
    await put(store, "d")
    assert {"b", "d"} <= (await state(store)).keys()
    assert not {"a", "c"} & (await state(store)).keys()


async def test_a_function_of_others_with_a_name_of_ours_stays(november: PostgresBackend) -> None:
    """A role that may call that one may not call ours for it."""
    november.tell("CREATE FUNCTION SCHEMA.publish(topic text, value text) RETURNS text LANGUAGE sql AS 'SELECT value'")
    november.tell("GRANT EXECUTE ON FUNCTION SCHEMA.publish(text, text) TO PUBLIC")
    store = await november.open()
    assert november.tell("SELECT SCHEMA.publish('a'::text, 'b'::text)") == [("b",)]
    granted = november.tell(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'SCHEMA'::regnamespace"
        " AND has_function_privilege('public', oid, 'EXECUTE')"
    )
    names = [name.partition(".")[2] for (name,) in granted]
    assert [name for name in names if name.startswith("publish")] == ["publish(text,text)"]
    assert "text" in await state(store)


async def test_a_november_node_that_was_forgotten_writes_nothing(november: PostgresBackend) -> None:
    """All that such a node sends, reading or writing, begins with one of these; so does its function for programs."""
    with november.connect() as connection:
        connection.autocommit = True
        connection.execute(f"SET search_path = {november.schema}")
        statements = [
            "SELECT epoch, head, floor, keys, incarnation, xmin = written, incarnation() FROM meta FOR UPDATE",
            "SELECT epoch, head, floor, keys, current_setting('fsync') = 'on' FROM meta",
            "UPDATE meta SET head = 99, floor = 0, keys = 1, incarnation = '', written = pg_current_xact_id()::xid",
        ]
        for statement in statements:
            for _ in range(6):
                # More often than it takes psycopg to prepare it.
                connection.execute(f"EXPLAIN {statement}", prepare=True)
        await november.open()
        for statement in statements:
            with pytest.raises(psycopg.errors.UndefinedColumn):
                connection.execute(statement)


async def test_an_old_backup_may_be_put_back_while_nodes_run(november: PostgresBackend) -> None:
    """They take the store for rewound, and carry it over when they open it again."""
    backup = await november.snapshot()
    store = await november.open()
    await put(store, "lost")
    await november.restore(backup)
    with pytest.raises(StoreRewound):
        await store.head()
    with pytest.raises(StoreRewound):
        await put(store, "a")
    assert (await store.reopen()).revision == HEAD + 1
    assert layout(november) == 2
    assert "lost" not in await state(store)


async def test_several_nodes_may_migrate_at_once(november: PostgresBackend) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(november.open)
    assert {(await store.head()).revision for store in november.opened} == {HEAD + 4}


async def test_a_migration_that_is_cut_off_has_not_happened(
    november: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await november.snapshot()

    def crash(connection: psycopg.Connection[Any]) -> int:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise AssertionError("unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(migration, "_mend_values", crash)
        with pytest.raises(Unavailable):
            await november.open()
    comparable = [re.sub(rb"\\(un)?restrict .*", b"", dump) for dump in (before, await november.snapshot())]
    assert comparable[0] == comparable[1]
    await november.open()
    assert layout(november) == 2


async def test_a_transaction_that_has_published_is_waited_for(november: PostgresBackend) -> None:
    """For a while, as for any lock; then the node says why it did not start."""
    with november.connect() as connection:
        call(connection, november.schema, "publish", "a", "1")
        with pytest.raises(Unavailable, match="publish with two arguments, or last"):
            await november.open()
        connection.commit()
    store = await november.open()
    assert (await state(store))["a"].version == HEAD + 2


async def test_a_layout_that_changes_under_an_open_store_ends_its_writing(november: PostgresBackend) -> None:
    """A newer softstate migrates while this one runs: what it publishes fails, and nothing is written."""
    store = await november.open()
    november.tell("UPDATE SCHEMA.meta SET layout = 3")
    head = november.tell("SELECT revision FROM SCHEMA.meta")
    with pytest.raises(Unavailable, match=r"layout was changed to 3, .* knows 2: stop this node, and install"):
        await put(store, "a")
    with pytest.raises(psycopg.DatabaseError, match="the store has layout 3, this function knows 2"):
        november.call("publish_now", "a", "1")
    await november.send("b", "1")
    with pytest.raises((Unavailable, StoreRewound)):
        await store.compact(tombstones=10**6, keys=10**6)
    assert november.tell("SELECT revision FROM SCHEMA.meta") == head
