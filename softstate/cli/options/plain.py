"""Requests to nodes over plain sockets, for commands that are over before a loop has started.

Trio, anyio and the rest of the client are most of the start of a command. `softstate.client.requests` decides alike for
both; this does what it asks, one request after the other, each on a connection of its own.
"""

from __future__ import annotations

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

T = TypeVar("T")

RECEIVE_BYTES = 64 * 1024
"""How much is read from a socket at a time, in bytes."""

BEHIND_S = 1.0
"""How much longer than asked a read waits that names a version, as `softstate.client.shell.reader` does."""

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Longest body of an answer, in bytes."""


class _TimeOut(Exception):
    """The time for a request is over."""


def goes_plainly(urls: Sequence[str], credentials: Presented) -> bool:
    """Tell whether nodes can be asked so: without TLS, and with no file of tokens, which may have to be read again."""
    from softstate.client.url import parse_url  # noqa: PLC0415 - --help does without

    return credentials.token_file is None and not any(parse_url(url).tls for url in urls)


def read(urls: Sequence[str], credentials: Presented, timeout_s: float, steps_of: Callable[[Reading], Steps[T]]) -> T:
    """Read as `steps_of` a reading says, within `timeout_s`; raises what that raises."""
    from softstate.client.machine.credentials import TokenCell  # noqa: PLC0415 - --help does without
    from softstate.client.requests.reading import Reading  # noqa: PLC0415
    from softstate.client.requests.steps import TimeIsUp  # noqa: PLC0415
    from softstate.client.url import parse_url  # noqa: PLC0415

    token = credentials.for_client()
    credentials.tls(urls)  # it refuses what is of no use
    parsed = list(dict.fromkeys(map(parse_url, urls)))
    cell = TokenCell(token if isinstance(token, str) else None)
    ends_s = time.monotonic() + timeout_s
    steps = steps_of(Reading(parsed, Random(), cell, time.monotonic))
    try:
        step = next(steps)
        while True:
            step = _go_on(steps, step, ends_s, cell.token, TimeIsUp)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def post(url: str, path: str, body: bytes, credentials: Presented, timeout_s: float) -> Reply:
    """Send one request with a body in CBOR to one node, and return its answer. Raises `HttpFailed`."""
    from softstate.client.requests.reply import HttpFailed  # noqa: PLC0415 - --help does without
    from softstate.client.requests.steps import Ask  # noqa: PLC0415
    from softstate.client.url import parse_url  # noqa: PLC0415

    token = credentials.for_client()
    credentials.tls([url])  # it refuses what is of no use
    asked = Ask(parse_url(url), "POST", path, timeout_s, body, once=True)
    try:
        return _ask(asked, time.monotonic() + timeout_s, token if isinstance(token, str) else None)
    except (_TimeOut, TimeoutError):
        raise HttpFailed(f"{url} did not answer within {timeout_s:g} s") from None


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
    except (_TimeOut, TimeoutError):
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
    except TimeoutError:
        raise
    except OSError as error:
        raise HttpFailed(f"{asked.url} cannot be reached: {error}", unsent=True) from None
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
        raise _TimeOut
    return left_s
