"""A PostgreSQL store in trouble: servers killed, frozen, cut off and full under it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from typing import NoReturn

import psycopg
import pytest
import trio

from softstate.errors import SoftstateError, Unavailable
from softstate.model import Durability, Page
from softstate.store.base import Applied, Write
from softstate.store.limits import CALL_S
from softstate.store.postgres.errors import explain
from softstate.store.postgres.store import PostgresStore
from softstate.testing.conformance.stage import put, state
from tests.kit.engines import missing
from tests.kit.processes import WAIT_S, until
from tests.store.engines.postgres_rig import DATABASE, PASSWORD, ROLE, PostgresRig, asked


@pytest.fixture
def rig(private_postgres: PostgresRig) -> PostgresRig:
    return private_postgres


async def eventually(store: PostgresStore, topic: str) -> int:
    """Write again and again until the store can be used; return the version."""
    with trio.fail_after(WAIT_S):
        while True:
            try:
                return await put(store, topic)
            except Unavailable:
                await trio.sleep(0.02)


# Down ----------------------------------------------------------------------------------------------------------------


async def test_killed_and_started_again(rig: PostgresRig) -> None:
    """Nothing acknowledged is lost, and a new lineage begins before the first change after it."""
    store = await rig.open()
    version = await put(store, "a")
    before = await store.head()
    await rig.kill()
    for call in (store.head, lambda: put(store, "b"), lambda: store.compact(tombstones=1, keys=1)):
        with pytest.raises(Unavailable, match=r"^postgresql://softstate@127\.0\.0\.1:\d+/softstate_tests: ") as caught:
            await call()
        assert PASSWORD not in repr(caught.value)
    with trio.fail_after(WAIT_S):
        await store.wait(before.revision)
    await rig.start()
    assert (await store.head()) == before
    assert await eventually(store, "b") == version + 2
    after = await store.head()
    assert after.lineage != before.lineage
    assert list(await store.lineage_at([version, version + 1])) == [before.lineage, after.lineage]
    assert isinstance(await asked(store, before), Page), "who has seen the history before the crash is at home"


async def test_direct_publish_after_a_restart_begins_a_lineage(rig: PostgresRig) -> None:
    store = await rig.open()
    before = await store.head()
    await rig.kill()
    await rig.start()
    await rig.publish_directly("a", "1")
    await rig.publish_directly("a", "2")
    feed = await (await rig.open()).feed(before)
    assert [row.revision for row in feed.lineages] == [before.revision + 1, before.revision + 4]
    assert [record.version for record in feed.records] == [before.revision + 3]


async def test_frozen_server_is_unavailable_in_time(rig: PostgresRig) -> None:
    """Connections stay, nothing answers: each call gives up by itself, several at a time too."""
    store = await rig.open()
    await put(store, "a")
    head = await store.head()
    calls: Sequence[Callable[[], object]] = (
        store.head, store.info, lambda: store.feed(head), lambda: put(store, "b"), lambda: put(store, "c"),
    )  # fmt: skip
    failed: list[Unavailable] = []

    async def fails(call: Callable[[], object]) -> None:
        with pytest.raises(Unavailable, match="has not answered within 3 s") as caught:
            await call()  # type: ignore[misc]
        failed.append(caught.value)

    rig.freeze()
    try:
        with trio.fail_after(CALL_S + WAIT_S):
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(fails, call)
        with pytest.raises(Unavailable):
            await store.head()
    finally:
        rig.thaw()
    assert len(failed) == len(calls)
    await eventually(store, "d")
    assert "d" in await state(store)


async def test_cancelled_calls_leave_the_store_usable(rig: PostgresRig) -> None:
    """Whenever they are cancelled: waiting for their turn, in the middle, or just as the answer comes."""
    store = await rig.open()
    for patience_s in (0, 0.0002, 0.0005, 0.001, 0.002, 0.004):
        for call in (lambda: put(store, "a"), store.head, lambda: store.wait(10**6)):
            with trio.move_on_after(patience_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
                    nursery.start_soon(call)
            await store.head()
            await put(store, "b")


async def test_closing_while_the_server_is_frozen_ends(rig: PostgresRig) -> None:
    store = await rig.open()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(trio.ClosedResourceError):
                while True:
                    await store.wait(10**6)

        nursery.start_soon(listen)
        await put(store, "a")
        rig.freeze()
        try:
            with trio.fail_after(CALL_S + WAIT_S):
                await store.aclose()
        finally:
            rig.thaw()
    for closed in (store.head, lambda: put(store, "b"), store.reopen):
        with pytest.raises(trio.ClosedResourceError):
            await closed()


async def test_read_only_server_refuses_writes_and_reads_go_on(rig: PostgresRig) -> None:
    store = await rig.open()
    await put(store, "a")
    await rig.refuse_writes(on=True)
    try:
        with trio.fail_after(WAIT_S), pytest.raises(Unavailable, match="it takes no writes"):
            while True:
                await put(store, "b")
        # More often than psycopg needs to prepare a statement: what it takes for prepared must be there afterwards.
        for number in range(12):
            with pytest.raises(Unavailable, match="it takes no writes"):
                await put(store, f"b/{number}")
        assert "a" in await state(store)
        other = await rig.open()
        found = await store.head()
        assert await other.head() == found, "one that opens meanwhile serves what is there"
        assert "a" in await state(other)
        assert "it takes no writes" in other.unwritten
        assert store.unwritten == ""
        with pytest.raises(Unavailable, match="it takes no writes"):
            await put(other, "b")
    finally:
        await rig.refuse_writes(on=False)
    await eventually(other, "c")
    assert other.unwritten == ""
    feed = await other.feed(found)
    assert [row.revision for row in feed.lineages] == [found.revision + 1], "its row comes before its first change"
    assert [record.version for record in feed.records] == [found.revision + 2]
    for number in range(12):
        await put(store, f"c/{number}", key=str(number))


@pytest.mark.parametrize("at", ["connecting", "a second descriptor", "waiting"])
async def test_a_process_without_descriptors_cannot_reach_the_store_for_a_while(
    rig: PostgresRig, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """No bug, and no connection is kept half made: without its settings, or without a way to cut a call off."""
    store = await rig.open()
    await put(store, "a")
    before = await store.head()
    engine = store._engine

    def too_many(*_arguments: object, **_named: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    if at != "waiting":
        await engine.writer.close(for_good=False)
    with monkeypatch.context() as patch:
        if at == "connecting":
            patch.setattr(psycopg, "connect", too_many)
        elif at == "a second descriptor":
            patch.setattr("softstate.store.postgres.connection.os.dup", too_many)
        else:
            patch.setattr(psycopg.Connection, "wait", too_many)
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"cannot be made or used here .*Too many open files.*ulimit -n"):
                await put(store, "b")
            assert engine.writer._connection is None
            assert engine.writer._plug is None
    assert await put(store, "b") == before.revision + 2, "the session is a new one, and begins a lineage"
    (path,) = await engine.writer.call(lambda on: on.execute("SHOW search_path").fetchone() or (), CALL_S)
    assert path == '"softstate", pg_temp'
    assert engine.writer._plug is not None


# Outcome unknown -----------------------------------------------------------------------------------------------------


class Cutter:
    """A proxy that cuts the connection as the server answers a commit: it is made, and no answer arrives."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.armed = False
        self.port = 0

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._relay, 0)
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _relay(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._target)

        async def up(nursery: trio.Nursery) -> None:
            async for data in client:
                await server.send_all(data)
            nursery.cancel_scope.cancel()

        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(up, nursery)
            async for data in server:
                if self.armed and b"COMMIT\0" in data:
                    self.armed = False
                    break
                await client.send_all(data)
            nursery.cancel_scope.cancel()


async def test_unknown_outcome_is_asked_about_with_the_key(rig: PostgresRig, nursery: trio.Nursery) -> None:
    cutter = Cutter(rig.server.port)
    await nursery.start(cutter.serve)
    store = await PostgresStore.open(
        f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{cutter.port}/{DATABASE}?sslmode=disable"
    )
    rig.opened.append(store)
    head = await store.head()
    request = Write("a", b"\x01", expect=0, key="k", digest=b"d")
    cutter.armed = True
    with pytest.raises(Unavailable):
        await store.publish([request])
    assert not cutter.armed
    (verdict,) = (await store.publish([request])).verdicts
    assert verdict == Applied(head.revision + 1, repeated=True)
    nursery.cancel_scope.cancel()


async def test_commit_that_waits_for_a_standby_is_not_seen(rig: PostgresRig) -> None:
    """It is neither acknowledged nor visible until the standby has it; then it is there, and the key tells."""
    store = await rig.open()
    head = await store.head()
    request = Write("a", b"\x01", key="k", digest=b"d")
    rig.server.change_setting("synchronous_standby_names", "nobody")
    try:
        with pytest.raises(Unavailable, match="has not answered within 3 s"):
            await store.publish([request])
        with pytest.raises(Unavailable):
            await store.publish([request])
        assert await store.head() == head
    finally:
        rig.server.change_setting("synchronous_standby_names", "''")
    (verdict,) = (await store.publish([request])).verdicts
    assert verdict == Applied(head.revision + 1, repeated=True)


@pytest.mark.parametrize("notifying", [True, False])
async def test_a_notifying_commit_that_waits_for_a_standby_holds_others(rig: PostgresRig, notifying: bool) -> None:
    """Though it only puts a row into the inbox, unless it leaves the notification out; the error names the cause."""
    store = await rig.open()
    head = await store.head()
    rig.server.change_setting("synchronous_standby_names", "nobody")
    publish = "SELECT softstate.publish(%s, '1')"
    waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    try:
        with rig.connect() as application, rig.connect() as other:
            application.execute("SET softstate.notify = 'on'" if notifying else "SET softstate.notify = 'off'")
            application.execute(publish, ("a",))
            other.execute("SET synchronous_commit = local")
            other.execute("SET lock_timeout = '100ms'")
            other.commit()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, application.commit)
                await trio.to_thread.run_sync(
                    lambda: until("the commit waits for its standby", lambda: rig.server.execute(waits) == [(True,)])
                )
                other.execute(publish, ("b",))
                if notifying:
                    with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
                        other.commit()
                    told = explain(caught.value, "postgresql://h/d", opening=False)
                    assert "COMMIT that notifies waits for a synchronous standby" in str(told)
                else:
                    other.commit()
                rig.server.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    finally:
        rig.server.change_setting("synchronous_standby_names", "''")
    await put(store, "c")
    assert sorted(await state(store)) == (["a", "c"] if notifying else ["a", "b", "c"])
    assert (await store.head()).revision > head.revision


# Warnings ------------------------------------------------------------------------------------------------------------


async def test_durability_is_reported_as_it_is(rig: PostgresRig) -> None:
    """Asynchronous commits are overridden for ours; without fsync nothing helps, and that is noticed while it runs."""
    rig.server.change_setting("synchronous_commit", "off")
    try:
        store = await rig.open()
        assert (store.durability, store.warnings) == (Durability.DURABLE, ())
        rig.server.change_setting("fsync", "off")
        with trio.fail_after(WAIT_S):
            while store.durability is Durability.DURABLE:
                await store.head()
        assert store.durability is Durability.WEAK
        assert "fsync = off" in store.warnings[0]
        other = await rig.open()
        assert (other.durability, other.warnings) == (Durability.WEAK, store.warnings)
    finally:
        rig.server.change_setting("fsync", "on")
        rig.server.change_setting("synchronous_commit", "on")


async def test_tls(rig: PostgresRig) -> None:
    """A server whose certificate is checked, and one that another authority has signed."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed, which makes the certificates: run .dev/engines")
    folder = rig.server.folder
    for name in ("right", "wrong"):
        await trio.run_process(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=softstate test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
             folder / f"{name}.key", "-out", folder / f"{name}.pem"],
            capture_stdout=True, capture_stderr=True,
        )  # fmt: skip
    rig.server.own(folder)
    (folder / "right.key").chmod(0o600)
    rig.server.stop()
    rig.server.start("ssl=on", f"ssl_cert_file={folder}/right.pem", f"ssl_key_file={folder}/right.key")
    url = f"{rig.url}&sslmode=verify-full&sslrootcert={folder}/"
    store = await PostgresStore.open(url + "right.pem")
    rig.opened.append(store)
    await put(store, "a")
    rows = rig.server.execute("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                              " WHERE application_name LIKE 'softstate%'")  # fmt: skip
    assert rows == [(True,)]
    with pytest.raises(SoftstateError, match=r"certificate verify failed.*see sslmode") as caught:
        await PostgresStore.open(url + "wrong.pem")
    assert PASSWORD not in repr(caught.value)
