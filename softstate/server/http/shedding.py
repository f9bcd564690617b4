"""Refusals of those who come all at once, prepared as bytes: what refusing costs is taken from serving.

A refusal names the time after which to come back, and each client is to get another one, so that those refused together
do not come back together. So some are prepared, with a time each, and given out in turn for a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import trio

from softstate.addresses import network_of
from softstate.auth.lasting import NOBODY
from softstate.errors import Overloaded, RequestError
from softstate.server.edge.admission import Kind
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Request
from softstate.server.http.routes import refusal
from softstate.server.http1 import Refused
from softstate.server.http1.reply import write_reply
from softstate.wire import Codec

PREPARED = 32
"""Refusals with different times that are given out in turn..."""

PREPARED_S = 0.1
"""... for so long: then the node's rate is another, and its position."""

NETWORKS_KEPT = 64
"""Networks for which refusals of tokens are prepared at a time; for more, all are prepared again."""

_WORDS = {
    Kind.UPGRADE: "too many clients connect at once: wait, and poll meanwhile",
    Kind.POLL: "too many clients poll at once: wait, and ask again",
}


def shed(context: HttpContext, kind: Kind) -> Refused:
    """Return the refusal of one more request of a kind."""
    return Refused(503, Overloaded(_WORDS[kind], retry_ms=math.ceil(context.admission.retry_s(kind) * 1000)))


@final
class Prepared:
    """The refusals for one reason, in one codec, that were prepared for this moment."""

    __slots__ = ("_given", "_replies", "_until")

    def __init__(self) -> None:
        self._replies: list[bytes] = []
        self._given = 0
        self._until = -math.inf

    def next(self, context: HttpContext, request: Request, error: Callable[[], RequestError | Refused]) -> bytes:
        """Return the next refusal, for a request like this one; `error` makes one with another time at each call."""
        now = trio.current_time()
        if now >= self._until:
            self._replies.clear()
            self._until = now + PREPARED_S
        if len(self._replies) < PREPARED:
            # Others are given it, too: nothing in it may be of one identity.
            reply = refusal(context, replace(request, identity=NOBODY), error())
            self._replies.append(write_reply(reply, context.date(), close=False, bodiless=False))
            return self._replies[-1]
        self._given = (self._given + 1) % PREPARED
        return self._replies[self._given]


@final
class Shedding:
    """All refusals that are prepared."""

    __slots__ = ("_prepared", "_unseen")

    def __init__(self) -> None:
        self._prepared: dict[tuple[Kind, Codec], Prepared] = {}
        self._unseen: dict[tuple[str, bool, Codec], Prepared] = {}

    def next(self, context: HttpContext, kind: Kind, request: Request) -> bytes:
        """Return the bytes that refuse a request."""
        key = kind, request.accepted()
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = Prepared()
        return prepared.next(context, request, partial(shed, context, kind))

    def unseen(self, context: HttpContext, request: Request, error: Overloaded) -> bytes:
        """Return the bytes that refuse a request whose token is not looked at now, for one of the same network."""
        # Replies below /v1/ have headers of their own.
        key = network_of(request.address), request.path.startswith("/v1/"), request.accepted()
        prepared = self._unseen.get(key)
        if prepared is None:
            if len(self._unseen) >= NETWORKS_KEPT:
                self._unseen.clear()
            prepared = self._unseen[key] = Prepared()
        return prepared.next(context, request, lambda: error)
