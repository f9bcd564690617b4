"""Asking etcd how durable an acknowledged commit is, and whether it will go on taking them.

etcd syncs its log to disk before it acknowledges, on a majority of the members, so a commit survives a power cut;
unless a member runs with ``--unsafe-no-fsync``. No call tells that, but the metrics of such a member do: commits are
counted, and syncs are not. A member whose metrics are closed off counts as well configured.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from softstate.errors import StoreFault, Unavailable
from softstate.model import Durability
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import Alarms, Status

FULL_SHARE = 0.8
"""Share of the quota from which on the size of the database is worth a warning."""

PROBE_CALL_S = 1.0
"""How long asking may take in all, in seconds."""

SYNCS_MIN = 3
"""How many syncs since the last probe show that a member does sync: each new segment of its log brings one anyway."""

_SYNCS = b"etcd_disk_wal_fsync_duration_seconds_count "
_COMMITS = b"etcd_server_proposals_applied_total "
_STARTED = b"process_start_time_seconds "
_QUOTA = b"etcd_server_quota_backend_bytes "

log = structlog.get_logger("softstate.store")


class DurabilityProbe:
    """The `durability` and `warnings` of the member that was asked last, as a `Store` has them."""

    def __init__(self, gateway: Gateway) -> None:
        self.durability = Durability.DURABLE
        self.warnings: Sequence[str] = ()
        self._gateway = gateway
        self._process: tuple[int, float | None] | None = None
        self._commits = self._syncs = 0.0

    async def refresh(self) -> None:
        """Ask again. Changes since the last time say most, so do it before and after a commit."""
        try:
            with self._gateway.time_limit(PROBE_CALL_S):
                async with self._gateway.readers.connection() as connection:
                    status = await self._gateway.call(connection, "/v3/maintenance/status", {}, Status)
                    alarms = await self._gateway.call(connection, "/v3/maintenance/alarm", {"action": "GET"}, Alarms)
                    code, metrics = await connection.ask("GET", "/metrics", b"", ())
        except (Unavailable, StoreFault) as error:
            log.debug("etcd tells nothing of itself", store=self._gateway.name, because=str(error))
            return
        if code != 200:
            metrics = b""
        warnings = [_alarm(alarm.alarm) for alarm in alarms.alarms]
        self._compare((status.header.member_id, _metric(metrics, _STARTED)), metrics)
        if self.durability is Durability.WEAK:
            warnings.append(
                "etcd acknowledges commits before they are on disk, so a power cut may lose them: start it without"
                " --unsafe-no-fsync"
            )
        quota = status.db_size_quota or _metric(metrics, _QUOTA) or 0
        if quota and status.db_size > FULL_SHARE * quota:
            warnings.append(
                f"etcd's database takes {status.db_size / quota:.0%} of its quota of {quota:.0f} bytes, and beyond it"
                " nothing can be published: see that it runs with --auto-compaction-retention, defragment it, or raise"
                " --quota-backend-bytes"
            )
        self.warnings = warnings

    def _compare(self, process: tuple[int, float | None], metrics: bytes) -> None:
        commits, syncs = _metric(metrics, _COMMITS), _metric(metrics, _SYNCS)
        if commits is None or syncs is None:
            self.durability, self._process = Durability.DURABLE, None
            return
        if process != self._process or syncs - self._syncs >= SYNCS_MIN:
            self.durability = Durability.DURABLE
        elif commits > self._commits and syncs == self._syncs:
            self.durability = Durability.WEAK
        self._process, self._commits, self._syncs = process, commits, syncs


def _alarm(name: str) -> str:
    if name == "NOSPACE":
        return (
            "etcd is out of space (alarm NOSPACE), nothing can be published: compact its history, run `etcdctl defrag`,"
            " then `etcdctl alarm disarm`"
        )
    return f"etcd has raised alarm {name}: see `etcdctl alarm list`, and replace the damaged member"


def _metric(metrics: bytes, name: bytes) -> float | None:
    at = metrics.find(b"\n" + name)
    if at < 0:
        return None
    line = metrics[at + 1 + len(name) :].partition(b"\n")[0]
    try:
        return float(line)
    except ValueError:
        return None
