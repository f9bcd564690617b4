"""The whole client against a scripted node: get, list, status, and the arguments of connect."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

import softstate
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.machine.events import Deliver, Settled
from softstate.errors import Behind, ConfigError, Denied, Invalid, KeyReused, Unavailable
from softstate.model import Change
from softstate.wire import JSON
from softstate.wire.messages import Polled
from tests.kit.push_node import URL, PushNode, client_of
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode


def reading(nursery: trio.Nursery, answers: dict[str, Callable[[HttpRequest], Answer]]) -> ScriptedNode:
    """Return a node that answers each path of `answers`, with any query, and 404 to the rest."""

    async def serve(asked: HttpRequest) -> Answer:
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

    def answer(asked: HttpRequest) -> Answer:
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
        assert trio.current_time() - before == pytest.approx(4), "a second more than the node may wait"
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


async def test_get_does_not_ask_a_node_before_the_time_that_it_gave(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """P-CLI-5: others are asked meanwhile, each when it may be."""
    later = {"busy": 60_000, "busier": 90_000}
    asked: list[tuple[float, str]] = []

    def answering(host: str) -> ScriptedNode:
        def answer(_: HttpRequest) -> Answer:
            asked.append((trio.current_time(), host))
            body = {"code": "overloaded", "message": "later", "retry_ms": later[host]}
            return Answer.of(body, status=429)

        return reading(nursery, {"/v1/topics/a": answer})

    nodes = {host: answering(host) for host in later}

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        if host == "down":
            asked.append((trio.current_time(), host))
            raise OSError("down")
        return await nodes[host].open_stream(host, port, tls)

    async with client_of(open_stream, "ws://busier", "ws://busy", "ws://down", push=False) as client:
        with pytest.raises(Unavailable, match="within 100 s"):
            await client.get("a", timeout_s=100)
    began = asked[0][0]
    assert [round(at - began) for at, host in asked if host == "busy"] == [0, 60]
    assert [round(at - began) for at, host in asked if host == "busier"] == [0, 90]
    assert len([host for _, host in asked if host == "down"]) > 10


@pytest.mark.parametrize("timeout_s", [math.inf, 3600.0])
async def test_a_read_with_much_time_leaves_a_silent_node_all_the_same(
    nursery: trio.Nursery, autojump_clock: MockClock, timeout_s: float
) -> None:
    good = reading(nursery, {"/v1/topics/a": lambda _: Answer.of(1, ETag='"e.l.7"')})

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        if host == "silent":
            await trio.sleep_forever()
        return await good.open_stream(host, port, tls)

    async with client_of(open_stream, "ws://silent", "ws://good", push=False) as client:
        before = trio.current_time()
        assert await client.get("a", timeout_s=timeout_s) == Change("a", 7, 1)
        assert trio.current_time() - before == pytest.approx(10.0)


@pytest.mark.parametrize("timeout_s", [5.0, 3.0, 0.5])
@pytest.mark.parametrize("hosts", [("silent", "good"), ("silent", "silent2", "good")])
async def test_a_silent_node_leaves_the_others_their_time(
    nursery: trio.Nursery, autojump_clock: MockClock, hosts: tuple[str, ...], timeout_s: float
) -> None:
    good = reading(
        nursery,
        {
            "/v1/topics/a": lambda _: Answer.of(1, ETag='"e.l.7+cbor"'),
            "/v1/topics": lambda _: Answer.of(Polled(0, HERE, [Change("a", 7, 1)])),
            "/v1/status": lambda _: Answer.of({"node": "n"}, JSON),
        },
    )
    opened: list[str] = []

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        opened.append(host)
        if host.startswith("silent"):
            await trio.sleep_forever()
        return await good.open_stream(host, port, tls)

    reads: list[Callable[[Client], Awaitable[object]]] = [
        lambda client: client.get("a", timeout_s=timeout_s),
        lambda client: client.list("/", timeout_s=timeout_s),
        lambda client: client.status(timeout_s=timeout_s),
    ]
    for read in reads:
        async with client_of(open_stream, *(f"ws://{host}" for host in hosts), push=False) as client:
            if timeout_s < len(hosts) - 1:
                with pytest.raises(Unavailable):  # a try has a second at least, and this is less for all
                    await read(client)
                continue
            before = trio.current_time()
            assert await read(client)
            assert trio.current_time() - before < timeout_s
            opened.clear()
            assert await read(client)
            assert set(opened) <= {"good"}, "it begins at the node that answered last"


async def test_a_node_that_is_behind_is_told_of_though_it_waits_as_long_as_the_client(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        await trio.sleep(5.0)
        return Answer.of({"code": "behind", "message": "at 6", "retry_ms": 100}, status=503)

    node = ScriptedNode(nursery, http=serve)
    async with client_of(node.open_stream, push=False) as client:
        before = trio.current_time()
        with pytest.raises(Behind, match="at 6"):
            await client.get("a", at_least=7, timeout_s=5.0)
        assert trio.current_time() - before <= 6.0
    async with client_of(node.open_stream, "ws://one", "ws://two", push=False) as client:
        with pytest.raises(Behind, match="at 6"):
            await client.get("a", at_least=7)


@pytest.mark.parametrize("cursors", [["x"], ["x", "y", "z"]])
async def test_a_list_whose_cursor_comes_again_ends_as_an_error_of_the_node(
    nursery: trio.Nursery, autojump_clock: MockClock, cursors: list[str]
) -> None:
    asked = 0

    def answer(_: HttpRequest) -> Answer:
        nonlocal asked
        asked += 1
        page = Polled(0, HERE, [Change("p/a", 2, 2)], more=True, cursor=cursors[asked % len(cursors)])
        return Answer.of(page)

    node = reading(nursery, {"/v1/topics": answer})
    async with client_of(node.open_stream, push=False) as client:
        with pytest.raises(Unavailable, match="another page"):
            await client.list("p/", timeout_s=10)
    assert asked < 60, "with backoff between the attempts"


async def test_list_follows_the_pages(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = {
        None: Polled(0, HERE, [Change("p/b", 1, 1), Change("p/a", 2, 2), Change("p/c", 3, 3)], more=True, cursor="x y"),
        "x+y": Polled(0, HERE, [Change("p/b", 4, deleted=True), Change("p/c", 5, 5)]),
    }

    def answer(asked: HttpRequest) -> Answer:
        assert "prefix=p%2F" in asked.target
        return Answer.of(pages[asked.target.partition("&cursor=")[2] or None])

    node = reading(nursery, {"/v1/topics": answer})
    async with client_of(node.open_stream, push=False) as client:
        assert await client.list("p/") == [Change("p/a", 2, 2), Change("p/c", 5, 5)]
        with pytest.raises(Invalid):
            await client.list("p")


async def test_list_starts_anew_when_it_was_cut_off(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    compacted = Answer.of({"code": "compacted", "message": "list again"}, status=410)
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


async def test_what_is_settled_or_delivered_late_is_ignored() -> None:
    dispatcher = Dispatcher()
    dispatcher.perform(Settled(99, KeyReused("late")))
    dispatcher.perform(Deliver([Change("unheard/of", 1)]))
