"""Numbers for `/v1/status` and `/metrics` that no part of a node counts under the names that are shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from softstate.errors import SoftstateError
from softstate.lease.table import LeaseCounts
from softstate.server.fanout.outbox import Outbox
from softstate.server.measure.client_reports import ClientReports
from softstate.store.base import StoreInfo


class Counted(Protocol):
    """A store, or what counts one for several tasks."""

    async def info(self) -> StoreInfo:
        """Count what the store holds. Raises `SoftstateError` while that cannot be done."""


def lease_counts(leases: LeaseCounts) -> dict[str, int]:
    """Return what a lease table counts, under the names that are shown."""
    return {
        "sessions": leases.sessions,
        "attached": leases.attached,
        "detached": leases.detached,
        "leases_given_up": leases.given_up,
        "subscriptions": leases.subscriptions,
        "names": leases.groups,
    }


def client_counts(reports: ClientReports, now: float) -> dict[str, Any]:
    """Tell what clients have said of themselves: how old what they know is, and in which mode they are (P-REN-13).

    Ages are in seconds, and null where they are not known; `never` counts clients that do not know all that they want.
    """
    ages = reports.ages(now)
    return {
        "ages": ages.clients,
        "never": ages.never,
        "age_p50_s": ages.p50_s,
        "age_p99_s": ages.p99_s,
        "age_max_s": ages.max_s,
        "modes": reports.modes(now),
    }


def outbox_counts(outboxes: Collection[Outbox]) -> dict[str, int]:
    """Add up what waits for the WebSocket connections of a node."""
    return {
        "websockets": len(outboxes),
        "congested": sum(outbox.congested for outbox in outboxes),
        "pending": sum(map(len, outboxes)),
    }


async def store_counts(store: Counted) -> dict[str, int | None]:
    """Count what a store holds; each number is None while the store is down."""
    try:
        info = await store.info()
    except SoftstateError:
        return dict.fromkeys(("topics", "tombstones", "keys", "store_bytes"))
    return {"topics": info.topics, "tombstones": info.tombstones, "keys": info.keys, "store_bytes": info.size_bytes}
