"""The whole client against a scripted node: real machine, real framing, virtual time."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

import softstate
from softstate.client.api import SENT_VALUE_BYTES_MAX, Client, connect
from softstate.client.clock import TrioClock
from softstate.client.events import Deliver, ModeChanged, Reset, Settled
from softstate.client.transport import CLOSE_TIMEOUT_S, OpenStream
from softstate.client.updates import Handles, Updates
from softstate.errors import (
    Behind,
    ClientClosed,
    ConfigError,
    Conflict,
    Denied,
    Invalid,
    KeyReused,
    SoftstateError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from softstate.model import Change, Position, is_prefix
from softstate.wire import CBOR, digest_of, digest_text
from softstate.wire.messages import (
    Error,
    Goodbye,
    Hello,
    Message,
    Notify,
    Polled,
    Publish,
    Published,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from tests.client.scripted_node import HERE, WELCOME, Answer, Asked, ScriptedNode

URL = "ws://node"


@dataclass
class PushNode:
    """A node with a tiny store in a dict, enough of one to take a client through its life."""

    node: ScriptedNode
    revision: int = 5
    topics: dict[str, Change] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    sockets: list[WebSocketConnection] = field(default_factory=list)
    welcome: Welcome = WELCOME
    mute: bool = False
    """Take publishes without answering."""
    published: list[Publish] = field(default_factory=list)

    @property
    def position(self) -> Position:
        return self.welcome.position.at(self.revision)

    async def serve(self, ws: WebSocketConnection) -> None:
        self.sockets.append(ws)
        while True:
            match await self.node.receive(ws):
                case Hello():
                    await self.say(ws, self.welcome)
                case Subscribe() as message:
                    await self.subscribe(ws, message)
                case Unsubscribe() as message:
                    for name in (*message.topics, *message.prefixes):
                        self.names.pop(name, None)
                case Renew() as message:
                    match = message.digest == digest_text(digest_of(self.names))
                    await self.say(
                        ws,
                        Renewed(
                            message.id, match, self.position, 0, 60_000, 20_000, WELCOME.poll, WELCOME.recover, "ok"
                        ),
                    )
                case Publish() as message:
                    self.published.append(message)
                    if not self.mute:
                        await self.publish(ws, message)

    async def subscribe(self, ws: WebSocketConnection, message: Subscribe) -> None:
        if message.replace:
            self.names.clear()
        asked = {**message.topics, **message.prefixes}
        granted = [name for name in asked if name not in self.denied]
        self.names.update(dict.fromkeys(granted))
        changes = [
            change
            for change in self.topics.values()
            if any(softstate.model.covers(name, change.topic) and change.version > asked[name] for name in granted)
        ]
        denied = [name for name in asked if name in self.denied]
        await self.say(ws, Subscribed(message.id, self.position, changes, denied=denied))

    async def publish(self, ws: WebSocketConnection, message: Publish) -> None:
        known = self.topics.get(message.topic)
        version = 0 if known is None or known.deleted else known.version
        if message.expect is not None and message.expect != version:
            await self.say(ws, Error("conflict", "lost", id=message.id, current=version))
            return
        change = self.put(message.topic, message.value if not message.deleted else None, deleted=message.deleted)
        await self.say(ws, Published(message.id, message.topic, change.version, self.position))

    def put(self, topic: str, value: object, *, deleted: bool = False) -> Change:
        self.revision += 1
        change = self.topics[topic] = Change(topic, self.revision, value, deleted)
        return change

    async def say(self, ws: WebSocketConnection, message: Message) -> None:
        await ws.send_message(CBOR.encode(message))

    async def push(self, topic: str, value: object) -> None:
        change = self.put(topic, value)
        await self.say(self.sockets[-1], Notify(topic, change.version, value))


@pytest.fixture
def push(nursery: trio.Nursery) -> PushNode:
    node = ScriptedNode(nursery)
    push = PushNode(node)
    node.websocket = push.serve
    return push


@asynccontextmanager
async def client_of(open_stream: OpenStream, *urls: str, push: bool = True) -> AsyncIterator[Client]:
    async with connect(
        urls or (URL,), push=push, open_stream=open_stream, random=random.Random(1), clock=TrioClock()
    ) as client:
        yield client


async def until(client: Client, mode: str) -> None:
    async for now in client.modes():
        if now == mode:
            return


def age_of(names: object) -> float:
    return 0.0


def updates_of(*names: str, age: Callable[[object], float] = age_of) -> Updates:
    return Updates(names, age, trio.lowlevel.ParkingLot())


async def drain(updates: Updates) -> list[object]:
    found: list[object] = []
    events = updates.events()
    with trio.move_on_after(0.001):
        while True:
            found.append(await anext(events))
    return found


# Following topics ----------------------------------------------------------------------------------------------------


async def test_the_example_of_the_design(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("orders/42", {"state": "new"})
    async with client_of(push.node.open_stream) as client, client.subscribe("orders/42", "prices/") as updates:
        assert updates.age == math.inf
        await updates.synced()
        assert updates.age < 1
        assert updates.names == ("orders/42", "prices/")
        assert (await anext(updates)).value == {"state": "new"}
        await until(client, "live")
        await push.push("prices/tea", 3)
        change = await anext(updates)
        assert (change.topic, change.value) == ("prices/tea", 3)
        before = updates.age
        await trio.sleep(2)
        assert updates.age == pytest.approx(before + 2)
        assert client.age == updates.age
        assert client.position == push.position
        assert client.statistics().resets == 0
    assert isinstance(push.node.messages[-1], Goodbye)
    assert push.node.all_closed()


async def test_newest_values_only(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a", "b") as updates:
        await updates.synced()
        for value in range(100):
            await push.push("a", value)
        await push.push("b", "last")
        await trio.sleep(0.1)
        assert [(await anext(updates)).value for _ in range(2)] == [99, "last"]


async def test_renewals_bound_the_age(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a") as updates:
        await updates.synced()
        for _ in range(100):
            await trio.sleep(10)
            assert client.mode == "live"
            assert updates.age <= 24.1


async def test_handles_share_names(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("p/a", 1)
    async with client_of(push.node.open_stream) as client:
        async with client.subscribe("p/") as first:
            assert (await anext(first)).value == 1
            async with client.subscribe("p/", "p/a", "q") as second:
                assert (await anext(second)).value == 1
                await second.synced()
                await push.push("p/a", 2)
                assert (await anext(first)).value == 2
                assert (await anext(second)).value == 2
            await trio.sleep(1)
            assert list(push.names) == ["p/"]
            with pytest.raises(StopAsyncIteration):
                await anext(second)
            assert second.age == math.inf
            assert client.age < 100
        await trio.sleep(1)
        assert list(push.names) == []


async def test_subscribing_again_gives_the_value_again(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("a", 1)
    async with client_of(push.node.open_stream) as client:
        for _ in range(2):
            async with client.subscribe("a") as updates:
                assert (await anext(updates)).value == 1


@pytest.mark.parametrize("names", [(), ("",), ("a//b",), ("a", "/a"), ("../",), ("x" * 256,), (1,)])
async def test_names_are_checked(push: PushNode, names: tuple[str, ...]) -> None:
    async with client_of(push.node.open_stream) as client:
        with pytest.raises(Invalid):
            async with client.subscribe(*names):
                pass


async def test_denied_names_are_complained_about_once(push: PushNode, autojump_clock: MockClock) -> None:
    push.denied = ["secret"]
    push.put("a", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("a", "secret") as updates:
        await trio.sleep(1)
        with pytest.raises(Denied, match="'secret'"):
            await anext(updates)
        assert (await anext(updates)).value == 1
        assert (updates.names, updates.denied) == (("a",), ("secret",))
        assert updates.age < 10


async def test_with_no_name_left_it_is_denied_for_good(push: PushNode, autojump_clock: MockClock) -> None:
    push.denied = ["secret"]
    async with client_of(push.node.open_stream) as client, client.subscribe("secret") as updates:
        for _ in range(2):
            with pytest.raises(Denied):
                await anext(updates)
        with pytest.raises(Denied):
            await updates.synced()
        assert updates.age == math.inf


async def test_a_changed_history_is_seen_before_its_values(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("kept", 1)
    push.put("lost", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("/") as updates:
        await updates.synced()
        await drain(updates)
        push.topics = {"kept": Change("kept", 2, "old")}
        push.revision = 3
        push.welcome = msgspec.structs.replace(WELCOME, position=Position("e", "m", 3), reset=True)
        await trio.aclose_forcefully(push.node.streams[0].inner)
        events = updates.events()
        while not isinstance(event := await anext(events), Reset):
            assert not isinstance(event, Change)
        assert updates.reset_count == 1
        async with client.subscribe("kept") as late:
            assert [change.value for change in await changes(late, 1)] == ["old"]
        assert {(change.topic, change.deleted) for change in await changes(updates, 2)} == {
            ("kept", False),
            ("lost", True),
        }


async def changes(updates: Updates, count: int) -> list[Change]:
    return [await anext(updates) for _ in range(count)]


async def test_an_iteration_can_be_cancelled_and_begun_again(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a") as updates:
        await updates.synced()
        with trio.move_on_after(1) as scope:
            await anext(updates)
        assert scope.cancelled_caught
        await push.push("a", 1)
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(updates)
        assert (await anext(updates)).value == 1


# What is pending, by itself ------------------------------------------------------------------------------------------


async def test_a_newer_change_takes_the_place_of_the_older(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    for version, topic in enumerate("abca", start=1):
        updates.push(Change(topic, version))
    assert [change.version for change in await drain(updates) if isinstance(change, Change)] == [4, 2, 3]


async def test_nothing_jumps_over_a_reset(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    reset = Reset(HERE)
    gone = Change("b", 8, deleted=True)
    updates.push(Change("a", 7, "old"))
    updates.push(gone)
    updates.reset(reset)
    new = Change("a", 2, "new")
    updates.push(new)
    assert await drain(updates) == [gone, reset, new]
    assert updates.reset_count == 1


async def test_a_change_that_overtakes_a_deletion_comes_after_the_reset(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    reset = Reset(HERE)
    updates.push(Change("b", 8, deleted=True))
    updates.reset(reset)
    new = Change("b", 3, "new")
    updates.push(Change("b", 2, "newish"))
    updates.push(new)
    assert await drain(updates) == [reset, new]
    updates.push(Change("c", 4))
    updates.push(Change("d", 5))
    updates.push(Change("c", 6))
    assert [change.version for change in await drain(updates) if isinstance(change, Change)] == [6, 5]


async def test_resets_become_one_only_if_nothing_is_between(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    first, second, third = (Reset(Position("e", lineage, 1)) for lineage in "xyz")
    gone = Change("a", 2, deleted=True)
    updates.reset(first)
    updates.push(gone)
    updates.reset(second)
    updates.push(Change("b", 3))
    updates.reset(third)
    assert await drain(updates) == [first, gone, third]
    assert updates.reset_count == 3


async def test_pending_memory_is_bounded_by_topics(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    for round_ in range(1000):
        updates.push(Change("a", round_ + 1))
        updates.push(Change("b", round_ + 1, deleted=True))
        updates.reset(Reset(HERE))
        updates.mode_changed(ModeChanged("live"))
    assert len(await drain(updates)) <= 2 + 3


async def test_only_the_newest_mode_is_kept_behind_all_else(autojump_clock: MockClock) -> None:
    updates = updates_of("/")
    updates.mode_changed(ModeChanged("polling"))
    updates.push(Change("a", 1))
    updates.mode_changed(ModeChanged("live"))
    assert await drain(updates) == [Change("a", 1), ModeChanged("live")]
    updates.mode_changed(ModeChanged("live"))
    updates.push(Change("a", 2))
    assert (await anext(updates)).version == 2


async def test_an_end_is_raised_after_what_is_pending() -> None:
    updates = updates_of("/")
    updates.push(Change("a", 1))
    updates.end(Unauthenticated("expired"))
    updates.end(ClientClosed("closed"))
    assert (await anext(updates)).version == 1
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await anext(updates)


async def test_synced_raises_when_it_can_no_longer_be(autojump_clock: MockClock) -> None:
    updates = updates_of("/", age=lambda _: math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closing, updates)
        with pytest.raises(ClientClosed):
            await updates.synced()
    updates = updates_of("/", age=lambda _: math.inf)
    updates.end(Unauthenticated("expired"))
    with pytest.raises(Unauthenticated):
        await updates.synced()


async def closing(updates: Updates) -> None:
    await trio.sleep(1)
    updates.close()


def test_each_handle_gets_a_change_once() -> None:
    handles = Handles()
    updates = updates_of("/", "a/", "a/b")
    assert handles.add(updates) == ["/", "a/", "a/b"]
    assert handles.add(updates_of("a/", "c")) == ["c"]
    handles.deliver(Change("a/b", 1))
    handles.deny(["a/", "unheard/of"])
    assert updates.names == ("/", "a/b")
    assert handles.remove(updates) == ["/", "a/b"]
    handles.deliver(Change("z", 1))


# Publishing ----------------------------------------------------------------------------------------------------------


async def test_publish_delete_and_conflict(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        version = await client.publish("a", {"n": 1}, expect=0)
        assert version == push.topics["a"].version
        with pytest.raises(Conflict) as caught:
            await client.publish("a", 2, expect=version - 1)
        assert caught.value.current == version
        assert await client.delete("a", expect=version) == version + 1
        assert push.topics["a"].deleted
    keys = [publish.key for publish in push.published]
    assert len(set(keys)) == 3
    assert None not in keys


async def test_publishes_of_a_topic_keep_their_order(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        receipts = [client.publish_soon("a", n) for n in range(50)]
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
    [
        (math.nan, Invalid),
        ("\ud800", Invalid),
        ((1,), Invalid),
        (2**64, Invalid),
        (bytes(SENT_VALUE_BYTES_MAX), TooLarge),
    ],
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
    async def serve(asked: Asked) -> Answer:
        if asked.target != "/v1/publish":
            return Answer(404)
        changes = CBOR.loads(asked.body, dict)["changes"]
        return Answer.of(
            {"results": [{"topic": change["topic"], "version": 9, "position": HERE} for change in changes]}
        )

    node = ScriptedNode(nursery, http=serve)
    async with client_of(node.open_stream, push=False) as client:
        assert await client.publish("a", b"\x00") == 9


# Ends ----------------------------------------------------------------------------------------------------------------


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
    async def serve(asked: Asked) -> Answer:
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
    assert isinstance(push.node.messages[-1], Goodbye)
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
                monkeypatch.setattr(Client, "perform", bug)
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

    async def serve(asked: Asked) -> Answer:
        return Answer(chance.choice([200, 200, 404, 410, 500, 503]), chance.randbytes(chance.randrange(40)))

    node = ScriptedNode(nursery, http=serve, websocket=nonsense)
    async with client_of(node.open_stream) as client, client.subscribe("a") as updates:
        client.publish_soon("a", 1)
        await trio.sleep(600)
        assert client.mode in ("polling", "offline", "connecting", "syncing")
        assert updates.age == math.inf
    assert len(node.streams) > 10
    assert node.all_closed()


# Reading -------------------------------------------------------------------------------------------------------------


def reading(nursery: trio.Nursery, answers: dict[str, Callable[[Asked], Answer]]) -> ScriptedNode:
    """Return a node that answers each path of `answers`, whatever its query, and 404 to the rest."""

    async def serve(asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        answer = answers.get(asked.target.partition("?")[0])
        return answer(asked) if answer is not None else Answer(404)

    return ScriptedNode(nursery, http=serve)


NOT_FOUND = {"code": "not_found", "message": "no such topic"}


async def test_get(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    node = reading(
        nursery,
        {
            "/v1/topics/a/%C3%BC%20%3F": lambda _: Answer.of([1, b"\x00"], ETag='"e.l.7"'),
            "/v1/topics/gone": lambda _: Answer.of(NOT_FOUND, status=404, ETag='W/"e.l.8"'),
            "/v1/topics/never": lambda _: Answer.of(NOT_FOUND, status=404),
        },
    )
    async with client_of(node.open_stream, push=False) as client:
        assert await client.get("a/ü ?") == Change("a/ü ?", 7, [1, b"\x00"])
        assert await client.get("gone") == Change("gone", 8, deleted=True)
        assert await client.get("never") is None
        with pytest.raises(Invalid):
            await client.get("a/")


@pytest.mark.parametrize("tag", [None, '"x"', "7"])
async def test_get_without_a_version_is_no_answer(
    nursery: trio.Nursery, autojump_clock: MockClock, tag: str | None
) -> None:
    answer = Answer.of(1) if tag is None else Answer.of(1, ETag=tag)
    node = reading(nursery, {"/v1/topics/a": lambda _: answer})
    async with client_of(node.open_stream, push=False) as client:
        with pytest.raises(Unavailable, match="ETag"):
            await client.get("a", timeout_s=2)


async def test_get_waits_for_the_revision_asked_for(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    asked_for: list[str] = []

    def answer(asked: Asked) -> Answer:
        asked_for.append(asked.target)
        if len(asked_for) < 4:
            return Answer.of({"code": "behind", "message": "wait", "retry_ms": 500}, status=503)
        return Answer.of(1, ETag='"e.l.7"')

    node = reading(nursery, {"/v1/topics/a": answer})
    async with client_of(node.open_stream, push=False) as client:
        before = trio.current_time()
        assert (await client.get("a", at_least=7)) == Change("a", 7, 1)
        assert trio.current_time() - before == pytest.approx(1.5)
    assert set(asked_for) == {"/v1/topics/a?at_least=7"}


async def test_get_gives_up_with_the_reason(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    behind = Answer.of({"code": "behind", "message": "wait", "retry_ms": 0}, status=503)
    node = reading(nursery, {"/v1/topics/a": lambda _: behind})
    async with client_of(node.open_stream, push=False) as client:
        before = trio.current_time()
        with pytest.raises(Behind, match="wait"):
            await client.get("a", at_least=7, timeout_s=3)
        assert trio.current_time() - before == pytest.approx(3)
        with pytest.raises(Unavailable, match="within 2 s"):
            await client.get("other", timeout_s=2)


async def test_get_raises_at_once_what_no_waiting_mends(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    refused = Answer.of({"code": "denied", "message": "no"}, status=403)
    node = reading(nursery, {"/v1/topics/a": lambda _: refused})
    async with client_of(node.open_stream, push=False) as client:
        before = trio.current_time()
        with pytest.raises(Denied):
            await client.get("a")
        assert trio.current_time() == before


async def test_get_tries_other_nodes(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    good = reading(nursery, {"/v1/topics/a": lambda _: Answer.of(1, ETag='"e.l.7"')})

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        if host == "silent":
            await trio.sleep_forever()
        if host == "down":
            raise OSError("down")
        return await good.open_stream(host, port, tls)

    async with client_of(open_stream, "ws://silent", "ws://down", "ws://good", push=False) as client:
        assert await client.get("a") == Change("a", 7, 1)
        before = trio.current_time()
        assert await client.get("a") == Change("a", 7, 1)
        assert trio.current_time() == before


async def test_list_follows_the_pages(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = {
        None: Polled(0, HERE, [Change("p/b", 1, 1), Change("p/a", 2, 2), Change("p/c", 3, 3)], more=True, cursor="x y"),
        "x+y": Polled(0, HERE, [Change("p/b", 4, deleted=True), Change("p/c", 5, 5)]),
    }

    def answer(asked: Asked) -> Answer:
        assert "prefix=p%2F" in asked.target
        return Answer.of(pages[asked.target.partition("&cursor=")[2] or None])

    node = reading(nursery, {"/v1/topics": answer})
    async with client_of(node.open_stream, push=False) as client:
        assert await client.list("p/") == [Change("p/a", 2, 2), Change("p/c", 5, 5)]
        with pytest.raises(Invalid):
            await client.list("p")


async def test_list_starts_anew_when_it_was_cut_off(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    compacted = Answer.of({"code": "compacted", "message": "anew"}, status=410)
    answers = iter(
        [
            Answer.of(Polled(0, HERE, [Change("a", 1, 1), Change("b", 2, 2)], more=True, cursor="x")),
            compacted,
            Answer.of(Polled(0, HERE, [Change("b", 2, 2)])),
        ]
    )
    node = reading(nursery, {"/v1/topics": lambda _: next(answers)})
    async with client_of(node.open_stream, push=False) as client:
        assert await client.list("/") == [Change("b", 2, 2)]


@pytest.mark.parametrize("cursor", [None, "x"])
async def test_list_does_not_go_in_circles(
    nursery: trio.Nursery, autojump_clock: MockClock, cursor: str | None
) -> None:
    page = Answer.of(Polled(0, HERE, more=True, cursor=cursor))
    node = reading(nursery, {"/v1/topics": lambda _: page})
    async with client_of(node.open_stream, push=False) as client:
        with pytest.raises(Unavailable, match="another page"):
            await client.list("/", timeout_s=2)


async def test_status(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    answer = Answer(200, b'{"sessions": 3}', [("Content-Type", "application/json")])
    node = reading(nursery, {"/v1/status": lambda _: answer})
    async with client_of(node.open_stream, push=False) as client:
        assert await client.status() == {"sessions": 3}


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"urls": []},
        {"urls": "node"},
        {"urls": URL, "codec": "xml"},
        {"urls": URL, "name": "n" * 129},
        {"urls": URL, "token": "a\nb"},
        {"urls": URL, "token": ""},
        {"urls": URL, "token": "ü"},
        {"urls": URL, "token": "t" * 8193},
        {"urls": URL, "ttl_ms": 0},
        {"urls": URL, "ttl_ms": 10**12},
    ],
)
def test_arguments_of_connect_are_checked(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        connect(**arguments)  # type: ignore[arg-type]


async def test_connect_has_defaults_for_all_it_draws_on() -> None:
    async with softstate.connect("ws://127.0.0.1:1", codec="json") as client:
        modes = client.modes()
        assert await anext(modes) == "connecting"
        assert client.age >= 0
    assert await anext(modes) == "closed"


async def test_two_clients_with_one_seed_act_alike(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    keys = []
    for _ in range(2):
        push = PushNode(ScriptedNode(nursery))
        push.node.websocket = push.serve
        async with client_of(push.node.open_stream) as client:
            await client.publish("a", 1)
        keys.append(push.published[0].key)
    assert keys[0] == keys[1]


async def test_what_is_settled_or_delivered_late_is_ignored(push: PushNode) -> None:
    async with client_of(push.node.open_stream) as client:
        client.perform(Settled(99, KeyReused("late")))
        client.perform(Deliver(Change("unheard/of", 1)))


def test_public_names() -> None:
    assert softstate.connect is connect
    assert not is_prefix("a")
    for name in ("Client", "Updates", "Change", "Position", "Durability", *softstate.errors.WIRE_ERRORS):
        kind = softstate.errors.WIRE_ERRORS.get(name)
        assert hasattr(softstate, kind.__name__ if kind else name)
