"""PostgreSQL's inbox: nodes move what programs have put there, also where rows came without their sequence."""

from __future__ import annotations

import psycopg
import pytest
import trio
import trio.testing
from psycopg import sql

from softstate.errors import StoreRefused, Unavailable
from softstate.store.memory.store import MemoryStore
from softstate.store.postgres.notifications import Notifications
from softstate.store.postgres.store import PostgresStore
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put, state
from softstate.wire import decode_value
from tests.kit.processes import WAIT_S
from tests.store.engines.outage_rig import following, node_on
from tests.store.engines.postgres_inbox_rig import INBOX_BYTES_MAX, INBOX_MAX, Application, send_large
from tests.store.engines.postgres_rig import PostgresBackend, call

# Moving --------------------------------------------------------------------------------------------------------------


async def hear(store: PostgresStore, topic: str) -> None:
    with trio.fail_after(WAIT_S):
        head = await store.head()
        while topic not in await state(store):
            await store.wait(head.revision)
            head = await store.head()


async def test_an_idle_node_moves_it_once_notified(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softstate.store.commit_waiter.CHECK_EVERY_S", 10 * WAIT_S)
    stores = [await backend.open(), await backend.open()]
    head = await stores[0].head()
    async with trio.open_nursery() as nursery:
        for store in stores:
            nursery.start_soon(hear, store, "a")
        await trio.testing.wait_all_tasks_blocked()
        await backend.send("a", "1")
    assert (await stores[0].head()).revision == head.revision + 1, "one of them moved it, once"


async def never_notified(_notifications: Notifications) -> None:
    await trio.sleep_forever()


async def test_an_idle_node_looks_by_itself(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Notifications, "wait", never_notified)
    store = await backend.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear, store, "a")
        await trio.testing.wait_all_tasks_blocked()
        await backend.send("a", "1")


async def test_an_idle_node_gets_over_a_holder_of_the_counter(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    """It cannot move anything before the other has ended; reading goes on, and the next check does it."""
    store = await backend.open()
    applications.append(Application(backend))
    (application,) = applications
    application.publish_now("now")
    await backend.send("a", "1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear, store, "a")
        with pytest.raises(Unavailable, match="has called publish_now"):
            await put(store, "b")
        assert await state(store) == {}
        application.connection.commit()
    assert sorted(await state(store)) == ["a", "now"]


async def test_a_program_may_leave_the_notification_out(backend: PostgresBackend) -> None:
    """Then its transaction may be prepared, and an idle node finds the entries when it looks."""
    store = await backend.open()
    with backend.connect() as connection:
        connection.autocommit = True
        for off in ("on", ""):
            connection.execute(sql.SQL("SET softstate.notify = {}").format(off))
            with connection.transaction(force_rollback=True):
                call(connection, backend.schema, "publish", "a", "1")
                with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
                    connection.execute("PREPARE TRANSACTION 'a'")
        connection.execute("SET softstate.notify = off")
        connection.execute("BEGIN")
        call(connection, backend.schema, "publish", "a", "1")
        call(connection, backend.schema, "delete", "never")
        connection.execute("PREPARE TRANSACTION 'a'")
        await put(store, "b")
        assert sorted(await state(store)) == ["b"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear, store, "a")
            connection.execute("COMMIT PREPARED 'a'")


async def test_subscribers_of_every_node_hear_of_it(backend: PostgresBackend) -> None:
    async with (
        node_on(backend.url) as left,
        node_on(backend.url) as right,
        following(left.url, "/") as on_left,
        following(right.url, "/", push=False) as on_right,
    ):
        for value in (1, 2, None):
            await backend.send("a", None if value is None else str(value))
            for follower in (on_left, on_right):
                await follower.shows({} if value is None else {"a": value})


async def test_entries_that_change_nothing_leave_a_store_empty(backend: PostgresBackend) -> None:
    """In as many portions as they fill: a copy without leave to replace is taken then."""
    store = await backend.open()
    size = INBOX_MAX + 5
    backend.tell(f"SELECT SCHEMA.delete(n::text) FROM generate_series(1, {size}) AS n")
    source = MemoryStore()
    await put(source, "copied")
    await store.adopt(pages(source), replace=False)
    assert sorted(await state(store)) == ["copied"]
    assert backend.tell("SELECT count(*) FROM SCHEMA.inbox") == [(0,)]


async def test_a_copy_takes_the_place_of_what_was_sent_before(backend: PostgresBackend) -> None:
    """An entry of the inbox was published there: without leave to replace, the store is not empty."""
    store = await backend.open()
    await backend.send("sent", "1")
    source = MemoryStore()
    await put(source, "copied")
    with pytest.raises(StoreRefused, match="is not empty"):
        await store.adopt(pages(source), replace=False)
    assert backend.tell("SELECT topic FROM SCHEMA.inbox") == [("sent",)]
    send_large(backend, 2 * INBOX_BYTES_MAX // 65_000)
    await store.adopt(pages(source), replace=True)
    assert backend.tell("SELECT count(*) FROM SCHEMA.inbox") == [(0,)]
    assert sorted(await state(store)) == ["copied"]
    await backend.send("sent", "2")
    await put(store, "after")
    assert sorted(await state(store)) == ["after", "copied", "sent"]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_programs_may_choose_their_isolation(backend: PostgresBackend, level: str) -> None:
    store = await backend.open()
    with backend.connect() as connection:
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        connection.execute("SELECT 1")
        await put(store, "meanwhile")
        assert call(connection, backend.schema, "publish", "a", "1") == ""
        connection.commit()
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert call(connection, backend.schema, "publish_now", "b", "1") == (await store.head()).revision + 2
    assert sorted(await state(store)) == ["a", "b", "meanwhile"]


# Rows without their sequence -----------------------------------------------------------------------------------------


def begin_numbers_again(backend: PostgresBackend) -> None:
    """Do what logical replication does to a store: its rows come by other transactions, and its sequence is new."""
    backend.tell("SELECT setval(pg_get_serial_sequence('SCHEMA.inbox', 'id'), 1, false)")
    backend.tell("UPDATE SCHEMA.meta SET id = id")


@pytest.mark.parametrize("sent", ["before a node comes", "later"])
async def test_numbers_go_on_above_those_of_rows_that_came_without_their_sequence(
    backend: PostgresBackend, sent: str
) -> None:
    """Entries with lower numbers than their topics have would count as overtaken, and be dropped in silence."""
    store = await backend.open()
    for number in range(9):
        await backend.send("a", str(number))
    await backend.send("b", "1")
    await put(store, "moved")
    await store.aclose()
    begin_numbers_again(backend)
    if sent == "later":
        store = await backend.open()
        await put(store, "by a node")
        await backend.send("a", '"new"')
    else:
        await backend.send("a", '"new"')
        store = await backend.open()
    await put(store, "moved again")
    found = (await state(store))["a"]
    assert decode_value(found.cbor or b"") == "new"
    ((first,),) = backend.tell("SELECT max(entry) FROM SCHEMA.topic")
    await backend.send("a", '"newer"')
    await put(store, "moved again")
    assert decode_value((await state(store))["a"].cbor or b"") == "newer"
    ((second,),) = backend.tell("SELECT max(entry) FROM SCHEMA.topic")
    assert second > max(first, 10)


async def test_numbers_go_on_above_those_of_entries(backend: PostgresBackend) -> None:
    """Entries that came with the rows, waiting or refused, keep theirs: one that is drawn again would be no new key."""
    store = await backend.open()
    backend.tell("INSERT INTO SCHEMA.inbox (topic, checksum) SELECT 'by hand', '' FROM generate_series(1, 3)")
    await put(store, "a")
    await store.aclose()
    await backend.send("waiting", "1")
    begin_numbers_again(backend)
    backend.tell("SELECT SCHEMA.publish('early/' || n, '1') FROM generate_series(1, 2) AS n")
    store = await backend.open()
    for number in range(4):
        await backend.send(f"later/{number}", "1")
    await put(store, "b")
    assert len(await state(store)) == 1 + 1 + 2 + 4 + 1


async def test_a_damaged_number_does_not_use_up_the_rest(backend: PostgresBackend) -> None:
    store = await backend.open()
    await backend.send("a", "1")
    await put(store, "moved")
    backend.tell("UPDATE SCHEMA.topic SET entry = 9223372036854775807 WHERE topic = 'a'")
    begin_numbers_again(backend)
    await put(store, "moved")
    await backend.send("b", "1")
    await put(store, "moved")
    assert sorted(await state(store)) == ["a", "b", "moved"]
