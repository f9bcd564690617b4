"""The shell of the callout: asks it about tokens and names by HTTP, and has those told who wait for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import final
from urllib.parse import urlsplit

import structlog
import trio

from softstate.auth.answers import DOWN_RETRY_MS, Answer, Answers, Entry, Waiter
from softstate.auth.authority import RulesAuthority
from softstate.auth.callout import (
    SIGNATURE_HEADER,
    BadAnswer,
    Callout,
    allowed_of,
    answer_of,
    names_question,
    question,
    signature,
)
from softstate.auth.name_answers import Book
from softstate.errors import RequestError, Unavailable
from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import ConnectionBroken, ExchangeFailed, Request, Response
from softstate.http_client.pool import IdlePool
from softstate.http_client.streams import STREAM_ERRORS, OpenStream, reason
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.spell import Spell

ANSWER_BYTES_MAX = 64 * 1024
"""Longest answer of a callout."""

IDLE_S_MAX = 30.0
"""Time for which an idle connection to the callout is kept."""

OUTLIVED_PER_TURN = 500
"""Answers whose time is over that are ended in one turn of the loop."""

LAPSED_PER_TURN = 1_000
"""Answers about names that are looked at in one turn of the loop, whether they have ended: 2 us each."""

TURN_S_MIN = 0.001
"""Least time between two turns in which nothing new has come: what is due in less would be looked for in a circle."""

QUIET_S = 10.0
"""Time without a failure after which the callout counts as up again."""

log = structlog.get_logger("softstate.auth")


class CalloutFailed(Exception):
    """The callout has not answered, or not as it must; the message says what is wrong."""


@final
class CalloutShell:
    """Asks the callout of one authority, if its policy has one. `secret` returns that with which questions are signed.

    No question is asked twice, but for one on a kept connection that the callout had closed before it came.
    """

    def __init__(
        self,
        authority: RulesAuthority,
        secret: Callable[[], bytes],
        now: Callable[[], float],
        wall: Callable[[], float],
        bulkhead: Bulkhead,
        open_stream: OpenStream,
    ) -> None:
        self._authority = authority
        self._secret = secret
        self._now = now
        self._wall = wall
        self._bulkhead = bulkhead
        self._open_stream = open_stream
        self._pool: IdlePool[HttpConnection] = IdlePool(idle_max=64, idle_s_max=IDLE_S_MAX)
        self._woken = trio.Event()
        self._spell = Spell(
            lambda because: log.warning("callout failed", because=because),
            lambda failures: log.info("callout answers again", failures=failures),
            quiet_s=QUIET_S,
            now=now,
        )
        self.wake()

    def wake(self) -> None:
        """Look at what is due: the policy may have another callout, or somebody asks."""
        if self._authority.answers is not None:
            self._authority.answers.woken = self._woken_up
        self._authority.names.woken = self._woken_up
        self._woken_up()

    def _woken_up(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                with self._bulkhead.contain("callout") as round_:
                    self._woken = trio.Event()
                    at = self._turn(nursery)
                    with trio.move_on_after(max(TURN_S_MIN, at - self._now())):
                        await self._woken.wait()
                    await trio.lowlevel.checkpoint()
                if round_.failed:
                    await trio.sleep(RETRY_S)

    def _turn(self, nursery: trio.Nursery) -> float:
        """Begin and end what is due; return when the next turn is."""
        now = self._now()
        return min(self._turn_of_tokens(nursery, now), self._turn_of_names(nursery, now))

    def _turn_of_names(self, nursery: trio.Nursery, now: float) -> float:
        names = self._authority.names
        self._tell_all(names.settled())
        for book in names.late(now):
            self._tell_all(names.failed(book, "too many names are asked about at a time", now))
        looked_at = 0
        for book in names.lapse(now):
            looked_at += 1 + len(book.said)
            if looked_at >= LAPSED_PER_TURN:
                break
        while (due := names.next_due()) is not None:
            nursery.start_soon(self._ask_names, due)
        return names.due_at()

    def _turn_of_tokens(self, nursery: trio.Nursery, now: float) -> float:
        answers = self._authority.answers
        if answers is None:
            return math.inf
        for waiter, error in answers.turned_away():
            self._tell([waiter], error)
        for entry in answers.late(now):
            self._fail(answers, entry, "too many tokens are asked about at a time")
        over = list(islice(answers.over(now), OUTLIVED_PER_TURN))
        self._authority.outlived(over)
        while (due := answers.next_due(now)) is not None:
            nursery.start_soon(self._ask, answers, due)
        return answers.due_at()

    async def _ask(self, answers: Answers, entry: Entry) -> None:
        broken = partial(self._fail, answers, entry, "an error of this node")
        with self._bulkhead.contain("callout", broken):
            try:
                answer = await self._answer(entry)
            except (CalloutFailed, BadAnswer) as error:
                self._spell.failed(str(error))
                self._fail(answers, entry, str(error))
            else:
                self._spell.succeeded()
                if self._authority.answers is answers:
                    self._authority.answered(entry, answer, self._now())
                self._tell(self._waiters(entry), None)
        self._woken_up()

    async def _ask_names(self, book: Book) -> None:
        names = self._authority.names

        def fail(because: str) -> None:
            self._tell_all(names.failed(book, because, self._now()))

        with self._bulkhead.contain("callout", partial(fail, "an error of this node")):
            try:
                callout, body = await self._post(names_question(book))
                allowed, ttl_s = allowed_of(body, callout, len(book.asking))
            except (CalloutFailed, BadAnswer) as error:
                self._spell.failed(str(error))
                fail(str(error))
            else:
                self._spell.succeeded()
                self._tell_all(names.got(book, allowed, ttl_s, self._now()))
        self._woken_up()

    def _tell_all(self, settled: Sequence[tuple[Waiter, RequestError | None]]) -> None:
        for waiter, error in settled:
            self._tell([waiter], error)

    def _fail(self, answers: Answers, entry: Entry, because: str) -> None:
        if self._authority.answers is answers:
            self._authority.unanswered(entry, self._now())
        text = f"the callout of this node cannot be asked now ({because}): present the token again"
        stale = answers.find(entry.digest, self._now())
        self._tell(self._waiters(entry), None if stale else Unavailable(text, retry_ms=DOWN_RETRY_MS))

    @staticmethod
    def _waiters(entry: Entry) -> Sequence[Waiter]:
        waiters, entry.waiters = entry.waiters, []
        return waiters

    def _tell(self, waiters: Sequence[Waiter], error: RequestError | None) -> None:
        for waiter in waiters:
            with self._bulkhead.contain("callout: telling", waiter.broken):
                waiter.settled(error)

    # HTTP ------------------------------------------------------------------------------------------------------------

    async def _answer(self, entry: Entry) -> Answer:
        callout, body = await self._post(question(entry.token, entry.peer))
        return answer_of(body, callout)

    async def _post(self, body: bytes) -> tuple[Callout, bytes]:
        """Ask the callout; return it, and its answer. Raises `CalloutFailed`."""
        callout = self._authority.policy.callout
        if callout is None:
            raise CalloutFailed("there is none any more")
        answer = await self._asked(callout, body)
        if self._authority.policy.callout != callout:
            raise CalloutFailed("the policy names another callout now")
        return callout, answer

    async def _asked(self, callout: Callout, body: bytes) -> bytes:
        at_s = int(self._wall())
        parts = urlsplit(callout.url)
        request = Request(
            "POST",
            parts.netloc,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            (
                ("Content-Type", "application/json"),
                ("Accept", "application/json"),
                (SIGNATURE_HEADER, signature(self._secret(), at_s, body)),
            ),
            body,
        )
        with trio.move_on_after(callout.times.timeout_s):
            response = await self._exchange(callout.url, request)
            if response.status != 200:
                also = ": redirects are not followed" if 300 <= response.status < 400 else ""
                raise CalloutFailed(f"{callout.url} answers with status {response.status}{also}")
            return response.body
        raise CalloutFailed(f"{callout.url} does not answer within {callout.times.timeout_s * 1000:.0f} ms")

    async def _exchange(self, url: str, request: Request) -> Response:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        kept = await self._pool.take(url)
        try:
            if kept is not None:
                try:
                    async with self._pool.using(kept) as connection:
                        return await connection.request(request, ANSWER_BYTES_MAX)
                except ConnectionBroken as error:
                    if error.answered:
                        raise
            stream = await self._open_stream(parts.hostname or "", parts.port or (443 if tls else 80), tls)
            async with self._pool.using(HttpConnection(stream, url)) as connection:
                return await connection.request(request, ANSWER_BYTES_MAX)
        except STREAM_ERRORS as error:
            raise CalloutFailed(f"{url} cannot be reached: {reason(error)}") from None
        except ExchangeFailed as error:
            raise CalloutFailed(f"{url}: {error}") from None
