"""Waiting for commits on a Redis server, by its messages, and by looks at the head where a message was lost."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.position import REVISION_MAX
from softstate.store.base import Store
from softstate.store.redis.schema import LIBRARY
from softstate.testing.conformance.stage import put
from tests.store.engines.cable import cable_to
from tests.store.engines.redis_rig import RedisRig, opened, opened_over


async def waited(store: Store, revision: int) -> None:
    """Wait until there is something above a revision, allowing for early returns."""
    with trio.fail_after(10):
        await store.wait(revision)
        while (await store.head()).revision <= revision:
            await store.wait(revision)


async def listening(store: Store) -> None:
    """Wait until the store listens: it wakes who waits when it begins to."""
    with trio.fail_after(10):
        await store.wait((await store.head()).revision)


async def test_wait_survives_the_loss_of_its_connection(rig: RedisRig) -> None:
    async with opened(rig) as store, opened(rig) as other:
        await listening(store)
        assert await rig.ask("CLIENT", "KILL", "TYPE", "pubsub") != b":0\r\n"
        for topic in ("b", "c"):
            version = await put(other, topic)
            await waited(store, version - 1)


async def test_a_connection_that_loses_messages_is_replaced(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that never come, on a connection that stays: the looks find out, and listen on another."""
    monkeypatch.setattr("softstate.store.commit_waiter.CHECK_EVERY_S", 0.05)
    monkeypatch.setattr("softstate.store.redis.connection.LISTEN_RETRY_S", 0.05)
    async with cable_to(rig.port) as cable, opened_over(cable) as store, opened(rig) as other:
        await listening(store)
        await rig.ask("FUNCTION", "FLUSH")
        await rig.ask("FUNCTION", "LOAD", LIBRARY.replace("'PUBLISH', store.channel", "'PUBLISH', 'elsewhere'"))
        listeners = await pubsub_clients(rig)
        with trio.fail_after(10):
            while await pubsub_clients(rig) == listeners:
                await waited(store, await put(other, "a") - 1)


async def test_connection_that_has_nothing_to_tell_is_kept(rig: RedisRig) -> None:
    """Commits from before listening began have no message here, which says nothing against the connection."""
    async with opened(rig) as other, opened(rig) as store:
        await put(other, "a")
        await listening(store)
        listeners = await pubsub_clients(rig)
        assert len(listeners) == 1
        for _ in range(4):
            assert not await store._check()
        await trio.testing.wait_all_tasks_blocked()
        assert await pubsub_clients(rig) == listeners
        version = await put(other, "b")
        await waited(store, version - 1)


async def test_a_message_about_a_commit_that_is_not_there_is_forgotten(
    rig: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends one wait. Later publishes end none for nothing, and a connection that loses messages is still found."""
    async with opened(rig) as store, opened(rig) as other:
        await listening(store)
        assert not await store._check()
        monkeypatch.setattr("softstate.store.redis.connection.LISTEN_RETRY_S", 0.05)
        listeners = await pubsub_clients(rig)
        forged = f"{store._engine.seen.epoch}.x.{REVISION_MAX}"
        await rig.ask("PUBLISH", "{softstate}:wake", forged)
        with trio.fail_after(10):
            await store.wait((await store.head()).revision)
        assert not await store._check()
        revision = await put(store, "a")
        ended = trio.Event()

        async def wait() -> None:
            await store.wait(revision + 1)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            store._pass_on()
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set()
            nursery.cancel_scope.cancel()
        await rig.ask("FUNCTION", "FLUSH")
        await rig.ask("FUNCTION", "LOAD", LIBRARY.replace("'PUBLISH', store.channel", "'PUBLISH', 'elsewhere'"))
        await put(other, "b")
        for _ in range(2):
            assert not await store._check()
        with trio.fail_after(10):
            while await pubsub_clients(rig) == listeners:
                await trio.sleep(0.01)


async def pubsub_clients(rig: RedisRig) -> list[bytes]:
    """List the ids of connections that listen."""
    answer = await rig.ask("CLIENT", "LIST", "TYPE", "pubsub")
    return [line.partition(b" ")[0] for line in answer.splitlines() if line.startswith(b"id=")]


async def test_own_commit_wakes_when_it_has_returned(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message about an own commit may come before the answer, and must not cause a needless read."""
    async with opened(rig) as store:
        await listening(store)
        call = store._engine.call
        woken = trio.Event()

        async def told_first(function: str, *arguments: bytes | str | int, writes: bool = True) -> object:
            answer = await call(function, *arguments, writes=writes)
            if function == "write":
                store._receive(f"{store._engine.seen.epoch}.x.2".encode())
                await trio.testing.wait_all_tasks_blocked()
                assert not woken.is_set()
            return answer

        async def wait() -> None:
            await store.wait(1)
            woken.set()

        monkeypatch.setattr(store._engine, "call", told_first)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await put(store, "a")
