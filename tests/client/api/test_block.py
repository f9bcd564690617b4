"""Wrong uses of the blocks of `connect` and `subscribe` say what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

import softstate
from softstate.testing import memory_node


async def _attribute(block: Any) -> None:
    assert not hasattr(block, "age")
    await block.publish("p/a", 1)


async def _iterated(block: Any) -> None:
    for _ in block:
        pass


async def _iterated_async(block: Any) -> None:
    async for _ in block:
        pass


async def _awaited(block: Any) -> None:
    await block


async def _entered(block: Any) -> None:
    with block:
        pass


MISUSES: dict[Callable[..., Any], type[Exception]] = {
    _attribute: AttributeError,
    _iterated: TypeError,
    _iterated_async: TypeError,
    _awaited: TypeError,
    _entered: TypeError,
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_client_that_was_not_entered(misuse: Callable[..., Any]) -> None:
    with pytest.raises(MISUSES[misuse], match=r"async with softstate\.connect\("):
        anyio.run(misuse, softstate.connect("ws://127.0.0.1:1"))


@pytest.mark.parametrize("misuse", MISUSES)
async def test_a_subscription_that_was_not_entered(misuse: Callable[..., Any]) -> None:
    async with memory_node() as node, node.connect() as client:
        with pytest.raises(MISUSES[misuse], match=r"async with client\.subscribe\("):
            await misuse(client.subscribe("p/"))


async def test_blocks_are_entered_once() -> None:
    async with memory_node() as node:
        opening = node.connect()
        async with opening as client:
            block = client.subscribe("p/")
            async with block:
                pass
            with pytest.raises(RuntimeError, match=r"call client\.subscribe"):
                async with block:
                    pass
        with pytest.raises(RuntimeError, match=r"call softstate\.connect"), trio.fail_after(1):
            async with opening:
                pass
