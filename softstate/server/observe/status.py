"""What a node holds, counted: for `/v1/status`, `softstate status` and `/metrics`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softstate.errors import SoftstateError
from softstate.store.base import LASTING

if TYPE_CHECKING:
    from softstate.server.node import Node


def counts(node: Node) -> dict[str, int]:
    """Count what costs nothing to count."""
    table = node.table.statistics()
    outboxes = [connection.outbox for connection in node.sockets() if connection.outbox is not None]
    return {
        "sessions": table.sessions,
        "attached": table.attached,
        "subscriptions": table.subscriptions,
        "names": table.groups,
        "connections": node.connections,
        "websockets": len(outboxes),
        "congested": sum(outbox.congested for outbox in outboxes),
        "pending": sum(map(len, outboxes)),
        "revision": node.hub.position.revision,
        "changes": node.hub.changes,
        "deliveries": node.hub.deliveries,
        "commits": node.access.writes.batcher.calls,
        "publishes": node.access.writes.batcher.served,
        "publishes_waiting": len(node.access.writes.batcher),
        "publishes_repeated": node.access.writes.repeated,
        "reads": node.access.reads.pages.served,
        "read_calls": node.access.reads.pages.calls,
        "renewals": node.access.heads.batcher.served,
        "head_reads": node.access.heads.batcher.calls,
        "store_reopened": node.access.follower.reopened,
        "store_rewinds": node.access.follower.rewinds,
        "memory_bytes": memory_bytes(),
        "store_up": int(not node.access.follower.down),
        "store_durable": int(node.durability in LASTING),
    }


async def snapshot(node: Node) -> dict[str, Any]:
    """Count everything, the store's contents included; `topics` and the like are null while the store is down."""
    try:
        info = await node.store.info()
    except SoftstateError:
        stored = dict.fromkeys(("topics", "tombstones", "keys", "store_bytes"))
    else:
        stored = {
            "topics": info.topics,
            "tombstones": info.tombstones,
            "keys": info.keys,
            "store_bytes": info.size_bytes,
        }
    return {
        "node": node.node_id,
        "role": node.config.role,
        "store": node.store_name,
        "durability": str(node.durability),
        "store_warnings": list(node.store.warnings),
        "store_state": "down" if node.access.follower.down else "ok",
        "position": str(node.hub.position),
        "draining": node.draining,
        "uptime_s": round(node.now() - node.started_at, 3),
        "ttl_ms": node.config.ttl_ms,
        "handshakes_per_s": round(node.handshakes.per_s, 1),
        **stored,
        **counts(node),
        "repairs": dict(sorted(node.repairs.items())),
    }


def memory_bytes() -> int:
    """Return this process's resident memory, 0 where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
