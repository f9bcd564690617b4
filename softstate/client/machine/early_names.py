"""The names that are subscribed behind hello, before the node has told its limits (P-CLI-16)."""

from __future__ import annotations

from itertools import islice

from softstate.client.machine.connection import Connection
from softstate.client.machine.portions import Portions
from softstate.client.machine.state import Core
from softstate.wire.messages import Limits

NAMES_MAX = 1_024
"""Names that go early to a URL that has told no limits."""

OWN_CODES_MIN = 4_000
"""Close codes from here on say that the node understood what it was sent."""


class EarlyNames:
    """The limits that each URL has told. One that ended a connection over early names is sent `hello` alone next."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._told: dict[str, Limits] = {}
        self._alone: set[str] = set()

    def allowed(self, url: str) -> bool:
        """Tell whether anything may be sent to a URL behind hello."""
        return url not in self._alone

    def portions(self, url: str) -> list[list[str]]:
        """Return the names that a URL is expected to take, in order, cut into requests."""
        told, knowledge = self._told.get(url), self._core.knowledge
        portions = Portions() if told is None else Portions.of(told)
        names_max = NAMES_MAX if told is None else told.subscriptions
        return portions.cut(islice(knowledge.subscriptions, names_max), knowledge.position)

    def welcomed(self, url: str, limits: Limits) -> None:
        """Take over the limits that a URL told."""
        self._told[url] = limits
        self._alone.discard(url)

    def lost(self, connection: Connection, code: int | None) -> None:
        """Take note that a connection ended before its welcome: a message above the node's limits may be why."""
        if connection.requests and (code is None or code < OWN_CODES_MIN):
            self._alone.add(connection.url)
