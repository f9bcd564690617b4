from __future__ import annotations

from random import Random

from softstate.lease import LeaseTable
from softstate.server import Node, ServerConfig
from softstate.server.observe.catalogue import METRICS, full_name
from softstate.server.observe.status import lease_counts, outbox_counts, store_counts
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.fake_socket import outbox, text


async def test_all_that_a_node_counts_has_words_and_the_other_way_round() -> None:
    store = MemoryStore(MemoryDisk(Random(1)))
    text = Node(ServerConfig(), store, await store.head()).metrics().decode()
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    of_tls = {"softstate_tls_expires_seconds", "softstate_tls_handshakes_total", "softstate_tls_refused_total"}
    assert {*map(full_name, METRICS)} - shown == {"softstate_store_log_bytes", "softstate_worker_up", *of_tls}, (
        "only SQLite has a log, and there are no workers"
    )


def test_leases_are_counted() -> None:
    table = LeaseTable(0)
    lease = table.grant("token", 0, 60)
    table.add(lease, ["a", "b/"])
    another = table.grant("another", 0, 60)
    table.add(another, ["a"])
    table.detach(another)
    counts = {"sessions": 2, "attached": 1, "detached": 1, "leases_given_up": 0, "subscriptions": 3, "names": 2}
    assert lease_counts(table.statistics()) == counts


def test_outboxes_are_added_up() -> None:
    (idle, _), (full, _) = outbox(), outbox(free_bytes=0)
    assert outbox_counts([]) == {"websockets": 0, "congested": 0, "pending": 0}
    for topic in ("a", "b"):
        idle.notify(topic, text(topic))
        full.notify(topic, text(topic))
    idle.flush()
    full.flush()
    assert outbox_counts([idle, full]) == {"websockets": 2, "congested": 1, "pending": 2}


async def test_a_store_is_counted_unless_it_is_down() -> None:
    store = MemoryStore(MemoryDisk(Random(1)))
    await store.publish([Write("a", b"\x01", key="k", digest=b"x"), Write("b", b"\x01"), Write("b", None)])
    assert await store_counts(store) == {"topics": 1, "tombstones": 1, "keys": 1, "store_bytes": 0}
    store.outage = True
    assert await store_counts(store) == dict.fromkeys(("topics", "tombstones", "keys", "store_bytes"))
