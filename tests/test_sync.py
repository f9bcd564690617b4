"""The client for threads, against a real node."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import softstate
from softstate import ClientClosed, Conflict, Invalid, Stale, sync
from tests.kit.loops import NodeThread, node_thread


@pytest.fixture
def node() -> Iterator[NodeThread]:
    with node_thread() as one:
        yield one


def fresh(soft: sync.SyncClient, topic: str) -> softstate.Known | None:
    """Return what is known as soon as that has an age."""
    while True:
        try:
            return soft.known(topic)
        except Stale:
            continue


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
