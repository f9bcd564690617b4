"""The real client against real nodes: sections 11 to 16 of PROTOCOL.md, as an application sees them."""

import math
from collections.abc import Sequence

import pytest
import trio

import softstate
from softstate import Change, Conflict, Position, Reset, Unavailable
from softstate.store import MemoryDisk
from softstate.store.base import Write
from tests.kit.node_rig import mode_is, node, until


async def newest(updates: softstate.Updates, topic: str) -> Change:
    """Return the next change of a topic, passing over others."""
    async for change in updates:
        if change.topic == topic:
            return change
    raise AssertionError("the updates ended")


async def test_an_application_may_leave_the_loop_and_go_on() -> None:
    async with node() as rig, softstate.connect(rig.url) as client:
        version = await client.publish("orders/42", 1)
        async with client.subscribe("orders/") as updates:
            for value in (1, 2):
                async for change in updates:
                    assert change == Change("orders/42", version, value)
                    break
                version = await client.publish("orders/42", value + 1, expect=version)
        assert await client.get("orders/42", at_least=version) == Change("orders/42", version, 3)


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_an_application_publishes_follows_and_reads(codec: str) -> None:
    async with node() as rig, softstate.connect(rig.url, codec=codec) as client:  # type: ignore[arg-type]
        first = await client.publish("orders/42", {"state": "new", "raw": b"\x00"})
        async with client.subscribe("orders/42", "prices/") as updates:
            change = await anext(updates)
            assert change == Change("orders/42", first, {"state": "new", "raw": b"\x00"})
            await updates.synced()
            assert 0 <= updates.age < 5
            version = await client.publish("orders/42", {"state": "paid"}, expect=change.version)
            read = await client.get("orders/42", at_least=version)
            assert read == Change("orders/42", version, {"state": "paid"})
            assert await anext(updates) == read
            await client.publish("prices/eur", 1.5)
            assert (await anext(updates)).value == 1.5
            with pytest.raises(Conflict) as lost:
                await client.publish("orders/42", "late", expect=first)
            assert lost.value.current == version
            await mode_is(client, "live")
        assert [change.topic for change in await client.list("/")] == ["orders/42", "prices/eur"]


async def test_changes_are_pushed_and_deletions_too() -> None:
    async with node() as rig, softstate.connect(rig.url) as client, softstate.connect(rig.url) as other:
        async with client.subscribe("a/") as updates:
            await mode_is(client, "live")
            version = await other.publish("a/1", None)
            assert await anext(updates) == Change("a/1", version, None)
            version = await other.delete("a/1")
            assert await anext(updates) == Change("a/1", version, deleted=True)
            assert rig.node.repairs == {}


async def test_leaving_releases_the_lease_at_once() -> None:
    async with node(ttl_ms=60_000) as rig:
        async with softstate.connect(rig.url) as client, client.subscribe("x"):
            await mode_is(client, "live")
            assert rig.node.leases.statistics().subscriptions == 1
        await until(lambda: rig.node.leases.statistics().sessions == 0)


async def test_a_killed_node_leaves_its_clients_polling_another_and_live_again_later() -> None:
    disk = MemoryDisk()
    async with node(disk) as push, node(disk, role="poll") as poll:
        async with (
            softstate.connect([push.url, poll.url], ordered=True) as client,
            softstate.connect(poll.url, push=False) as other,
        ):
            async with client.subscribe("t") as updates:
                await mode_is(client, "live")
                await push.kill()
                await mode_is(client, "polling")
                version = await other.publish("t", "while it was down")
                assert await newest(updates, "t") == Change("t", version, "while it was down")
                assert updates.age < math.inf
                await push.start()
                await mode_is(client, "live")
                version = await other.publish("t", "after")
                assert (await newest(updates, "t")).version == version
                assert updates.reset_count == 0


async def test_without_a_node_the_age_grows_and_the_client_goes_offline() -> None:
    async with node() as rig, softstate.connect(rig.url) as client, client.subscribe("t") as updates:
        await client.publish("t", 1)
        assert (await anext(updates)).value == 1
        await mode_is(client, "live")
        before = updates.age
        await rig.kill()
        await mode_is(client, "offline")
        assert updates.age > before
        receipt = client.publish_soon("t", 2)
        await rig.start()
        await receipt.wait()
        assert (await newest(updates, "t")).value == 2
        await mode_is(client, "live")


async def test_a_lost_connection_resumes_its_session() -> None:
    async with node(ttl_ms=20_000) as rig, softstate.connect(rig.url) as client, client.subscribe("t", "p/") as updates:
        await mode_is(client, "live")
        (connection,) = rig.node.sockets
        connection.end()
        version = (await rig.node.access.writes.publish(_publish("p/x")))[0].version
        assert await anext(updates) == Change("p/x", version, 1)
        await mode_is(client, "live")
        await until(lambda: rig.node.repairs["resumed"] == 1)
        assert rig.node.repairs == {"resumed": 1}


async def test_a_restored_store_resets_its_clients_before_anything_of_the_new_history() -> None:
    disk = MemoryDisk()
    async with node(disk) as rig, softstate.connect(rig.url) as client, client.subscribe("kept", "lost") as updates:
        await client.publish("kept", "old")
        backup = disk.snapshot()
        await client.publish("kept", "new")
        await client.publish("lost", 1)
        seen: dict[str, object] = {}
        events = updates.events()
        while seen != {"kept": "new", "lost": 1}:
            event = await anext(events)
            if isinstance(event, Change):
                seen[event.topic] = event.value
        disk.restore(backup)
        resets = 0
        while seen != {"kept": "old", "lost": None}:
            event = await anext(events)
            resets += isinstance(event, Reset)
            if isinstance(event, Change):
                assert resets == 1
                seen[event.topic] = event.value
        await mode_is(client, "live")
        assert updates.reset_count == 1
        assert client.statistics().resets == 1


async def test_a_store_that_is_down_lets_ages_grow_and_keeps_leases() -> None:
    async with node() as rig, softstate.connect(rig.url) as client, client.subscribe("t") as updates:
        await client.publish("t", 1)
        await mode_is(client, "live")
        rig.store.outage = True
        receipt = client.publish_soon("t", 2)
        await until(lambda: updates.age > 1.2)
        assert client.mode == "live"
        assert not receipt.settled
        rig.store.outage = False
        assert (await receipt.wait()).version
        while (await newest(updates, "t")).value != 2:
            pass
        await until(lambda: updates.age < 1)
        assert rig.node.repairs == {}


async def test_a_store_that_hangs_shows_and_publishes_wait_their_turn() -> None:
    async with node(store_s_max=0.1) as rig, softstate.connect(rig.url) as client:
        await mode_is(client, "live")
        answers = trio.Event()
        rig.store._checkpoint = lambda _name: answers.wait()
        receipt = client.publish_soon("t", 1)
        await until(lambda: rig.node.unready is not None)
        assert rig.node.ready  # or all of its clients would be sent to nodes of the same store
        assert not receipt.settled
        answers.set()
        await receipt.wait()
        await until(lambda: rig.node.unready is None)


async def test_a_store_too_slow_for_renewals_costs_freshness_and_no_lease() -> None:
    """Found by the simulator: renewals answered later than clients wait lost every lease."""
    async with node() as rig, softstate.connect(rig.url) as client, client.subscribe("t") as updates:
        await mode_is(client, "live")
        heads = rig.node.access.heads.batcher
        answers = trio.Event()

        async def hang(requests: object) -> Sequence[Position]:
            await answers.wait()
            raise Unavailable("at last")

        heads._call = hang
        await until(lambda: updates.age > 2.5)
        assert client.mode == "live"
        assert client.statistics().misses == 0
        assert rig.node.repairs == {}


async def test_amnesia_is_repaired_by_the_next_renewal() -> None:
    async with node() as rig, softstate.connect(rig.url) as client, client.subscribe("t") as updates:
        await mode_is(client, "live")
        rig.node.leases.clear()
        version = (await rig.node.access.writes.publish(_publish("t")))[0].version
        assert await anext(updates) == Change("t", version, 1)
        await mode_is(client, "live")


async def test_a_draining_node_says_goodbye_and_its_client_moves_on() -> None:
    disk = MemoryDisk()
    async with node(disk) as first, node(disk) as second:
        async with softstate.connect([first.url, second.url], ordered=True) as client, client.subscribe("t") as updates:
            await mode_is(client, "live")
            await first.node.drain()
            await until(lambda: second.node.leases.statistics().sessions == 1)
            await mode_is(client, "live")
            version = await client.publish("t", 1)
            assert (await newest(updates, "t")).version == version


async def test_many_publishes_in_flight_survive_a_crash_exactly_once_and_in_order() -> None:
    disk = MemoryDisk()
    async with node(disk) as rig, softstate.connect(rig.url) as client:
        await mode_is(client, "live")
        receipts = [client.publish_soon(f"t/{number % 5}", number, each=True) for number in range(300)]
        await receipts[50].wait()
        await rig.kill()
        await rig.start()
        for receipt in receipts:
            await receipt.wait()
        head = disk.image.position.revision
        lineage_rows = 2
        assert head == len(receipts) + lineage_rows
        assert {change.topic: change.value for change in await client.list("t/")} == {
            f"t/{n}": 295 + n for n in range(5)
        }


def _publish(topic: str) -> Write:
    return Write(topic, b"\x01")


async def test_a_cancelled_client_leaves_nothing_behind() -> None:
    async with node(ttl_ms=1_000) as rig:
        with trio.move_on_after(0.2):
            async with softstate.connect(rig.url) as client, client.subscribe("x") as updates:
                await mode_is(client, "live")
                await anext(updates)
        await until(lambda: rig.node.leases.statistics().sessions == 0)
        await until(lambda: not rig.node.sockets)


async def test_an_application_that_is_cancelled_after_its_connection_ends_by_that_alone() -> None:
    """Found by an example: the connection's task ended first, and unsubscribing met its closed queue."""
    async with node() as rig:
        live = trio.Event()

        async def follow() -> None:
            async with softstate.connect(rig.url) as client, client.subscribe("a/"):
                await mode_is(client, "live")
                live.set()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await until(lambda: not rig.node.connections)

        async with trio.open_nursery() as outside:
            outside.start_soon(follow)
            await live.wait()
            outside.cancel_scope.cancel()


async def test_publishes_without_a_key_leave_nothing_behind_but_what_is_in_flight() -> None:
    async with node(keys_max=3) as rig, softstate.connect(rig.url) as client:
        for number in range(20):
            await client.publish(f"t/{number}", number)
        receipts = [client.publish_soon(f"u/{number}", number) for number in range(300)]
        for receipt in receipts:
            await receipt.wait()
        await client.publish("last", 1)
        image = rig.disk.image
        assert (len(image.keys), len(image.publishers)) == (0, 1)
        (publisher,) = image.publishers.values()
        assert (publisher.settled, list(publisher.uses)) == (320, [321])
