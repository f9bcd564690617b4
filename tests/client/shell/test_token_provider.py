"""A call of the application's provider comes back as an event, and never raises."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from softstate.client.api.connect import connect
from softstate.client.machine.events import TokenFailed, TokenGot
from softstate.client.shell.token_provider import fetch_token
from softstate.client.tokens import TokenRequest, takes_request
from softstate.errors import ConfigError, Denied
from softstate.wire import JSON
from softstate.wire.messages import Error
from tests.kit.scripted_node import Answer, ScriptedNode


async def hangs(_: TokenRequest) -> str:
    await trio.sleep_forever()
    raise AssertionError


async def is_too_slow_itself(_: TokenRequest) -> str:
    with trio.fail_after(1):
        return await hangs(_)


async def raises(_: TokenRequest) -> str:
    raise ValueError("secret")


async def ends(_: TokenRequest) -> None:
    pass


async def is_denied(_: TokenRequest) -> str:
    raise Denied("no more")


def is_not_async(_: TokenRequest) -> str:
    return "t"


async def gives_two_lines(_: TokenRequest) -> str:
    return "a\nb"


@pytest.mark.parametrize(
    ("provider", "said", "final"),
    [
        (hangs, "the token provider returned nothing within 30 s", False),
        (is_too_slow_itself, "the token provider failed: TooSlowError", False),
        (raises, "the token provider failed: ValueError", False),
        (ends, "the token provider gives no token any more", True),
        (is_denied, "no more", True),
        (is_not_async, "the token provider is no async function", True),
        (
            gives_two_lines,
            "the token provider gave no token: that is text of 1 to 8192 printable ASCII characters",
            False,
        ),
    ],
)
async def test_a_failure_is_told_without_secrets(
    provider: object, said: str, final: bool, autojump_clock: MockClock
) -> None:
    failed = await fetch_token(provider, 7, TokenRequest())  # type: ignore[arg-type]
    assert isinstance(failed, TokenFailed)
    assert (failed.number, failed.error.message, failed.final) == (7, said, final)


async def test_a_handshake_presents_the_token_and_its_refusal_has_another_fetched(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    asked: list[str | None] = []

    async def provider(request: TokenRequest) -> str | None:
        await trio.lowlevel.checkpoint()
        asked.append(request.rejected)
        return f"t{len(asked)}"

    refused = Answer.of(Error("unauthenticated", "over", why="expired"), JSON, 401)
    node = ScriptedNode(nursery, refusal=refused)
    async with connect("ws://node", token=provider, open_stream=node.open_stream) as client:
        while len([each for each in node.asked if each.target == "/v1/ws"]) < 3:
            await trio.sleep(1)
        assert client.mode == "polling"
    presented = [each.headers.get("authorization") for each in node.asked if each.target == "/v1/ws"]
    assert presented[:3] == ["Bearer t1", "Bearer t2", "Bearer t3"]
    assert asked[:3] == [None, "expired", "expired"]


def test_a_function_that_takes_no_request_is_no_provider() -> None:
    async def takes_nothing() -> str:
        return "t"

    with pytest.raises(ConfigError, match="that takes a TokenRequest"):
        connect("ws://127.0.0.1:1", token=takes_nothing)  # type: ignore[arg-type]
    assert takes_request(hangs)
    assert takes_request(lambda *_: hangs)
    assert not takes_request(takes_nothing)
    assert not takes_request(5)


async def test_a_token_is_passed_on() -> None:
    async def gives(_: TokenRequest) -> str:
        return "t"

    assert await fetch_token(gives, 7, TokenRequest()) == TokenGot(7, "t")
