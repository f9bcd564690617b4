"""The whole client against a scripted node: publishing, and every way to end."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from softstate.client.api.dispatcher import Dispatcher
from softstate.client.machine.events import Ticked
from softstate.client.machine.portions import VALUE_BYTES_MAX
from softstate.client.shell.sockets import CLOSE_TIMEOUT_S
from softstate.errors import (
    ClientClosed,
    Conflict,
    Denied,
    Invalid,
    OutcomeUnknown,
    SoftstateError,
    TooLarge,
    Unauthenticated,
    Unsupported,
)
from softstate.wire import CBOR
from softstate.wire.messages import ClientBye
from tests.kit.held_stream import HeldStream
from tests.kit.push_node import PushNode, client_of, until
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode


async def test_publish_delete_and_conflict(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        version = await client.publish("a", {"n": 1}, expect=0)
        assert version == push.topics["a"].version
        with pytest.raises(Conflict) as caught:
            await client.publish("a", 2, expect=version - 1)
        assert caught.value.current == version
        assert await client.delete("a", expect=version) == version + 1
        assert push.topics["a"].deleted
    numbers = [(publish.publisher, publish.seq, publish.settled) for publish in push.published]
    assert numbers == [(numbers[0][0], seq, seq - 1) for seq in (1, 2, 3)]
    assert len(numbers[0][0] or "") == 32
    assert [publish.key for publish in push.published] == [None] * 3


async def test_a_client_is_closed_in_a_child_of_fork(
    push: PushNode, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with client_of(push.node.open_stream) as client:
        await client.publish("a", 1)
        left = client.publish_soon("a", 2)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        client._shell.handle(Ticked())  # should its loop go on there, against all rules
        with pytest.raises(OutcomeUnknown, match="fork"):
            await left.wait()
        for call in (client.publish("a", 3), client.get("a"), client.read("a"), client.status()):
            with pytest.raises(ClientClosed, match=r"child of fork\(\).*connect again"):
                await call
        with pytest.raises(ClientClosed, match="fork"):
            client.publish_soon("a", 3)
        in_child = client.mode
        monkeypatch.undo()
        assert (in_child, client.mode) == ("closed", "live")


async def test_publishes_of_a_topic_keep_their_order(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        receipts = [client.publish_soon("a", n, each=True) for n in range(50)]
        assert not any(receipt.settled for receipt in receipts)
        versions = [(await receipt.wait()).version for receipt in receipts]
        assert all(receipt.settled for receipt in receipts)
    assert versions == sorted(versions)
    assert [publish.value for publish in push.published] == list(range(50))


async def test_what_is_published_is_what_it_was_then(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        value = {"list": [1]}
        receipt = client.publish_soon("a", value)
        value["list"].append(2)
        await receipt.wait()
    assert push.topics["a"].value == {"list": [1]}


@pytest.mark.parametrize(
    ("value", "error"),
    [(math.nan, Invalid), ("\ud800", Invalid), ((1,), Invalid), (2**64, Invalid), (bytes(VALUE_BYTES_MAX), TooLarge)],
)
async def test_values_are_checked_before_anything_is_sent(
    push: PushNode, value: object, error: type[SoftstateError]
) -> None:
    async with client_of(push.node.open_stream) as client:
        with pytest.raises(error):
            client.publish_soon("a", value)


async def test_other_arguments_are_checked_too(push: PushNode) -> None:
    async with client_of(push.node.open_stream) as client:
        for arguments in ({"expect": -1}, {"expect": 2**53}, {"key": ""}, {"key": "k" * 129}):
            with pytest.raises(Invalid):
                client.publish_soon("a", 1, **arguments)
        with pytest.raises(Invalid):
            client.publish_soon("a/", 1)


async def test_a_cancelled_publish_is_dropped(push: PushNode, autojump_clock: MockClock) -> None:
    push.mute = True
    async with client_of(push.node.open_stream) as client:
        with trio.move_on_after(1) as scope:
            await client.publish("a", 1)
        assert scope.cancelled_caught
        assert len(push.published) == 1
        receipt = client.publish_soon("b", 1)
        receipt.drop()
        receipt.drop()
        with pytest.raises(ClientClosed, match="dropped"):
            await receipt.wait()


async def test_waiting_for_a_receipt_can_be_cancelled(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        receipt = client.publish_soon("a", 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await receipt.wait()
        assert (await receipt.wait()).version == push.topics["a"].version


async def test_publishing_goes_on_after_a_torn_connection(push: PushNode, autojump_clock: MockClock) -> None:
    push.mute = True
    async with client_of(push.node.open_stream) as client:
        receipt = client.publish_soon("a", 1)
        await trio.sleep(1)
        push.mute = False
        await trio.aclose_forcefully(push.node.streams[0].inner)
        await receipt.wait()
    assert len(push.published) == 2
    assert push.published[0].key == push.published[1].key


async def test_publishing_over_http(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        if asked.target != "/v1/publish":
            return Answer(404)
        changes = CBOR.loads(asked.body, dict)["changes"]
        return Answer.of(
            {"results": [{"topic": change["topic"], "version": 9, "position": HERE} for change in changes]}
        )

    node = ScriptedNode(nursery, http=serve)
    async with client_of(node.open_stream, push=False) as client:
        assert await client.publish("a", b"\x00") == 9


async def test_whoever_waits_learns_that_the_client_was_closed(push: PushNode, autojump_clock: MockClock) -> None:
    push.mute = True
    errors: list[SoftstateError] = []

    async def expect_closed(wait: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(ClientClosed) as caught:
            await wait()
        errors.append(caught.value)

    async with (
        trio.open_nursery() as nursery,
        client_of(push.node.open_stream) as client,
        client.subscribe("a") as updates,
    ):
        nursery.start_soon(expect_closed, updates.__anext__)
        nursery.start_soon(expect_closed, client.publish_soon("a", 1).wait)
        await updates.synced()
        client.close()
        await wait_all_tasks_blocked()
        assert client.mode == "closed"
        assert [mode async for mode in client.modes()] == ["closed"]
    assert len(errors) == 2
    with pytest.raises(ClientClosed):
        client.publish_soon("a", 1)
    with pytest.raises(ClientClosed):
        await client.get("a")
    with pytest.raises(ClientClosed):
        await client.list("/")
    with pytest.raises(ClientClosed):
        await client.status()
    with pytest.raises(ClientClosed):
        async with client.subscribe("a"):
            pass


async def test_refused_credentials_stop_the_client(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return Answer.of({"code": "unauthenticated", "message": "expired"}, status=401)

    node = ScriptedNode(nursery, http=serve, refusal=Answer(401))
    async with client_of(node.open_stream) as client, client.subscribe("a") as updates:
        receipt = client.publish_soon("a", 1)
        with pytest.raises(Unauthenticated):
            await anext(updates)
        with pytest.raises(Unauthenticated):
            await updates.synced()
        with pytest.raises(Unauthenticated):
            await receipt.wait()
        with pytest.raises(Unauthenticated):
            await client.publish("a", 1)
        assert client.mode == "stopped"


async def test_cancelling_the_block_leaves_nothing(push: PushNode, autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        async with client_of(push.node.open_stream) as client, client.subscribe("a") as updates:
            await updates.synced()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(scope.deadline)
    assert push.node.all_closed()


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.1, 1, 5, 30])
async def test_cancelling_at_any_time_leaves_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, delay_s: float
) -> None:
    async def sulk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await trio.sleep(2)

    node = ScriptedNode(nursery, raw=sulk)
    with trio.move_on_after(delay_s):
        async with client_of(node.open_stream) as client, client.subscribe("a", "b/") as updates:
            client.publish_soon("a", 1)
            await anext(updates)
    assert node.all_closed()


async def test_errors_of_the_block_come_out_as_they_are(push: PushNode, autojump_clock: MockClock) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with client_of(push.node.open_stream) as client:
            await until(client, "live")
            raise error
    assert caught.value is error
    assert isinstance(push.node.messages[-1], ClientBye)
    assert push.node.all_closed()


async def test_an_error_of_the_block_is_not_lost_to_a_cancellation(push: PushNode, autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope, pytest.raises(ValueError, match="mine"):
        async with client_of(push.node.open_stream) as client:
            await until(client, "live")
            push.node.streams[0].blocked = True
            scope.cancel()
            raise ValueError("mine")
    assert push.node.all_closed()


async def test_a_cancellation_while_closing_is_obeyed(push: PushNode, autojump_clock: MockClock) -> None:
    with trio.move_on_after(math.inf) as scope:
        async with client_of(push.node.open_stream) as client:
            await until(client, "live")
            push.node.streams[0].blocked = True
            scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S / 2
    assert scope.cancelled_caught
    assert push.node.all_closed()


async def test_a_bug_reaches_the_application(
    push: PushNode, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with client_of(push.node.open_stream) as client:
            await until(client, "live")
            async with client.subscribe("a"):
                monkeypatch.setattr(Dispatcher, "perform", bug)
                await push.push("a", 1)
                await trio.sleep_forever()
    assert push.node.all_closed()


async def test_a_node_that_talks_nonsense_never_hurts_the_client(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    chance = random.Random(7)

    async def nonsense(ws: WebSocketConnection) -> None:
        await ws.send_message(chance.randbytes(chance.randrange(40)))
        await trio.sleep(chance.uniform(0, 2))

    async def serve(asked: HttpRequest) -> Answer:
        return Answer(chance.choice([200, 200, 404, 410, 500, 503]), chance.randbytes(chance.randrange(40)))

    node = ScriptedNode(nursery, http=serve, websocket=nonsense)
    async with client_of(node.open_stream) as client, client.subscribe("a") as updates:
        client.publish_soon("a", 1)
        await trio.sleep(600)
        assert client.mode in ("polling", "offline", "connecting", "syncing")
        assert updates.age == math.inf
    assert len(node.streams) > 10
    assert node.all_closed()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("closes", [False, True], ids=["ping", "close"])
async def test_a_node_that_pings_or_closes_in_the_middle_of_a_write(
    push: PushNode, nursery: trio.Nursery, autojump_clock: MockClock, closes: bool, count: int
) -> None:
    """It ended the client, and with it the application's block, by BusyResourceError."""
    streams: list[HeldStream] = []

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        streams.append(HeldStream(await push.node.open_stream(host, port, tls)))
        return streams[-1]

    async with client_of(open_stream) as client:
        await until(client, "live")
        (stream,) = streams
        stream.hold()
        receipts = [client.publish_soon(f"t/{number}", number) for number in range(count)]
        await wait_all_tasks_blocked()
        ws = push.sockets[-1]
        nursery.start_soon(*((ws.aclose, 1001) if closes else (ws.ping, b"p")))
        await wait_all_tasks_blocked()
        assert len(push.published) < count
        stream.release()
        assert [(await receipt.wait()).topic for receipt in receipts] == [f"t/{number}" for number in range(count)]
        await until(client, "live")
        assert len(push.sockets) == 1 + closes


@pytest.mark.parametrize(("code", "error"), [(4101, Unauthenticated), (4200, Unsupported)])
async def test_an_application_learns_what_may_have_been_applied_when_its_client_has_to_stop(
    push: PushNode, autojump_clock: MockClock, code: int, error: type[SoftstateError]
) -> None:
    push.mute = True
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        sent, waiting = client.publish_soon("a", 1), client.publish_soon("a", 2, each=True)
        await wait_all_tasks_blocked()
        assert [publish.value for publish in push.published] == [1]
        await push.sockets[-1].aclose(code)
        with pytest.raises(OutcomeUnknown, match=f"closed with code {code}"):
            await sent.wait()
        with pytest.raises(error):
            await waiting.wait()
        with pytest.raises(error):
            await client.publish("b", 1)


@pytest.mark.parametrize("then", ["denied", "gone and denied"])
async def test_a_publish_over_http_is_not_refused_for_an_attempt_that_a_kept_connection_took(
    nursery: trio.Nursery, autojump_clock: MockClock, then: str
) -> None:
    """The connection of an earlier publish ends over this one, which the node may have applied."""
    denied = False

    async def serve(asked: HttpRequest) -> Answer:
        nonlocal denied
        if asked.target != "/v1/publish":
            return Answer(404)
        if denied:
            node.fail = None
            return Answer.of({"code": "denied", "message": "not by this name", "why": "host"}, status=403)
        (change,) = CBOR.loads(asked.body, dict)["changes"]
        if change["topic"] == "a":
            return Answer.of({"results": [{"topic": "a", "version": 9, "position": HERE}]})
        denied = True
        if then == "gone and denied":
            node.fail = ConnectionRefusedError("refused")
            nursery.start_soon(come_back)
        return Answer(0)

    async def come_back() -> None:
        await trio.sleep(5)
        node.fail = None

    node = ScriptedNode(nursery, http=serve)
    async with client_of(node.open_stream, push=False) as client:
        assert await client.publish("a", 1) == 9
        receipt = client.publish_soon("b", 1)
        with pytest.raises(OutcomeUnknown, match="not by this name"):
            await receipt.wait()
        with pytest.raises(Denied):
            await client.publish("c", 1)
