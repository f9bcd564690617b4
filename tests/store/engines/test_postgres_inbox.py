"""PostgreSQL's inbox: other programs publish within their transactions, and no one waits for another."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from psycopg import sql

from softstate.errors import Conflict
from softstate.store.base import Applied, Write
from softstate.store.postgres.store import PostgresStore
from softstate.testing.conformance.stage import put, state
from softstate.wire import decode_value
from tests.store.engines.postgres_inbox_rig import (
    INBOX_BYTES_MAX,
    INBOX_MAX,
    REFUSED_MAX,
    Application,
    changes,
    send_large,
)
from tests.store.engines.postgres_rig import DATABASE, PostgresBackend, call

# No waiting ----------------------------------------------------------------------------------------------------------


async def test_an_open_transaction_keeps_nobody_waiting(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    """Nodes publish on, other programs too, in both ways; what it brought follows once it has committed."""
    stores = [await backend.open(), await backend.open()]
    before = await stores[0].head()
    applications += [Application(backend), Application(backend)]
    held, other = applications
    held.publish("held")
    held.delete("held too")
    for number in range(20):
        for store in stores:
            await store.publish([Write(f"node/{number}", b"\x01")])
        other.publish(f"other/{number}")
        other.connection.commit()
        other.publish_now(f"now/{number}")
        other.connection.commit()
    assert "held" not in dict(await changes(stores[0], before))
    held.connection.commit()
    version = await put(stores[1], "after")
    found = await state(stores[0])
    assert len(found) == 20 + 20 + 20 + 2
    assert found["held"].version == version - 1


async def test_what_is_rolled_back_was_never_published(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    store = await backend.open()
    head = await store.head()
    applications.append(Application(backend))
    (application,) = applications
    application.publish("a")
    application.connection.rollback()
    with application.connection.transaction():
        application.publish("kept")
        with application.connection.transaction(force_rollback=True):
            application.publish("dropped")
            application.publish("kept", "2")
    assert await put(store, "b") == head.revision + 2
    assert await changes(store, head) == [("kept", 1), ("b", 1)]


async def test_it_is_granted_and_refused_by_itself(backend: PostgresBackend) -> None:
    """A role that may not publish cannot do so by another function of ours."""
    await backend.open()
    rows = backend.tell(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'SCHEMA'::regnamespace"
        " AND has_function_privilege('public', oid, 'EXECUTE')"
    )
    assert rows == []


# Order ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["store", "store, nothing to do", "publish_now"])
async def test_a_publish_asked_for_after_a_commit_has_a_higher_revision(
    backend: PostgresBackend, applications: list[Application], way: str
) -> None:
    """With nodes and programs publishing meanwhile, by each way to publish."""
    stores = [await backend.open() for _ in range(3)]
    applications += [Application(backend), Application(backend)]
    application, other = applications

    async def noise(store: PostgresStore) -> None:
        for number in range(10**6):
            await store.publish([Write(f"noise/{id(store)}", b"\x01"), Write(f"noise/{number % 7}", b"\x01")])

    async with trio.open_nursery() as nursery:
        for store in stores[1:]:
            nursery.start_soon(noise, store)
        for number in range(40):
            application.publish("revoked", str(number))
            await trio.to_thread.run_sync(application.connection.commit)
            if way == "publish_now":
                version = await trio.to_thread.run_sync(other.publish_now, "next", str(number))
                await trio.to_thread.run_sync(other.connection.commit)
            elif way == "store":
                version = await put(stores[0], "next")
            else:
                (verdict,) = (await stores[0].publish([Write("never", b"\x01", expect=7)])).verdicts
                assert isinstance(verdict, Conflict)
                version = (await stores[0].head()).revision + 1
            found = (await state(stores[0]))["revoked"]
            assert found.cbor is not None
            assert decode_value(found.cbor) == number
            assert found.version < version
        nursery.cancel_scope.cancel()


async def test_a_large_transaction_is_moved_in_parts_before_anything_else(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    stores = [await backend.open(), await backend.open()]
    before = await stores[0].head()
    applications += [Application(backend), Application(backend)]
    application, other = applications
    size = INBOX_MAX + 10
    for number in range(size):
        application.publish(f"a/{number:04}")
    await trio.to_thread.run_sync(application.connection.commit)
    committed = await stores[0].publish([Write("b", b"\x01"), Write("b", b"\x02"), Write("c", b"\x01", expect=9)])
    assert committed.verdicts[:2] == [Applied(before.revision + size + 1), Applied(before.revision + size + 2)]
    assert (committed.before, len(committed.records)) == (before.revision + size, 2)
    expected = [*((f"a/{number:04}", 1) for number in range(size)), ("b", 2)]
    assert await changes(stores[1], before) == expected
    for number in range(size):
        application.publish(f"d/{number:04}")
    await trio.to_thread.run_sync(application.connection.commit)
    assert other.publish_now("e") == before.revision + 2 * size + 3
    other.connection.commit()
    assert len(await changes(stores[1], before)) == 2 * size + 2


def take(connection: psycopg.Connection[Any], schema: str) -> tuple[int, bool]:
    """Move one portion of the inbox within the transaction; return how many entries, and whether more are there."""
    connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
    row = connection.execute("SELECT moved, more FROM take_counter(false)").fetchone()
    assert row is not None
    return row[0], row[1]


async def test_a_portion_of_large_entries_ends_by_their_bytes(backend: PostgresBackend) -> None:
    """A node has a few seconds for a portion; one that takes longer is taken back, and begun again by each commit."""
    store = await backend.open()
    head = await store.head()
    portion = INBOX_BYTES_MAX // 65_000 + 1
    assert portion < INBOX_MAX
    send_large(backend, portion + 2)
    with backend.connect() as connection:
        assert take(connection, backend.schema) == (portion, True)
        assert take(connection, backend.schema) == (2, False)
        connection.rollback()
    assert await put(store, "a") == head.revision + portion + 2 + 1
    assert len(await state(store)) == portion + 2 + 1


async def test_a_portion_has_at_least_one_entry(backend: PostgresBackend) -> None:
    """However long that is: a row put there by hand, which is refused unread."""
    store = await backend.open()
    backend.tell(
        "INSERT INTO SCHEMA.inbox (topic, value, checksum) SELECT 'by hand', convert_to(repeat('x',"
        f" {INBOX_BYTES_MAX}), 'UTF8'), ''"
    )
    await backend.send("a", "1")
    with backend.connect() as connection:
        assert take(connection, backend.schema) == (1, True)
        connection.rollback()
    await put(store, "b")
    assert sorted(await state(store)) == ["a", "b"]
    assert backend.tell("SELECT topic, octet_length(value) FROM SCHEMA.refused") == [("by hand", 65_536)]


@pytest.mark.parametrize("moved_between", [False, True])
@pytest.mark.parametrize("first_commits_first", [False, True])
async def test_open_transactions_are_ordered_by_their_inserts(
    backend: PostgresBackend, applications: list[Application], first_commits_first: bool, moved_between: bool
) -> None:
    """Of two that publish the same topic the later insert wins, whichever commits first, and whenever a node looks."""
    store = await backend.open()
    applications += [Application(backend), Application(backend)]
    first, second = applications
    first.publish("a", '"first"')
    first.publish("only first")
    second.publish("a", '"second"')
    second.publish("only second")
    for application in (first, second) if first_commits_first else (second, first):
        application.connection.commit()
        if moved_between:
            await put(store, "b")
    await put(store, "b")
    found = await state(store)
    assert found.keys() == {"a", "b", "only first", "only second"}
    assert found["a"].cbor is not None
    assert decode_value(found["a"].cbor) == "second"


async def test_one_transaction_keeps_its_own_order(backend: PostgresBackend, applications: list[Application]) -> None:
    store = await backend.open()
    head = await store.head()
    applications.append(Application(backend))
    (application,) = applications
    application.publish("a", "1")
    application.publish("b", "1")
    assert application.publish_now("a", "2") == head.revision + 3
    application.publish("a", "3")
    application.delete("b")
    application.connection.commit()
    await put(store, "c")
    assert await changes(store, head) == [("a", 3), ("b", None), ("c", 1)]


async def test_deleting_what_is_not_there_makes_no_version(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    store = await backend.open()
    head = await store.head()
    applications.append(Application(backend))
    (application,) = applications
    application.delete("never")
    application.publish("passing")
    application.delete("passing")
    application.publish("a")
    application.connection.commit()
    assert await put(store, "b") == head.revision + 2
    for _ in range(3):
        application.delete("a")
        application.connection.commit()
        await put(store, "c")
    assert await changes(store, head) == [("b", 1), ("a", None), ("c", 1)]
    assert (await store.head()).revision == head.revision + 2 + 1 + 3


async def test_a_lineage_begins_before_what_is_moved_after_a_restart(backend: PostgresBackend) -> None:
    """As before each first change after one: the history may have been rewound meanwhile."""
    store = await backend.open()
    before = await store.head()
    await backend.send("a", "1")
    for connection in (store._engine.writer, store._engine.reader):
        await connection.close(for_good=False)
    await put(store, "b")
    feed = await store.feed(before)
    assert [row.revision for row in feed.lineages] == [before.revision + 1]
    assert [(record.topic, record.version) for record in feed.records] == [
        ("a", before.revision + 2), ("b", before.revision + 3),
    ]  # fmt: skip


async def test_entries_that_change_nothing_begin_no_lineage(backend: PostgresBackend) -> None:
    """So the first change behind them begins it, and until then the reason why none was written stands."""
    store = await backend.open()
    before = await store.head()
    await store._engine.writer.close(for_good=False)
    store._engine.unwritten = "it took no writes"
    await backend.send("never was", None)
    await store._move()
    assert backend.tell("SELECT count(*) FROM SCHEMA.inbox") == [(0,)]
    assert await store.head() == before
    assert store.unwritten == "it took no writes"
    assert await put(store, "a") == before.revision + 2
    assert store.unwritten == ""
    feed = await store.feed(before)
    assert [row.revision for row in feed.lineages] == [before.revision + 1]


# Refused -------------------------------------------------------------------------------------------------------------

BY_HAND = "INSERT INTO SCHEMA.inbox (topic, value, checksum) VALUES "


async def test_entries_that_cannot_be_published_are_put_aside(backend: PostgresBackend) -> None:
    """Rows that somebody has put there or changed: none keeps those behind it, or a node, from publishing."""
    store = await backend.open()
    head = await store.head()
    await backend.send("changed", "1")
    backend.tell("UPDATE SCHEMA.inbox SET value = '\\xffff'")
    backend.tell(BY_HAND + "('a', '\\x01', ''), ('a/', '\\x01', ''), (repeat('x', 5000), NULL, ''), ('', NULL, '')")
    await backend.send("good", "1")
    await put(store, "b")
    assert await changes(store, head) == [("good", 1), ("b", 1)]
    rows = backend.tell("SELECT topic, because, value FROM SCHEMA.refused ORDER BY id")
    assert [topic for topic, _, _ in rows] == ["changed", "a", "a/", "x" * 255, ""]
    assert {because for _, because, _ in rows} == {"it was not put here by publish() or delete(), or was changed since"}
    assert rows[0][2] == b"\xff\xff"
    assert backend.tell("SELECT count(*) FROM SCHEMA.inbox") == [(0,)]
    await backend.send("waits", "1")
    (note,) = (await store.info()).notes
    assert "publish_now and delete_now return the version; 1 entries of the inbox wait, 5 were refused" in note


async def test_what_was_refused_is_kept_within_bounds(backend: PostgresBackend) -> None:
    store = await backend.open()
    rows = REFUSED_MAX + INBOX_MAX + 5
    backend.tell(f"INSERT INTO SCHEMA.inbox (topic, checksum) SELECT n::text, '' FROM generate_series(1, {rows}) AS n")
    await put(store, "a")
    (found,) = backend.tell("SELECT count(*), max(id) - min(id) FROM SCHEMA.refused")
    assert found == (REFUSED_MAX, REFUSED_MAX - 1)
    assert (await store.head()).revision == 2


async def test_a_reader_of_the_tables_may_not_write_them(backend: PostgresBackend) -> None:
    await backend.open()
    with backend.server.connect(DATABASE) as connection:
        connection.execute("CREATE ROLE stranger")
        connection.execute("SET ROLE stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            call(connection, backend.schema, "publish", "a", "1")
