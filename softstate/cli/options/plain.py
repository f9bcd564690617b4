"""Requests to nodes over plain sockets, for commands that are over before a loop has started.

Trio, anyio and the rest of the client are most of the start of a command. `softstate.client.requests` decides alike for
both; this does what it asks, one request after the other, each on a connection of its own.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, TypeVar

from softstate.cli.options.credentials import Presented

if TYPE_CHECKING:
    from softstate.client.requests.reading import Reading
    from softstate.client.requests.reply import Reply
    from softstate.client.requests.steps import Ask, Step, Steps
    from softstate.client.url import NodeUrl
    from softstate.http_client.exchange import Request
    from softstate.wire.messages import BatchChange, BatchResult

T = TypeVar("T")

RECEIVE_BYTES = 64 * 1024
"""How much is read from a socket at a time, in bytes."""

BEHIND_S = 1.0
"""How much longer than asked a read waits that names a version, as `softstate.client.shell.reader` does."""

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Longest body of an answer, in bytes."""


def goes_plainly(urls: Sequence[str], credentials: Presented) -> bool:
    """Tell whether nodes can be asked so: without TLS, and with no file of tokens, which may have to be read again."""
    from softstate.client.url import parse_url  # noqa: PLC0415 - --help does without

    return credentials.token_file is None and not any(parse_url(url).tls for url in urls)


def read(urls: Sequence[str], credentials: Presented, timeout_s: float, steps_of: Callable[[Reading], Steps[T]]) -> T:
    """Read as `steps_of` a reading says, within `timeout_s`; raises what that raises."""
    from softstate.client.machine.credentials import TokenCell  # noqa: PLC0415 - --help does without
    from softstate.client.requests.reading import Reading  # noqa: PLC0415
    from softstate.client.url import parse_url  # noqa: PLC0415

    cell = TokenCell(_token(credentials, urls))
    parsed = list(dict.fromkeys(map(parse_url, urls)))
    return _done(steps_of(Reading(parsed, Random(), cell, time.monotonic)), time.monotonic() + timeout_s, cell.token)


def publish(url: str, change: BatchChange, credentials: Presented, timeout_s: float) -> BatchResult:
    """Send one publish to one node, once, and return its result. Raises `RequestError` or `HttpFailed`."""
    from softstate.client.machine.events import SendPublish  # noqa: PLC0415 - --help does without
    from softstate.client.requests import posting  # noqa: PLC0415
    from softstate.wire import CBOR  # noqa: PLC0415

    token = _token(credentials, [url])
    (result,) = _done(
        posting.publish(SendPublish(0, url, [change], timeout_s), CBOR, posting.Levels()), math.inf, token
    )
    return result


def _token(credentials: Presented, urls: Sequence[str]) -> str | None:
    token = credentials.for_client()
    credentials.tls(urls)  # it refuses what is of no use
    assert token is None or isinstance(token, str), "a file of tokens takes a whole client"
    return token


def _done(steps: Steps[T], ends_s: float, token: str | None) -> T:
    """Do what a generator yields until it returns, or `ends_s` has come; raises what it raises."""
    from softstate.client.requests.steps import TimeIsUp  # noqa: PLC0415 - --help does without

    try:
        step = next(steps)
        while True:
            step = _go_on(steps, step, ends_s, token, TimeIsUp)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _go_on(steps: Steps[T], step: Step, ends_s: float, token: str | None, time_is_up: type[Exception]) -> Step:
    from softstate.client.requests.reply import HttpFailed  # noqa: PLC0415
    from softstate.client.requests.steps import Ask, SleepUntil  # noqa: PLC0415

    if isinstance(step, SleepUntil):
        time.sleep(max(min(step.at, ends_s) - time.monotonic(), 0.0))
        return steps.throw(time_is_up()) if step.at >= ends_s else steps.send(None)
    assert isinstance(step, Ask), "without a provider nothing waits for a token"
    try:
        reply = _ask(step, min(time.monotonic() + step.timeout_s, ends_s), token)
    except HttpFailed as failure:
        return steps.throw(failure)
    except TimeoutError:
        if time.monotonic() >= ends_s:
            return steps.throw(time_is_up())
        return steps.throw(HttpFailed(f"{step.url} did not answer within {step.timeout_s:g} s"))
    return steps.send(reply)


def _ask(asked: Ask, until_s: float, token: str | None) -> Reply:
    from softstate.client.requests.reply import HttpFailed  # noqa: PLC0415
    from softstate.http_client.exchange import ExchangeFailed, Request  # noqa: PLC0415
    from softstate.wire import CBOR  # noqa: PLC0415

    headers = [("User-Agent", "softstate"), ("Accept", asked.accept or CBOR.content_type)]
    if asked.body:
        headers.append(("Content-Type", CBOR.content_type))
    if token is not None:
        headers.append(("Authorization", f"Bearer {token}"))
    request = Request(asked.method, asked.url.authority, asked.url.target(asked.path), headers, asked.body)
    try:
        opened = _opened(asked.url, _left_s(until_s))
    except OSError as error:
        raise HttpFailed(f"{asked.url} cannot be reached: {error.strerror or error}", unsent=True) from None
    with opened:
        try:
            return _exchange(opened, request, until_s)
        except ExchangeFailed as failure:
            raise HttpFailed(str(failure)) from None
        except TimeoutError:
            raise
        except OSError as error:
            raise HttpFailed(f"the connection broke: {error}") from None


def _opened(url: NodeUrl, timeout_s: float) -> socket.socket:
    from softstate.addresses import UNIX_SCHEME  # noqa: PLC0415

    if not url.host.startswith(UNIX_SCHEME):
        return socket.create_connection((url.host, url.port), timeout_s)
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(timeout_s)
    try:
        opened.connect(url.host.removeprefix(UNIX_SCHEME))
    except OSError:
        opened.close()
        raise
    return opened


def _exchange(opened: socket.socket, request: Request, until_s: float) -> Reply:
    from softstate.client.requests.reply import Reply  # noqa: PLC0415
    from softstate.http_client.exchange import Exchange, ResponseTooLong  # noqa: PLC0415

    exchange, body = Exchange(), bytearray()

    def receive() -> None:
        opened.settimeout(_left_s(until_s))
        exchange.receive(opened.recv(RECEIVE_BYTES))

    opened.settimeout(_left_s(until_s))
    opened.sendall(exchange.start(request))
    while (head := exchange.head()) is None:
        receive()
    while (part := exchange.part()) != b"":
        if part is None:
            receive()
        elif len(body) + len(part) > BODY_BYTES_MAX:
            raise ResponseTooLong(f"the response is longer than {BODY_BYTES_MAX} bytes")
        else:
            body += part
    return Reply(head.status, head.headers, bytes(body))


def _left_s(until_s: float) -> float:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s
