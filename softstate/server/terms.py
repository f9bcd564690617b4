"""The terms of one node: what it tells its clients now, worked out from what it measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

from softstate.lease import LeaseTable
from softstate.model import Durability
from softstate.server.config import ServerConfig
from softstate.server.measure.client_reports import ClientReports
from softstate.server.storage.asker import Asker
from softstate.session import ExpectedPolls, NodeTerms, ServiceRate, advise
from softstate.session.load_advice import POLL_LATE
from softstate.store import Store
from softstate.wire.messages import Limits, Poll

TERMS_S = 0.1
"""Time for which the terms told to clients are kept, in seconds."""


@final
class CurrentTerms:
    """Called, it returns the terms of a node as of a tenth of a second ago at most. `now` is the clock of the leases.

    In a herd each hello changes them, and with them the bytes of a `welcome` that could be kept.
    """

    def __init__(
        self, node_id: str, config: ServerConfig, store: Store, leases: LeaseTable, now: Callable[[], float]
    ) -> None:
        self.handshakes = ServiceRate(prior_per_s=config.handshakes_per_s)
        self.polls = ServiceRate(prior_per_s=config.handshakes_per_s)
        self.expected_polls = ExpectedPolls()
        self.reports = ClientReports()
        self._node_id = node_id
        self._config = config
        self._store = store
        self._leases = leases
        self._now = now
        self._kept: tuple[tuple[object, ...], NodeTerms] | None = None
        self._kept_until = -math.inf

    def __call__(self) -> NodeTerms:
        """Return the terms."""
        now, durability, kept = trio.current_time(), self._store.durability, self._kept
        if kept is not None and now < self._kept_until and kept[1].durability == durability:
            return kept[1]
        self._kept_until = now + TERMS_S
        # All that the terms depend on: they are worked out once for thousands of clients, 3 % of a renewal (cProfile).
        clients = self._leases.awaited(self._now(), self._config.recover_cap_ms / 1000)
        polling = self.expected_polls.count(now)
        changing = clients, polling, self.handshakes.per_s, self.polls.per_s, durability
        if kept is None or kept[0] != changing:
            kept = self._kept = changing, self._work_out(clients, polling, durability)
        return kept[1]

    def next_poll_ms(self, asker: Asker, wait_ms: int | None = None, said: Poll | None = None) -> int:
        """Return after how many milliseconds a client is to poll again, and expect that it does.

        Until then what it `said` of itself counts.
        One that waits for news comes again as soon as the node can serve all that poll; it is expected until its wait
        is over.
        """
        poll = self().poll
        next_ms = poll.every_ms if wait_ms is None else poll.spread_ms
        expected_ms = next_ms + (wait_ms or 0)
        asker.expected = self.expected_polls.expect(trio.current_time(), expected_ms, asker.expected)
        if said is not None:
            until = self._now() + expected_ms * POLL_LATE / 1000 + 1
            asker.report = self.reports.say(until, said.age_ms, said.mode, asker.report)
        return next_ms

    def _work_out(self, clients: int, polling: int, durability: Durability) -> NodeTerms:
        config = self._config
        poll, recover = advise(
            clients,
            self.handshakes.per_s,
            self.polls.per_s,
            polling=polling,
            poll_ms=config.poll_every_ms,
            base_ms=config.recover_base_ms,
            cap_ms=config.recover_cap_ms,
            timeout_ms=config.timeout_ms,
        )
        limits = Limits(
            subscriptions=config.subscriptions_max,
            value_bytes=config.value_bytes_max,
            message_bytes=config.message_bytes_max,
            pending=config.pending_max,
            keys=self._store.keys_max,
            key_ms=config.key_ms,
            inflight=config.publisher_inflight_max,
            value_items=config.value_items_max,
            message_items=config.message_items_max,
        )
        return NodeTerms(self._node_id, config.ttl_ms, config.timeout_ms, poll, recover, limits, durability)
