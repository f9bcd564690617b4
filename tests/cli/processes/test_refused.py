"""`softstate publish` against nodes that refuse: told as refused; as unknown only after an attempt that may count."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from softstate.cli.exit_codes import REFUSED
from softstate.cli.processes.child import free_port, softstate

PUBLISHED = {"topic": "a", "version": 7, "position": {"epoch": "e", "lineage": "l", "revision": 7}}
OVERLOADED = {"code": "overloaded", "message": "10000 publishes wait for the store already", "retry_ms": 50}
UNTRIED = {"code": "unavailable", "message": "the store does not answer", "retry_ms": 50, "why": "untried"}
UNKNOWN = {"code": "unavailable", "message": "the store does not answer", "retry_ms": 50}
LINE = b'{"topic":"a","value":1}\n'
TOO_LARGE = {"code": "too_large", "message": "the limit (value_bytes) is 1"}
DENIED = {"code": "denied", "message": "not yours", "status": 403}
EXPIRED = {"code": "unauthenticated", "message": "the token has expired", "status": 401}
KEY_REUSED = {"code": "key_reused", "message": "choose a new key"}


async def received_from(stream: trio.SocketStream) -> bytes:
    """Receive; a command that ends may leave an answer unread, which resets the connection."""
    try:
        return bytes(await stream.receive_some())
    except trio.BrokenResourceError:
        return b""


@asynccontextmanager
async def answering(*answers: dict[str, Any]) -> AsyncIterator[str]:
    """Run a node whose batches are answered with these, the last again and again; yield its URL."""
    given = list(answers)

    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        while data := await received_from(stream):
            received += data
            head, _, body = received.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            if b"\r\n\r\n" not in received or len(body) < length:
                continue
            received = body[length:]
            answer = given.pop(0) if len(given) > 1 else given[0]
            whole = answer.get("status")
            text = json.dumps(answer if whole else {"results": [answer]}).encode()
            status = f"{whole or 200} x"
            await stream.send_all(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
                + text
            )

    async with trio.open_nursery() as nursery:
        listeners: Sequence[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def ran(*words: str, stdin: bytes = b"") -> tuple[int, str]:
    done = await trio.run_process(softstate(*words), stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "answer",
    [OVERLOADED, UNTRIED, {**OVERLOADED, "status": 429}, {**OVERLOADED, "status": 503}],
    ids=["overloaded", "untried", "429", "503"],
)
async def test_what_a_node_refused_until_the_time_is_over(answer: dict[str, Any]) -> None:
    """It is to come back much later: else it might have just done so, with unknown outcome, when its time is over."""
    async with answering({**answer, "retry_ms": 60_000}) as url:

        async def one() -> None:
            code, err = await ran("publish", "a", "1", "--url", url, "--timeout", "4s")
            assert code == REFUSED
            assert err.startswith("softstate: nothing was published within 4 s: ")
            assert answer["message"] in err
            assert "may have been applied" not in err

        async def many() -> None:
            code, err = await ran("publish", "--ndjson", "-", "--url", url, "--timeout", "4s", stdin=LINE)
            assert code == REFUSED
            assert "line 1 was not published" in err

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(many)


async def test_a_publish_that_succeeds_after_refusals_is_published() -> None:
    async with answering(OVERLOADED, UNTRIED, OVERLOADED, PUBLISHED) as url:
        assert await ran("publish", "a", "1", "--url", url, "--timeout", "20s") == (0, "")


KEY_OFFERED = r"Repeating the command with --key [0-9a-f]{32} cannot apply it twice\.\n$"
TOPIC_READ = r"Read the topic to learn its outcome: softstate get a\.\n$"


@pytest.mark.parametrize(
    ("answers", "what_next"),
    [
        ([UNKNOWN], KEY_OFFERED),
        ([UNKNOWN, UNTRIED], KEY_OFFERED),
        ([OVERLOADED, UNKNOWN, OVERLOADED], TOPIC_READ),  # a store that is full of keys was asked without one
    ],
)
async def test_an_outcome_that_may_be_known_to_the_store_alone_is_unknown(
    answers: list[dict[str, Any]], what_next: str
) -> None:
    async with answering(*answers) as url:
        code, err = await ran("publish", "a", "1", "--url", url, "--timeout", "1500ms")
    assert code == 6
    assert "may have been applied or not" in err
    assert re.search(what_next, err)


@pytest.mark.parametrize(
    ("refusal", "alone"), [(TOO_LARGE, 2), ({**TOO_LARGE, "status": 413}, 2), (DENIED, 7), (EXPIRED, 7)]
)
async def test_a_refusal_without_a_look_tells_nothing_of_an_earlier_attempt(
    refusal: dict[str, Any], alone: int
) -> None:
    async with answering(refusal) as url:
        code, err = await ran("publish", "a", "1", "--url", url)
        assert code == alone
        assert "may have been applied" not in err
    async with answering(UNKNOWN, refusal) as url:
        code, err = await ran("publish", "a", "1", "--url", url)
        assert code == 6
        assert "may have been applied" in err
        assert refusal["message"] in err


async def test_a_key_that_was_given_is_offered_for_a_repeat() -> None:
    async with answering(UNKNOWN) as url:
        code, err = await ran("publish", "a", "1", "--key", "k 1", "--url", url, "--timeout", "1500ms")
    assert code == 6
    assert err.endswith("Repeating the command with --key 'k 1' cannot apply it twice.\n")


async def test_a_key_that_was_used_is_told_as_refused() -> None:
    async with answering(KEY_REUSED) as url:
        code, err = await ran("publish", "a", "1", "--key", "k", "--url", url)
    assert code == 2
    assert err == "softstate: nothing was published: choose a new key.\n"


async def test_a_refusal_stays_one_when_the_node_then_vanishes() -> None:
    async with answering(OVERLOADED) as url:
        gone = f"ws://127.0.0.1:{free_port()}"
        code, err = await ran("publish", "a", "1", "--url", url, "--url", gone, "--timeout", "1s")
    assert code == REFUSED
    assert "nothing was published" in err
