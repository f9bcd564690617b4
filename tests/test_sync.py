"""The client for threads, against a real node."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import anyio
import pytest

import softstate
from softstate import ClientClosed, Conflict, Invalid, Stale, sync
from tests.kit.loops import NodeThread, node_thread
from tests.kit.processes import until

NOBODY = "ws://127.0.0.1:1"


@pytest.fixture
def node() -> Iterator[NodeThread]:
    with node_thread() as one:
        yield one


def fresh(soft: sync.SyncClient, topic: str) -> softstate.Known | None:
    """Return what is known as soon as that has an age."""
    found: list[softstate.Known | None] = []

    def knows() -> bool:
        try:
            found.append(soft.known(topic))  # which begins a client once more in a child
        except Stale:
            return False
        return True

    until("all that is followed has an age", knows)
    return found[0]


def test_publish_read_and_follow(node: NodeThread) -> None:
    with softstate.sync.connect(node.url, max_age=5.0) as soft:
        threads = threading.active_count()
        version = soft.publish("p/a", {"n": 1})
        assert soft.get("p/a", at_least=version) == softstate.Change("p/a", version, {"n": 1})
        with pytest.raises(Stale):
            soft.known("p/a")
        read = soft.read("p/a")
        assert read is not None
        assert (read.value, read.version) == ({"n": 1}, version)
        soft.follow("p/", "q")
        soft.follow("p/")
        known = fresh(soft, "p/a")
        assert known is not None
        assert known.value == {"n": 1}
        assert soft.update("p/a", lambda value: {"n": value["n"] + 1}) > version
        assert [change.value for change in soft.list("p/")] == [{"n": 2}]
        with pytest.raises(Conflict):
            soft.publish("p/a", 0, expect=version)
        soft.delete("p/a")
        assert fresh(soft, "q") is None
        assert threading.active_count() == threads + 1, "it has started at its first use"
    assert soft.mode == "closed"
    assert threading.active_count() == threads
    with pytest.raises(ClientClosed):
        soft.publish("p/a", 1)


def test_it_tells_its_age_and_what_happened(node: NodeThread) -> None:
    with softstate.sync.connect(node.url) as soft:
        assert (soft.age, soft.last_error, soft.mode) == (math.inf, None, "closed")
        assert soft.read("p/a") is None
        assert soft.age == math.inf, "nothing is followed"
        soft.follow("p/")
        assert fresh(soft, "p/a") is None
        assert soft.age < 60
        assert soft.statistics().connects == 1
    nowhere = softstate.sync.connect(NOBODY)
    with pytest.raises(softstate.Unavailable):
        nowhere.get("a", timeout_s=0.2)
    assert isinstance(nowhere.last_error, softstate.Unavailable)
    nowhere.close()


def test_watch_ends_when_nothing_comes(node: NodeThread) -> None:
    with softstate.sync.connect(node.url) as soft:
        soft.publish("w/a", 1)
        assert [change.value for change in soft.watch("w/", timeout_s=0.5)] == [1]
        with pytest.raises(Invalid):
            next(soft.watch("/x"))


def test_many_threads_use_one_client(node: NodeThread) -> None:
    with softstate.sync.connect(node.url) as soft:
        threads = [threading.Thread(target=soft.update, args=("n", lambda value: (value or 0) + 1)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read = soft.read("n")
        assert read is not None
        assert read.value == 8


def test_in_a_child_of_fork_it_begins_again(node: NodeThread) -> None:
    with softstate.sync.connect(node.url) as soft:
        soft.publish("p/a", 1)
        soft.follow("p/")
        assert fresh(soft, "p/a") is not None
        before = soft._running
        assert before is not None
        sync._after_fork()  # as in the child, which has none of the parent's threads
        assert soft.mode == "closed"
        known = fresh(soft, "p/a")
        assert known is not None
        assert known.value == 1
        before.stack.close()


def test_options_are_checked_at_once() -> None:
    with pytest.raises(softstate.ConfigError, match="max_age"):
        softstate.sync.connect("ws://127.0.0.1:1", max_age=-1)
    with pytest.raises(softstate.ConfigError, match="at least one node"):
        softstate.sync.connect()


def test_calls_that_wait_learn_that_the_client_was_closed() -> None:
    soft = sync.connect(NOBODY)
    begun, told = threading.Semaphore(0), []

    async def ask(_: softstate.Client) -> NoReturn:
        begun.release()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    def wait() -> None:
        with pytest.raises(ClientClosed) as caught:
            soft._call(ask)
        told.append(str(caught.value))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.acquire()
    soft.close()
    for thread in threads:
        thread.join()
    assert told == ["the client was closed"] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda soft: soft.follow("p/"),
        lambda soft: soft.known("p/a"),
        lambda soft: soft.get("p/a"),
        lambda soft: next(soft.watch("p/")),
    ],
    ids=["follow", "known", "get", "watch"],
)
def test_calls_that_had_begun_when_the_client_was_closed_say_so(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    soft = sync.connect(NOBODY)
    running = soft._run()
    soft.close()
    monkeypatch.setattr(soft, "_run", lambda: running)  # as a call that found it open, and was then held up
    with pytest.raises(ClientClosed):
        call(soft)


def test_an_iteration_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, begun, take = sync.connect(NOBODY), threading.Event(), sync._next

    async def noted(updates: softstate.Updates, timeout_s: float) -> softstate.Change | None:
        begun.set()
        return await take(updates, timeout_s)

    def close() -> None:
        begun.wait()
        soft.close()

    monkeypatch.setattr(sync, "_next", noted)
    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(ClientClosed):
        next(soft.watch("p/"))
    closing.join()


def test_an_iteration_that_goes_on_after_its_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def taken(_: softstate.Updates, __: float) -> softstate.Change:
        return softstate.Change("p/a", 1, 1)

    monkeypatch.setattr(sync, "_next", taken)
    soft = sync.connect(NOBODY)
    changes = soft.watch("p/")
    assert next(changes).version == 1
    soft.close()
    with pytest.raises(ClientClosed):
        next(changes)


def test_at_exit_every_client_is_closed_also_when_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [sync.connect(NOBODY) for _ in range(3)]
    for soft in clients:
        assert soft._run().client.mode != "closed"

    def broken() -> NoReturn:
        raise OSError("broken")

    with monkeypatch.context() as broken_one:
        broken_one.setattr(clients[1], "close", broken)
        broken_one.setattr(sync, "_CLIENTS", clients)
        with pytest.raises(OSError, match="broken"):
            sync._at_exit()
    modes = [soft.mode == "closed" for soft in clients]
    for soft in clients:
        soft.close()
    assert modes == [True, False, True]


async def _awaited(used: Any) -> None:
    await used


async def _iterated(used: Any) -> None:
    async for _ in used:
        pass


async def _entered(used: Any) -> None:
    async with used:
        pass


@pytest.mark.parametrize("misuse", [_awaited, _iterated, _entered])
@pytest.mark.parametrize("used", [lambda soft: soft, lambda soft: soft.watch("p/")], ids=["client", "watch"])
def test_async_uses_say_what_to_write(misuse: Any, used: Any) -> None:
    soft = sync.connect(NOBODY)
    with pytest.raises(TypeError, match=r"soft\.watch"):
        anyio.run(misuse, used(soft))
    assert soft.mode == "closed", "it was not even started"


def test_methods_of_the_async_client_are_pointed_elsewhere() -> None:
    soft: Any = sync.connect(NOBODY)
    with pytest.raises(AttributeError, match=r"(?s)SyncClient has no 'subscribe'\. .*soft\.follow"):
        soft.subscribe("p/")
    assert not hasattr(soft, "batches")
