"""Wrong arguments are refused where they are passed, by name, and nothing is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

import softstate
from softstate.client.shell.clock import TrioClock
from softstate.errors import ConfigError, Invalid
from tests.kit.node_rig import node
from tests.kit.push_node import URL
from tests.kit.scripted_node import ScriptedNode

WRONG_VERSIONS = [True, False, 1.0, 1.5, math.nan, "1", b"1", [1], -1, 2**53]
WRONG_KEYS = [b"x", 1, True, "", "x" * 129, "\ud800", ["k"]]
WRONG_TOPICS = [b"a", 1, None, True, ["a"], "", "/a", "a//b", "a\x00"]


@pytest.mark.parametrize("expect", WRONG_VERSIONS)
async def test_expect_is_a_version(nursery: trio.Nursery, expect: Any) -> None:
    await refused(nursery, "expect", lambda client: client.publish_soon("a", 1, expect=expect))
    await refused(nursery, "expect", lambda client: client.delete_soon("a", expect=expect))


@pytest.mark.parametrize("key", WRONG_KEYS)
async def test_key_is_text(nursery: trio.Nursery, key: Any) -> None:
    await refused(nursery, "key", lambda client: client.publish_soon("a", 1, key=key))
    await refused(nursery, "key", lambda client: client.delete_soon("a", key=key))


@pytest.mark.parametrize("topic", WRONG_TOPICS)
async def test_a_topic_is_text(nursery: trio.Nursery, topic: Any) -> None:
    await refused(nursery, "topic", lambda client: client.publish_soon(topic, 1))
    await refused(nursery, "topic", lambda client: client.delete_soon(topic))


async def refused(nursery: trio.Nursery, argument: str, call: Any) -> None:
    scripted = ScriptedNode(nursery)
    async with softstate.connect(URL, push=False, open_stream=scripted.open_stream, clock=TrioClock()) as client:
        with pytest.raises(Invalid, match=rf"^{argument} must") as caught:
            call(client)
        await trio.testing.wait_all_tasks_blocked()
        assert client.mode == "polling"
    assert scripted.asked == []
    assert caught.value.code == "invalid"


async def test_a_wrong_type_is_a_type_error_and_a_wrong_value_a_value_error() -> None:
    async with softstate.connect(URL, push=False) as client:
        for wrong, kind in ((True, TypeError), (1.5, TypeError), ("1", TypeError), (-1, ValueError)):
            with pytest.raises(kind, match="expect"):
                await client.publish("a", 1, expect=wrong)  # type: ignore[arg-type]
        for key, kind in ((b"x", TypeError), ("", ValueError)):
            with pytest.raises(kind, match="key"):
                await client.delete("a", key=key)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="topic"):
            await client.publish(b"a", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", WRONG_VERSIONS)
async def test_at_least_is_a_version(wrong: Any) -> None:
    async with softstate.connect(URL, push=False) as client:
        with pytest.raises(Invalid, match=r"^at_least must"):
            await client.get("a", at_least=wrong)


@pytest.mark.parametrize("wrong", ["5", None, True, math.nan, -1, b"5"])
async def test_a_timeout_is_a_number(wrong: Any) -> None:
    async with softstate.connect(URL, push=False) as client:
        for call in (
            client.get("a", timeout_s=wrong),
            client.list("/", timeout_s=wrong),
            client.status(timeout_s=wrong),
        ):
            with pytest.raises(Invalid, match=r"^timeout_s must"):
                await call


@pytest.mark.parametrize("wrong", [b"a/", 1, None, "a", ""])
async def test_names_are_text(wrong: Any) -> None:
    async with softstate.connect(URL, push=False) as client:
        with pytest.raises(Invalid, match=r"^prefix must"):
            await client.list(wrong)
        if wrong == "a":
            return
        with pytest.raises(Invalid, match=r"^a name must"):
            async with client.subscribe("good", wrong):
                raise AssertionError


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("urls", b"ws://a"),
        ("urls", 5),
        ("urls", None),
        ("urls", ["ws://a", 5]),
        ("push", 1),
        ("push", "no"),
        ("codec", "xml"),
        ("codec", None),
        ("codec", ["cbor"]),
        ("name", 5),
        ("name", None),
        ("name", b"x"),
        ("name", "x" * 129),
        ("name", "\ud800"),
        ("token", b"x"),
        ("token", ""),
        ("token", 5),
        ("token", "\xe9"),
        ("ttl_ms", True),
        ("ttl_ms", 1.5),
        ("ttl_ms", "60s"),
        ("ttl_ms", 0),
        ("ttl_ms", -1),
        ("ttl_ms", 2**60),
        ("beat_ms", 0),
        ("beat_ms", 1.5),
    ],
)
def test_arguments_of_connect(argument: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{argument} must"):
        softstate.connect(**{"urls": URL, argument: wrong})


async def test_good_arguments_reach_a_real_node() -> None:
    async with node() as rig, softstate.connect([rig.url], name="n", token="t", ttl_ms=1_000) as client:
        version = await client.publish("a", 1, expect=0, key="k" * 128)
        assert await client.publish("a", 1, expect=0, key="k" * 128) == version
        assert await client.get("a", at_least=version, timeout_s=5) == softstate.Change("a", version, 1)
