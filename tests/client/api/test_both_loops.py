"""The same client under Trio and asyncio, against a real node on a socket."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest
import trio

import softstate
from softstate import Client, ClientClosed, Conflict, Unavailable
from tests.kit.loops import Loop, NodeThread, in_thread, node_thread, run


@pytest.fixture(params=["trio", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    return cast("Loop", request.param)


@pytest.fixture
def node() -> Iterator[NodeThread]:
    with node_thread() as one:
        yield one


async def mode_is(client: Client, *modes: str) -> None:
    async for mode in client.modes():
        if mode in modes:
            return


@pytest.mark.parametrize("codec", ["cbor", "json"])
@pytest.mark.parametrize("push", [True, False])
def test_publish_follow_read_and_delete(loop: Loop, node: NodeThread, codec: Any, push: bool) -> None:
    async def main() -> None:
        async with (
            softstate.connect(node.url, codec=codec, push=push) as client,
            client.subscribe("p/", "b") as updates,
        ):
            assert updates.age == math.inf
            version = await client.publish("p/a", {"n": 1})
            await updates.synced()
            change = await anext(updates)
            assert (change.topic, change.value, change.version) == ("p/a", {"n": 1}, version)
            assert updates.age < 10
            await mode_is(client, "live" if push else "polling")
            read = await client.get("p/a", at_least=version)
            assert read is not None
            assert read.value == {"n": 1}
            with pytest.raises(Conflict):
                await client.publish("p/a", 2, expect=version + 7)
            receipts = [client.publish_soon("b", number) for number in range(300)]
            for receipt in receipts:
                await receipt.wait()
            while (await anext(updates)).value != 299:
                pass
            gone = await client.delete("p/a")
            assert [each.topic for each in await client.list("/")] == ["b"]
            last = await anext(updates)
            assert (last.deleted, last.version) == (True, gone)
        assert client.mode == "closed"

    run(loop, main)


def test_a_node_that_is_killed_and_comes_back(loop: Loop, node: NodeThread) -> None:
    async def main() -> None:
        async with softstate.connect(node.url) as client, client.subscribe("p/") as updates:
            await mode_is(client, "live")
            await in_thread(node.kill)
            await mode_is(client, "polling", "offline")
            receipt = client.publish_soon("p/a", 1)
            await in_thread(node.start)
            await receipt.wait()
            assert (await anext(updates)).value == 1
            await mode_is(client, "live")
            assert client.statistics().repairs_mismatch == 0

    run(loop, main)


def test_large_messages_go_both_ways(loop: Loop, node: NodeThread) -> None:
    async def main() -> None:
        async with softstate.connect(node.url) as client, client.subscribe("p/") as updates:
            await mode_is(client, "live")
            texts = {f"p/{number}": chr(97 + number) * 60_000 for number in range(20)}
            receipts = [client.publish_soon(topic, text) for topic, text in texts.items()]
            for receipt in receipts:
                await receipt.wait()
            seen: dict[str, Any] = {}
            while len(seen) < len(texts):
                change = await anext(updates)
                seen[change.topic] = change.value
            assert seen == texts

    run(loop, main)


def test_errors_and_cancellations_leave_the_block_as_they_are(loop: Loop, node: NodeThread) -> None:
    async def raising() -> None:
        with pytest.raises(ValueError, match="mine"):
            async with softstate.connect(node.url) as client:
                await mode_is(client, "syncing", "live")
                raise ValueError("mine")
        with pytest.raises(ClientClosed):
            await client.publish("a", 1)

    async def cancelled() -> None:
        with anyio.move_on_after(0.05) as scope:
            async with softstate.connect(node.url) as client, client.subscribe("p/") as updates:
                await anext(updates)
        assert scope.cancelled_caught
        assert client.mode == "closed"

    run(loop, raising)
    run(loop, cancelled)


def test_a_task_that_asyncio_cancels_closes_its_client(node: NodeThread) -> None:
    async def main() -> None:
        opened = asyncio.Event()
        clients: list[Client] = []

        async def follow() -> None:
            async with softstate.connect(node.url) as client, client.subscribe("p/") as updates:
                clients.append(client)
                opened.set()
                async for _ in updates:
                    pass

        task = asyncio.create_task(follow())
        await opened.wait()
        await mode_is(clients[0], "live")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clients[0].mode == "closed"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_client_in_a_lifespan_serves_other_tasks(loop: Loop, node: NodeThread) -> None:
    """As a web framework has it: one task holds the block, others use the client."""

    @asynccontextmanager
    async def lifespan() -> Any:
        async with softstate.connect(node.url) as client, client.subscribe("p/"):
            yield client

    async def main() -> None:
        async with lifespan() as client:
            versions: list[int] = []

            async def request(number: int) -> None:
                versions.append(await client.publish(f"p/{number}", number))

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(request, number)
            assert len(set(versions)) == 10

    run(loop, main)


def test_where_nobody_listens_reads_say_so(loop: Loop, node: NodeThread) -> None:
    async def main() -> None:
        await in_thread(node.kill)
        async with softstate.connect(node.url) as client:
            with pytest.raises(Unavailable, match="cannot be reached"):
                await client.get("a", timeout_s=0.3)
        await in_thread(node.start)

    run(loop, main)


def test_a_node_that_speaks_no_tls_is_told_apart(loop: Loop, node: NodeThread) -> None:
    async def main() -> None:
        url = node.url.replace("ws://", "wss://")
        async with softstate.connect(url, tls=ssl.create_default_context()) as client:
            with pytest.raises(Unavailable, match="does not speak TLS there"):
                await client.get("a", timeout_s=0.5)

    run(loop, main)


def test_under_neither_loop_it_says_what_to_do() -> None:
    async def main() -> None:
        async with softstate.connect("ws://127.0.0.1:1"):
            pass

    running = main()
    with pytest.raises(RuntimeError, match=r"trio\.run\(main\) or asyncio\.run\(main\(\)\)"):
        running.send(None)


def test_a_cancelled_wait_loses_nothing(loop: Loop, node: NodeThread) -> None:
    async def main() -> None:
        async with softstate.connect(node.url) as client, client.subscribe("p/") as updates:
            await updates.synced()
            with anyio.move_on_after(0.01):
                await anext(updates)
            await client.publish("p/a", 1)
            assert (await anext(updates)).value == 1

    run(loop, main)


def test_trio_keeps_its_own_exceptions(node: NodeThread) -> None:
    async def main() -> None:
        with trio.move_on_after(0.05) as scope:
            async with softstate.connect(node.url) as client:
                await client.get("a", at_least=10**9, timeout_s=60)
        assert scope.cancelled_caught

    trio.run(main)
