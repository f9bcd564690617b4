"""A PostgreSQL store whose history is lost: servers wiped, restored and failed over under it."""

from __future__ import annotations

import pytest
import trio

from softstate.errors import Rewound, SoftstateError, StoreRewound, Unavailable
from softstate.model import Page
from softstate.store.postgres.store import PostgresStore
from softstate.testing.conformance.stage import put, state
from tests.kit.processes import WAIT_S
from tests.store.engines.postgres_rig import DATABASE, PASSWORD, ROLE, PostgresRig, asked


@pytest.fixture
def rig(private_postgres: PostgresRig) -> PostgresRig:
    return private_postgres


async def until_rewound(store: PostgresStore) -> None:
    """Ask again and again until the store says that it was rewound, every method of it."""
    with trio.fail_after(WAIT_S):
        while True:
            try:
                await store.head()
            except Unavailable:
                await trio.sleep(0.02)
            except StoreRewound:
                break
            else:
                raise AssertionError("the store did not notice")
        with pytest.raises(StoreRewound):
            await publish_through(store)


async def publish_through(store: PostgresStore) -> None:
    """Write, but once more if only the connection was found broken."""
    try:
        await put(store, "z")
    except Unavailable:
        await put(store, "z")


# Rewound -------------------------------------------------------------------------------------------------------------


async def test_wiped_server(rig: PostgresRig) -> None:
    store = await rig.open()
    await put(store, "a")
    seen = await store.head()
    await rig.wipe()
    await until_rewound(store)
    position = await store.reopen()
    assert (position.revision, position.epoch == seen.epoch) == (1, False)
    assert isinstance(await asked(store, seen), Rewound)
    assert await state(store) == {}
    await put(store, "b")


@pytest.mark.parametrize("emptied", ["DROP SCHEMA softstate CASCADE", "DELETE FROM softstate.meta"])
async def test_dropped_tables(rig: PostgresRig, emptied: str) -> None:
    store = await rig.open()
    rig.server.execute(emptied, database=DATABASE)
    await until_rewound(store)


async def test_restored_cluster(rig: PostgresRig) -> None:
    store = await rig.open()
    await put(store, "kept")
    kept = await store.head()
    backup = await rig.backup()
    await put(store, "lost")
    seen = await store.head()
    await rig.restore(backup)
    await until_rewound(store)
    await store.reopen()
    assert sorted(await state(store)) == ["kept"]
    assert isinstance(await asked(store, seen), Rewound)
    assert isinstance(await asked(store, kept), Page)


@pytest.mark.parametrize("way", ["cluster", "schema", "rows"])
async def test_restored_and_advanced_by_others_before_any_node_is_back(rig: PostgresRig, way: str) -> None:
    """The revision that was seen exists again, made by another program: only the lineage tells them apart."""
    store = await rig.open()
    await put(store, "kept")
    backup = await rig.backup() if way == "cluster" else await rig.snapshot()
    if way == "rows":
        rig.server.execute("CREATE TABLE meta_backup AS TABLE softstate.meta", database=DATABASE)
    await put(store, "lost")
    seen = await store.head()
    await store.aclose()
    if way != "rows":
        await rig.restore(backup)
    else:
        # The gentlest of restores: the rows alone, into the same tables of the same server.
        rig.server.execute(
            "DELETE FROM softstate.topic WHERE topic = 'lost'; DELETE FROM softstate.meta;"
            " INSERT INTO softstate.meta TABLE meta_backup; DROP TABLE meta_backup",
            database=DATABASE,
        )
    for number in range(3):
        await rig.publish_directly(f"other/{number}", str(number))
    again = await rig.open()
    head = await again.head()
    assert head.epoch == seen.epoch
    assert head.revision > seen.revision
    assert isinstance(await asked(again, seen), Rewound)
    assert isinstance(await asked(again, seen.at(seen.revision - 1)), Page)
    assert sorted(await state(again)) == ["kept", "other/0", "other/1", "other/2"]


async def test_restored_and_advanced_under_an_open_store(rig: PostgresRig) -> None:
    store = await rig.open()
    backup = await rig.snapshot()
    await put(store, "lost")
    seen = await store.head()
    await rig.restore(backup)
    for number in range(3):
        await rig.publish_directly(f"other/{number}", str(number))
    await until_rewound(store)
    assert (await store.reopen()).revision > seen.revision
    assert sorted(await state(store)) == ["other/0", "other/1", "other/2"]


async def test_a_copy_of_the_database_is_renamed_into_place(rig: PostgresRig) -> None:
    """A backup made with TEMPLATE: the same cluster, tables with the same numbers, rows as they were written."""
    store = await rig.open()
    await put(store, "kept")

    def leave() -> None:
        rig.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'")

    await trio.to_thread.run_sync(leave)
    rig.server.execute(f"CREATE DATABASE copy TEMPLATE {DATABASE} OWNER {ROLE}")
    await rig.publish_directly("lost", "1")
    seen = await store.head()
    await trio.to_thread.run_sync(leave)
    rig.server.execute(f"ALTER DATABASE {DATABASE} RENAME TO former")
    rig.server.execute(f"ALTER DATABASE copy RENAME TO {DATABASE}")
    try:
        for number in range(5):
            await rig.publish_directly(f"other/{number}", "1")
        await until_rewound(store)
        await store.reopen()
        assert isinstance(await asked(store, seen), Rewound)
        assert "lost" not in await state(store)
    finally:
        rig.server.execute("DROP DATABASE former WITH (FORCE)")


async def test_failover_that_loses_commits(rig: PostgresRig) -> None:
    """A standby that lags becomes the primary, at the same address: what it never got is gone, and that is noticed."""
    store = await rig.open()
    await put(store, "kept")
    kept = await store.head()
    primary = rig.server
    with rig.standby() as standby:
        standby.kill()
        await put(store, "lost")
        seen = await store.head()
        await rig.fail_over(standby)
        try:
            await rig.publish_directly("other", "1")
            await until_rewound(store)
            await store.reopen()
            assert sorted(await state(store)) == ["kept", "other"]
            assert isinstance(await asked(store, seen), Rewound)
            assert isinstance(await asked(store, kept), Page)
        finally:
            await store.aclose()
            standby.kill()
            rig.server = primary
            await rig.start()


async def test_of_several_hosts_the_primary_is_found(rig: PostgresRig) -> None:
    with rig.standby() as standby:
        both = f"127.0.0.1:{standby.port},127.0.0.1:{rig.server.port}"
        store = await PostgresStore.open(f"postgresql://{ROLE}:{PASSWORD}@{both}/{DATABASE}")
        rig.opened.append(store)
        await put(store, "a")
        with pytest.raises(SoftstateError, match="is a standby, which takes no writes"):
            await PostgresStore.open(f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{standby.port}/{DATABASE}")
