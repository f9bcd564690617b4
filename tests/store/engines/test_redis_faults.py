"""A Redis server in trouble: what the store says, that it recovers, that a rewound server never passes for sound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from softstate.errors import Rewound, StoreRefused, StoreRewound, Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Store, Write
from softstate.store.redis.connection import CONNECTIONS_MAX, RedisConnections
from softstate.store.redis.url import RedisAddress
from softstate.testing.conformance.stage import put, read_page
from tests.store.engines.cable import cable_to
from tests.store.engines.redis_rig import RedisRig, opened, opened_over, redis_rig
from tests.store.engines.rig import free_port

SHORT_S = 0.3
"""A bound on calls for tests that wait until it is over."""


async def topics(store: Store) -> list[str]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    return [record.topic for record in page.records]


async def is_told(store: Store, witness: Position) -> bool:
    """Tell whether a client that has seen this position would be reset."""
    (answer,) = await store.read([Query(witness=witness)])
    return isinstance(answer, Rewound)


# Restarted, wiped, put back ------------------------------------------------------------------------------------------


async def test_killed_server_keeps_what_it_acknowledged(rig: RedisRig) -> None:
    """Acknowledged commits outlive kill -9; the first change after it begins a lineage, in the same transaction."""
    async with opened(rig) as store:
        last = await put(store, "a")
        before = await store.head()
        await rig.kill()
        for call in (lambda: put(store, "lost"), store.head, lambda: store.read([Query()])):
            with pytest.raises(Unavailable, match=f"127.0.0.1:{rig.port}"):
                await call()
        with trio.fail_after(10):
            await store.wait(before.revision)
        await rig.start()
        assert await store.head() == before, "to be read again is no change"
        committed = await store.publish([Write("b", b"\x02"), Write("c", b"\x03")])
        assert committed.before == last + 1, "the lineage row comes between"
        assert [record.version for record in committed.records] == [last + 2, last + 3]
        assert committed.position.lineage != before.lineage
        assert not await is_told(store, before), "no client is reset"
        feed = await store.feed(before)
        assert list(feed.lineages) == [committed.position.at(last + 1)]
        assert await put(store, "d") == last + 4, "no more rows"
        assert await topics(store) == ["a", "b", "c", "d"]


async def test_wiped_server(rig: RedisRig) -> None:
    """An empty server where the store was: rewound, until reopening creates another."""
    async with opened(rig) as store:
        await put(store, "a")
        before = await store.head()
        await rig.wipe()
        for call in (lambda: put(store, "b"), store.head, lambda: store.compact(tombstones=1, keys=1)):
            with pytest.raises(StoreRewound, match="reopen it"):
                await call()
        with trio.fail_after(10):
            await store.wait(before.revision)
        position = await store.reopen()
        assert position.epoch != before.epoch
        assert await is_told(store, before)
        assert await topics(store) == []


async def test_older_copy_that_has_advanced_is_told_apart(rig: RedisRig) -> None:
    """A copy put back, and advanced past every client by another program before any node checked, is noticed."""
    async with opened(rig) as store:
        backup = await rig.backup()
        await put(store, "lost/1")
        seen = await store.head()
        await rig.restore(backup)
        for number in range(3):
            await rig.publish_directly(f"other/{number}", "1")
        with pytest.raises(StoreRewound, match="does not contain"):
            await store.head()
        with pytest.raises(StoreRewound):
            await put(store, "b")
        position = await store.reopen()
        assert position.revision > seen.revision
        assert await is_told(store, seen)
        assert await topics(store) == ["other/0", "other/1", "other/2"]


async def test_keys_put_back_into_a_running_server_are_told_apart(rig: RedisRig) -> None:
    """The same without a restart, as by a tool that restores keys: nothing of the server's identity changes then."""
    async with opened(rig) as store:
        await put(store, "kept")
        meta = await rig.ask("EVAL", "return cjson.encode(redis.call('HGETALL', KEYS[1]))", 1, "{softstate}:meta")
        await put(store, "lost")
        seen = await store.head()
        put_back = (
            "local image = redis.call('HGET', KEYS[1], 'image') "
            "for _, side in ipairs{'live:/', 'value'} do local key = '{softstate}:' .. image .. ':' .. side "
            "redis.call(side == 'value' and 'HDEL' or 'ZREM', key, 'lost') end "
            "return redis.call('HSET', KEYS[1], unpack(cjson.decode(ARGV[1])))"
        )
        await rig.ask("EVAL", put_back, 1, "{softstate}:meta", meta.split(b"\r\n")[1])
        for number in range(2):
            await rig.publish_directly(f"other/{number}", "1")
        with pytest.raises(StoreRewound):
            await store.head()
        await store.reopen()
        assert await is_told(store, seen)
        assert await topics(store) == ["kept", "other/0", "other/1"]


# Failed over ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def replicated(rig: RedisRig, tmp_path: Path) -> AsyncIterator[RedisRig]:
    """Run a replica of the server, in step with it."""
    async with redis_rig(tmp_path, "replica", replicaof=f"127.0.0.1 {rig.port}") as replica:
        await in_step(rig, replica)
        yield replica


async def in_step(primary: RedisRig, replica: RedisRig) -> None:
    """Wait until the replica has all that the primary has."""

    async def offset(rig: RedisRig, name: bytes) -> bytes:
        info = await rig.ask("INFO", "replication")
        return info.partition(name)[2].partition(b"\r")[0] if b"master_sync_in_progress:1" not in info else b""

    with trio.fail_after(20):
        while not (reached := await offset(replica, b"slave_repl_offset:")) or reached != await offset(
            primary, b"master_repl_offset:"
        ):
            await trio.sleep(0.01)


async def test_failover_without_loss_resets_no_client(rig: RedisRig, tmp_path: Path) -> None:
    async with replicated(rig, tmp_path) as replica, cable_to(rig.port) as cable, opened_over(cable) as store:
        await put(store, "a")
        seen = await store.head()
        await in_step(rig, replica)
        await rig.kill()
        await replica.ask("REPLICAOF", "NO", "ONE")
        cable.plug(replica.port)
        assert await put(store, "b") == seen.revision + 2, "behind a lineage row of the new primary"
        assert not await is_told(store, seen)
        assert await topics(store) == ["a", "b"]


async def test_failover_that_lost_commits_is_a_rewind(rig: RedisRig, tmp_path: Path) -> None:
    async with replicated(rig, tmp_path) as replica, cable_to(rig.port) as cable, opened_over(cable) as store:
        kept = await store.head()
        await in_step(rig, replica)
        await replica.ask("REPLICAOF", "NO", "ONE")
        await put(store, "lost")
        seen = await store.head()
        await rig.kill()
        cable.plug(replica.port)
        for number in range(3):
            await replica.publish_directly(f"b/{number}", "1")
        with pytest.raises(StoreRewound):
            await put(store, "c")
        await store.reopen()
        assert await is_told(store, seen)
        assert not await is_told(store, kept)


async def test_primary_that_was_demoted_and_promoted_again_is_told_apart(rig: RedisRig, tmp_path: Path) -> None:
    """The old primary, same process and run id, takes over the new one's history and gets its place back."""
    async with replicated(rig, tmp_path) as replica, cable_to(rig.port) as cable, opened_over(cable) as store:
        await put(store, "kept")
        await in_step(rig, replica)
        await replica.ask("REPLICAOF", "NO", "ONE")
        await put(store, "lost")
        seen = await store.head()
        await rig.ask("REPLICAOF", "127.0.0.1", replica.port)
        await in_step(replica, rig)
        for call in (store.head, lambda: put(store, "x"), lambda: store.read([Query()]), store.reopen):
            with pytest.raises((Unavailable, StoreRefused), match="connect to the primary"):
                await call()
        await replica.kill()
        await rig.ask("REPLICAOF", "NO", "ONE")
        for number in range(2):
            await rig.publish_directly(f"b/{number}", "1")
        with pytest.raises(StoreRewound):
            await store.head()
        await store.reopen()
        assert await is_told(store, seen)
        assert await topics(store) == ["kept", "b/0", "b/1"]


@pytest.mark.parametrize("first", ["head", "publish", "reopen"])
async def test_a_primary_that_lives_on_as_a_replica_is_left(
    rig: RedisRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Its name leads new connections to the new primary, and cuts none: one call fails, and none after it."""
    monkeypatch.setattr("softstate.store.redis.connection.LISTEN_RETRY_S", 0.05)
    async with replicated(rig, tmp_path) as replica, cable_to(rig.port) as cable, opened_over(cable) as store:
        await put(store, "a")
        with trio.fail_after(10):
            await store.wait((await store.head()).revision)
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS_MAX):
                nursery.start_soon(store.head)
        await in_step(rig, replica)
        await replica.ask("REPLICAOF", "NO", "ONE")
        await rig.ask("REPLICAOF", "127.0.0.1", replica.port)
        await in_step(replica, rig)
        cable.target = replica.port
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "head": store.head, "publish": lambda: put(store, "x"), "reopen": store.reopen
        }  # fmt: skip
        with pytest.raises((Unavailable, StoreRefused), match="connect to the primary"):
            await calls[first]()
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS_MAX):
                nursery.start_soon(store.head)
        await put(store, "b")
        assert await topics(store) == ["a", "b"]
        with trio.fail_after(10):
            while b"\nid=" not in await replica.ask("CLIENT", "LIST", "TYPE", "pubsub"):
                await trio.sleep(0.01)


async def test_replica_is_refused(rig: RedisRig, tmp_path: Path) -> None:
    async with opened(rig), replicated(rig, tmp_path) as replica:
        with pytest.raises(StoreRefused, match="connect to the primary"):
            await replica.open()


# Slow, full, out of reach --------------------------------------------------------------------------------------------


async def test_frozen_server_is_unavailable_in_time(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(rig) as store:
        monkeypatch.setattr("softstate.store.redis.connection.CALL_S", SHORT_S)
        await store.head()
        rig.freeze()
        answers: list[str] = []

        async def ask(call: Callable[[], object]) -> None:
            with pytest.raises(Unavailable, match=f"not answered within {SHORT_S}"):
                await call()  # type: ignore[misc]
            answers.append("")

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                # More than there are connections: those who wait their turn are answered too.
                for _ in range(CONNECTIONS_MAX):
                    nursery.start_soon(ask, store.head)
                    nursery.start_soon(ask, lambda: put(store, "a"))
        rig.thaw()
        monkeypatch.undo()
        assert len(answers) == 2 * CONNECTIONS_MAX
        await put(store, "b")
        assert "b" in await topics(store)


async def test_cancelled_call_leaves_no_answer_behind(rig: RedisRig) -> None:
    """The answer to a call that was cancelled never answers the next one."""
    async with opened(rig) as store:
        await put(store, "a")
        rig.freeze()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(store.lineage_at, [1, 2])
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        made = store._engine.connections.made
        rig.thaw()
        for _ in range(3):
            assert (await store.head()).revision == 2
        assert store._engine.connections.made > made, "nor does its connection serve again"


async def test_unknown_outcome_then_retry_with_the_key(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to a commit is lost: `Unavailable`; the retry gets the version of the first, and nothing twice."""
    async with cable_to(rig.port) as cable, opened_over(cable) as store:
        monkeypatch.setattr("softstate.store.redis.connection.CALL_S", SHORT_S)
        await store.head()
        cable.mute = True
        request = Write("a", b"\x01", expect=0, key="k", digest=b"d")
        with pytest.raises(Unavailable):
            await store.publish([request])
        cable.mute = False
        monkeypatch.undo()
        done = await store.publish([request])
        assert list(done.verdicts) == [Applied(2, repeated=True)]
        assert done.position.revision == 2


async def test_full_memory_refuses_changes_only(rig: RedisRig) -> None:
    async with opened(rig) as store:
        await put(store, "a")
        await store.publish([Write("a", None)])
        await rig.refuse_writes(on=True)
        with pytest.raises(Unavailable, match="maxmemory"):
            await put(store, "b")
        assert await topics(store) == []
        assert await store.compact(tombstones=9, keys=9) == 3, "what makes room is allowed"
        async with opened(rig) as other:
            assert "maxmemory" in other.unwritten
            with pytest.raises(Unavailable, match="maxmemory"):
                await put(other, "b")
            await rig.refuse_writes(on=False)
            await put(other, "b")
            assert other.unwritten == ""
        await put(store, "b")


async def test_values_that_were_evicted_are_unreadable(rig: RedisRig) -> None:
    """Redis may throw away any key under some policies; what is missing must not read as deleted."""
    async with opened(rig) as store:
        await put(store, "a")
        first = await store.head()
        await put(store, "b")
        script = "return redis.call('DEL', '{softstate}:' .. redis.call('HGET', KEYS[1], 'image') .. ':record')"
        await rig.ask("EVAL", script, 1, "{softstate}:meta")
        await put(store, "c")
        for records in ((await read_page(store, Query(prefixes={ALL: 0}))).records, (await store.dump(0)).records):
            assert {record.topic: record.unreadable for record in records} == {"a": True, "b": True, "c": False}
        feed = await store.feed(first)
        assert {record.topic: record.unreadable for record in feed.records} == {"b": True, "c": False}


async def test_connections_are_bounded(rig: RedisRig) -> None:
    async with opened(rig) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(10 * CONNECTIONS_MAX):
                nursery.start_soon(store.head)
        connected = int((await rig.ask("INFO", "clients")).partition(b"connected_clients:")[2].partition(b"\r")[0])
        assert 1 < connected <= CONNECTIONS_MAX + 1, "and the one that asks"
    with trio.fail_after(10):
        while b"connected_clients:1\r" not in await rig.ask("INFO", "clients"):
            await trio.sleep(0.01)
    for call in (store.head, lambda: put(store, "a"), store.reopen):
        with pytest.raises(trio.ClosedResourceError):
            await call()


async def test_nothing_listens_there(rig: RedisRig) -> None:
    await rig.kill()
    with pytest.raises(Unavailable, match="see whether it runs"):
        await rig.open()


# The library ---------------------------------------------------------------------------------------------------------


async def test_library_that_was_deleted_is_loaded_again(rig: RedisRig) -> None:
    async with opened(rig) as store:
        await put(store, "a")
        await rig.ask("FUNCTION", "FLUSH")
        await put(store, "b")
        await rig.ask("FUNCTION", "FLUSH")
        assert await topics(store) == ["a", "b"]


@pytest.mark.parametrize(("revision", "replaced"), [(1, True), (2, True), (3, False)])
async def test_library_is_replaced_by_a_newer_one_only(rig: RedisRig, revision: int, replaced: bool) -> None:
    text = f"""#!lua name=softstate
    redis.register_function{{function_name='softstate_library', flags={{'no-writes'}},
      callback=function() return {{{revision}, 'other'}} end}}
    redis.register_function('softstate_2_open', function() return {{{{'e', 'l', 7, 0, 'l'}}}} end)"""
    await rig.ask("FUNCTION", "LOAD", text)
    async with opened(rig) as store:
        answer = await rig.ask("FCALL_RO", "softstate_library", 0)
        assert (b"other" not in answer) is replaced
        if replaced:
            assert (await store.head()).revision == 1


# Foreign keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("SET", "{softstate}:meta", "x"), "choose another"),
        (("HSET", "{softstate}:meta", "x", "y"), "choose another"),
        (("HSET", "{softstate}:meta", "layout", "3"), "install the softstate that wrote it"),
    ],
)
async def test_what_is_not_ours_is_refused(rig: RedisRig, command: tuple[str, ...], complaint: str) -> None:
    await rig.ask(*command)
    with pytest.raises(StoreRefused, match=complaint):
        await rig.open()
    assert await rig.ask("DBSIZE") == b":1\r\n"


async def test_other_namespaces_and_keys_are_left_alone(rig: RedisRig) -> None:
    await rig.ask("SET", "softstate", "theirs")
    async with opened(rig) as store:
        rig.namespace = "second"
        async with opened(rig) as second:
            await put(store, "a/b", key="k")
            await put(second, "c")
            assert await topics(store) == ["a/b"]
            await second.destroy()
        assert await topics(store) == ["a/b"]
        await store.destroy()
    assert await rig.ask("KEYS", "*") == b"*1\r\n$9\r\nsoftstate\r\n"
    for gone in (store, second):
        with pytest.raises(trio.ClosedResourceError):
            await gone.head()


async def test_two_that_close_it_at_once_both_return() -> None:
    connections = RedisConnections(RedisAddress.read(f"redis://127.0.0.1:{free_port()}"))
    await connections.open()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(connections.aclose)
    await connections.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await connections.send(b"PING")
