"""Requests over HTTP about which a callout has to be asked first: whose token it is, or whether names are allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from softstate.auth.answers import Unasked
from softstate.auth.name_answers import QUESTIONS_MAX, NamesUnasked, too_many_questions
from softstate.errors import RequestError
from softstate.server.bulkhead import failed
from softstate.server.http.context import HttpContext
from softstate.server.http.credentials import stands
from softstate.server.http.message import Request

T = TypeVar("T")


async def answered(context: HttpContext, request: Request, act: Callable[[], Awaitable[T]]) -> T:
    """Call `act` until it has to ask for no name any more. Raises what it raises, and the reason of no answer.

    It must change nothing before all names that it needs are known.
    """
    for _ in range(QUESTIONS_MAX):
        try:
            return await act()
        except NamesUnasked as unasked:
            await ask_first(context, unasked, request.address)
            stands(context.gate, request)
    try:
        return await act()
    except NamesUnasked:
        raise too_many_questions() from None


async def ask_first(context: HttpContext, about: Unasked | NamesUnasked, address: str) -> None:
    """Return once it was asked about a token or names. Raises the reason why that is not known."""
    done = trio.Event()
    outcomes: list[RequestError | None] = []

    def settle(error: RequestError | None) -> None:
        outcomes.append(error)
        done.set()

    context.gate.ask(about, address, settle, lambda: settle(failed("asking about credentials")))
    await done.wait()
    if outcomes[0] is not None:
        raise outcomes[0]
