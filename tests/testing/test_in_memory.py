"""The node in memory, and the example of its docstring."""

from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from softstate import Change, ConfigError
from softstate.testing import memory_node


async def test_the_example_of_the_docstring(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as client:
        async with client.subscribe("prices/") as updates:
            await client.publish("prices/eur", 1.5)
            assert (await anext(updates)).value == 1.5
            await node.kill()
            await trio.sleep(600)
            assert updates.age > 600
            await node.start()
            await client.publish("prices/eur", 1.6)
            assert (await anext(updates)).value == 1.6
    assert autojump_clock.current_time() > 600


async def test_published_values_survive_a_crash_and_leases_do_not(autojump_clock: MockClock) -> None:
    async with memory_node(ttl_ms=5_000) as node:
        async with node.connect() as client:
            version = await client.publish("a", [1, b"\x00"])
            await node.kill()
            await node.start()
            assert await client.get("a") == Change("a", version, [1, b"\x00"])


async def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="ttl"):
        await memory_node(ttl_ms=1).__aenter__()


async def test_two_clients_and_a_poller(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as one, node.connect(push=False) as two:
        async with two.subscribe("t") as updates:
            version = await one.publish("t", None)
            assert await anext(updates) == Change("t", version, None)
            assert two.mode == "polling"


@pytest.mark.parametrize(
    "error",
    [AssertionError("a"), KeyboardInterrupt(), pytest.skip.Exception("a"), StopAsyncIteration(), ValueError("a")],
    ids=repr,
)
async def test_an_error_of_the_block_comes_out_as_it_is(error: BaseException) -> None:
    error.__cause__ = cause = KeyError("a cause of its own")
    with pytest.raises(type(error)) as caught:
        async with memory_node():
            raise error
    assert caught.value is error
    assert error.__cause__ is cause


async def test_an_error_keeps_the_error_during_which_it_came() -> None:
    with pytest.raises(KeyError, match="second") as caught:
        async with memory_node() as node, node.connect():
            try:
                int("first")
            except ValueError:
                raise KeyError("second")  # noqa: B904 - a context is to be seen
    assert isinstance(caught.value.__context__, ValueError)


async def test_a_group_of_the_block_stays_a_group() -> None:
    error = ValueError("a")
    with pytest.raises(ExceptionGroup, match="a group of its own") as caught:
        async with memory_node():
            raise ExceptionGroup("a group of its own", [error])
    assert caught.value.exceptions == (error,)


async def test_a_cancelled_block_ends(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with memory_node():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_node_that_runs_is_not_started_again(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as client:
        with pytest.raises(RuntimeError, match=r"runs already: `await node.kill\(\)` before"):
            await node.start()
        version = await client.publish("a", 1)
        await node.kill()
        await node.start()
        assert await client.get("a") == Change("a", version, 1)


@pytest.mark.parametrize(
    "options",
    [{"store": "sqlite:a.db"}, {"require_durable": True}, {"require_store": True}, {"no_backup": True}],
    ids=lambda options: next(iter(options)),
)
async def test_options_of_the_store_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"memory_node takes no {name}: its store is always in memory"):
        await memory_node(**options).__aenter__()


async def test_no_test_is_warned_that_its_store_is_in_memory(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with memory_node():
            await trio.sleep(1)
    assert [entry for entry in logs if entry["log_level"] not in {"debug", "info"}] == []


async def test_options_about_what_the_store_may_hold_reach_it(autojump_clock: MockClock) -> None:
    """A client goes on when it is refused, until the store has forgotten the other publisher."""
    async with memory_node(publishers_max=1, keys_max=1) as node, node.connect() as one, node.connect() as two:
        await one.publish("a", 1)
        version = await one.publish("a", 2, key="a key")
        for key in (None, "another key"):
            with trio.move_on_after(60) as refused:
                await two.publish("a", 3, key=key)
            assert refused.cancelled_caught
        assert await one.get("a") == Change("a", version, 2)
