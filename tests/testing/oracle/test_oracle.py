"""The oracle: for each promise, traces that break it, of which exactly that is reported, and traces that keep it."""

import math
from dataclasses import replace
from typing import Any

import pytest

from softstate.testing import Bounds, Oracle, PromiseBroken
from softstate.testing.oracle.history import covers
from softstate.testing.trace import (
    AgeSampled,
    ChangeCommitted,
    ChangeDelivered,
    ClientEnded,
    FaultInjected,
    HeldLease,
    HistoryReplaced,
    LeasesDropped,
    LineageCommitted,
    MessageWritten,
    NodeEnded,
    NodeSampled,
    NodeStarted,
    PublishAcknowledged,
    PublishFailed,
    PublishStarted,
    RecordDamaged,
    ResetDelivered,
    Subscribed,
    Trace,
    TraceEvent,
    Unsubscribed,
)

OPENED = LineageCommitted(0.0, 1, "e", "l1")
WANTED = Subscribed(0.0, "a", 1, ("t", "p/"))
BEATEN = Subscribed(0.0, "a", 1, ("t", "p/"), beat_s=1.0)
POSITION = {"epoch": "e", "lineage": "l1", "revision": 3}


def commit(at: float, revision: int, topic: str = "t", value: Any = "v", *, key: str | None = None) -> ChangeCommitted:
    return ChangeCommitted(at, revision, topic, value, value is None, key)


def delivered(at: float, version: int, topic: str = "t", value: Any = "v") -> ChangeDelivered:
    return ChangeDelivered(at, "a", 1, topic, version, value, value is None, 0.0)


def age(at: float, age_s: float, mode: str = "live") -> AgeSampled:
    return AgeSampled(at, "a", 1, age_s, mode, ())


def refusing(at: float, *topics: str, age_s: float = 0.0) -> AgeSampled:
    return replace(age(at, age_s), unreadable=topics)


def started(at: float, number: int, *, expect: int | None = None, value: Any = "v") -> PublishStarted:
    return PublishStarted(at, "b", number, "t", value, value is None, expect, None)


def acknowledged(at: float, number: int, version: int) -> PublishAcknowledged:
    return PublishAcknowledged(at, "b", number, "t", version)


def refused(at: float, number: int, error: str) -> PublishFailed:
    return PublishFailed(at, "b", number, "t", error, None)


def restored(at: float, revision: int, why: str = "restored") -> HistoryReplaced:
    return HistoryReplaced(at, why, "e", revision, ((1, "l1"),), ())


def node(
    at: float, *clients: str, connections: int = 0, pending: int = 0, pending_bytes: int = 0, revoked: int = 0
) -> NodeSampled:
    leases = tuple(HeldLease(client, 1, 30.0, attached=True) for client in clients)
    return NodeSampled(at, "n1", 1, leases, connections, pending, pending_bytes, revoked)


def written(at: float, op: str, **fields: Any) -> MessageWritten:
    sender, receiver = ("n1", "a") if op in ("subscribed", "renewed", "notify", "welcome", "beat") else ("a", "n1")
    return MessageWritten(at, 1, sender, receiver, op, {"op": op, **fields})


NOTIFY_2 = written(5, "notify", topic="t", version=2, value="v")
NOTIFY_3 = written(5, "notify", topic="p/x", version=3, value="v")
MESSAGES = (
    written(1, "hello"),
    written(1, "welcome", session="s", position={**POSITION, "revision": 1}),
    written(1, "subscribe", id=1, topics={"t": 0}, prefixes={"p/": 0}, replace=True),
    written(1, "subscribed", id=1, changes=[], position={**POSITION, "revision": 1}),
    commit(2, 2), commit(3, 3, "p/x"), written(4, "renew", id=2),
)  # fmt: skip
RENEWED = written(6, "renewed", id=2, match=True, store="ok", position=POSITION)
BEAT = written(6, "beat", next_ms=1_000, sent=2, position=POSITION, clock_ms=0)
SUBSCRIBE_AGAIN = written(5, "subscribe", id=3, topics={"t": 0}, prefixes={"p/": 0}, replace=True)
RESUMED = (
    *MESSAGES[:6],
    MessageWritten(7, 2, "a", "n1", "hello", {"session": "s", "since": 2, "position": POSITION}),
    MessageWritten(7, 2, "n1", "a", "welcome", {"session": "s2", "resumed": True, "position": POSITION}),
    MessageWritten(8, 2, "a", "n1", "renew", {"id": 1}),
)
RENEWED_2 = MessageWritten(9, 2, "n1", "a", "renewed", {"id": 1, "match": True, "position": POSITION})
BEAT_2 = replace(BEAT, at_s=9, connection=2)
BEAT_4 = replace(BEAT_2, at_s=11, message={"position": {**POSITION, "revision": 4}})

STARTED = NodeStarted(0.0, "n1", 1)
HEALED = FaultInjected(10.0, "heal", "")
DAMAGED = RecordDamaged(2.0, "t", 2)
GONE = ClientEnded(10.0, "a", "power", ())

Events = tuple[TraceEvent, ...]

BREAKING: dict[str, tuple[str, Events]] = {
    "an older version": ("S1", (commit(1, 2), commit(2, 3), delivered(3, 3), delivered(4, 2))),
    "a version twice": ("S1", (commit(1, 2), delivered(3, 2), delivered(4, 2))),
    "a value that was not committed": ("S2", (commit(1, 2), delivered(3, 2, value="other"))),
    "a value before its commit": ("S2", (delivered(1, 2), commit(2, 2))),
    "a deletion of what is there": ("S2", (commit(1, 2), delivered(3, 2, value=None))),
    "a lost acknowledgement": ("S3", (started(1, 1), commit(2, 2), acknowledged(3, 1, 2), restored(4, 1, "crash"))),
    "an acknowledgement without a commit": ("S3", (started(1, 1), acknowledged(3, 1, 2))),
    "an acknowledgement of another change": ("S3", (started(1, 1), commit(2, 2, value=1), acknowledged(3, 1, 2))),
    "two winners": ("S4", (
        started(1, 1, expect=0), started(1, 2, expect=0), commit(2, 2), commit(2, 3), acknowledged(3, 1, 2),
        acknowledged(3, 2, 3),
    )),
    "a refusal of what was applied": ("S4", (started(1, 1), commit(2, 2), refused(3, 1, "TooLarge"))),
    "a refusal of what is applied later": ("S4", (started(1, 1), refused(2, 1, "Denied"), commit(3, 2))),
    "a key applied twice": ("S4", (commit(1, 2, key="k"), commit(2, 3, key="k"))),
    "an age that is too small": ("S5", (age(1, 1), commit(2, 2), age(10, 7.9))),
    "an age that misses a deletion": ("S5", (commit(1, 2), delivered(2, 2), commit(3, 3, value=None), age(10, 6))),
    "an age over a restored history": ("S5", (commit(1, 2), delivered(2, 2), restored(3, 1), age(10, 6))),
    "an age that is too small beside a fast clock of another client": ("S5", (
        STARTED, BEATEN, FaultInjected(0.0, "clock_rate", "b 1.1"), commit(2, 2), age(10, 7.9))),
    "an age that is too small for beats of a node with a fast clock": ("S5", (
        STARTED, BEATEN, FaultInjected(0.0, "clock_rate", "n1 1.1"), commit(2, 2), age(40, 5))),
    "an age that is too small without beats of a node with a fast clock": ("S5", (
        STARTED, FaultInjected(0.0, "clock_rate", "n1 1.1"), commit(2, 2), age(10, 7.9))),
    "live without a lease": ("S6", (STARTED, node(200), age(200, 1))),
    "live without a lease, long after the store came up with another history": ("S6", (
        STARTED, FaultInjected(100, "store_down", "all"), restored(101, 1), FaultInjected(102, "store_up", "all"),
        node(200), age(200, 1))),
    "live without a lease, revoked long ago": ("S6", (STARTED, node(10, revoked=1), node(200, revoked=1), age(200, 1))),
    "a watermark over what was not written": ("S7", (*MESSAGES, NOTIFY_2, RENEWED)),
    "a watermark before the answer": ("S7", (*MESSAGES[:3], *MESSAGES[4:], NOTIFY_3, RENEWED, NOTIFY_2)),
    "a watermark over a replay with a gap": ("S7", (*RESUMED, RENEWED_2)),
    "a watermark of no history": ("S7", (*MESSAGES, NOTIFY_2, NOTIFY_3, written(
        6, "renewed", id=2, match=True, position={**POSITION, "revision": 9}))),
    "a beat over what was not written": ("S7", (*MESSAGES, NOTIFY_2, BEAT)),
    "a beat ahead of a push": ("S7", (*MESSAGES, NOTIFY_3, BEAT, NOTIFY_2)),
    "a beat over a name that another subscribe did not ask for": ("S7", (
        *MESSAGES, NOTIFY_2, written(5, "subscribe", id=3, topics={"u": 0}, prefixes={}), BEAT)),
    "a beat after a renewal of a resumed session": ("S7", (
        *RESUMED, MessageWritten(7, 2, "n1", "a", "notify", {"topic": "p/x", "version": 3}), RENEWED_2,
        commit(10, 4), BEAT_4)),
    "a beat of another history than the answer": ("S7", (
        *MESSAGES[:3], *MESSAGES[4:6], restored(4, 1), LineageCommitted(4, 2, "e", "l2"), commit(4, 3, "u"),
        commit(4, 4, "u"), written(5, "subscribed", id=1, changes=[], position={
            "epoch": "e", "lineage": "l2", "revision": 4}), BEAT)),
    "a beat of no history": ("S7", (*MESSAGES, NOTIFY_2, NOTIFY_3, replace(
        BEAT, message={"position": {**POSITION, "lineage": "l9"}}))),
    "a beat of a lost history": ("S7", (
        *MESSAGES, restored(4, 2), LineageCommitted(4, 3, "e", "l2"), NOTIFY_2, BEAT)),
    "a value after its deletion": ("S8", (
        commit(1, 2), commit(2, 3, value=None), delivered(3, 3, value=None), delivered(4, 2))),
    "two histories without a reset": ("S9", (
        commit(1, 2), commit(1, 3), delivered(2, 3), restored(3, 2), commit(4, 4, "p/x"), delivered(5, 4, "p/x"))),
    "the same revision of another history": ("S9", (
        commit(1, 2), commit(1, 3), delivered(2, 3), restored(3, 2), LineageCommitted(3, 3, "e", "l2"),
        commit(4, 4, value="w"), delivered(5, 4, value="w"))),
    "too many entries": ("S10", (node(1, pending=1_025),)),
    "too many bytes": ("S10", (node(1, pending_bytes=2**20 + 1),)),
    "a lease of a vanished client": ("S10", (STARTED, GONE, node(90, "a"))),
    "a connection of a vanished client": ("S10", (STARTED, GONE, node(200, connections=1))),
    "amnesia that is not noticed": ("S11", (
        STARTED, LeasesDropped(5.0, "n1", ("a",)), HEALED, node(50), age(50, 1))),
    "a refused topic that is intact": ("S18", (commit(1, 2), delivered(1, 2), refusing(3, "t"))),
    "a topic refused long after it was published again": ("S18", (
        commit(1, 2), delivered(1, 2), DAMAGED, commit(3, 3), delivered(3, 3), HEALED, refusing(80, "t"))),
    "a damaged value that is served": ("S2", (commit(1, 2), DAMAGED, delivered(4, 2, value="w"))),
    "a damaged topic that passes for deleted": ("S2", (commit(1, 2), DAMAGED, delivered(4, 2, value=None))),
    "an age over a damaged topic that was not told": ("S5", (commit(1, 2), DAMAGED, age(10, 2))),
    "live and cut off": ("B", (age(40, 31),)),
    "live without beats": ("B", (BEATEN, age(40, 8.4))),
    "live without beats long after a clock has jumped": (
        "B", (BEATEN, FaultInjected(5.0, "clock_jump", "n1 3600 s"), age(40, 8.4))),
    "live without beats long after its lease was forgotten": (
        "B", (BEATEN, LeasesDropped(5.0, "n1", ("a",)), age(40, 8.4))),
    "live without beats long after one was lost": (
        "B", (BEATEN, FaultInjected(5.0, "frames", "drop beat n1→a (1 of them)"), age(40, 8.4))),
    "live without beats while another's lease was forgotten": (
        "B", (BEATEN, LeasesDropped(30.0, "n1", ("b",)), age(40, 8.4))),
    "stale long after the healing": ("L", (commit(1, 2), HEALED, age(80, 79, "polling"))),
    "live without beats, longer than one is on its way": (
        "B", (BEATEN, FaultInjected(5.0, "slow", "n1→a 0.1 to 1 s"), age(40, 9.4))),
    "live without beats, long after they were on their way": (
        "B", (BEATEN, FaultInjected(1.0, "slow", "n1→a 1 to 10 s"), FaultInjected(2.0, "heal", ""), age(40, 8.4))),
    "live and cut off after a store fault": ("B", (
        FaultInjected(1, "store_slow", "1 to 2 s"), FaultInjected(2, "store_slow", "0 to 0 s"), age(80, 79))),
    "never certified": ("L", (HEALED, age(80, math.inf, "connecting"))),
    "never sampled": ("L", (HEALED,)),
}  # fmt: skip

KEEPING: dict[str, Events] = {
    "S1": (commit(1, 2), commit(2, 3), delivered(3, 2), delivered(4, 3), age(5, 0.1)),
    "S1 after a reset": (commit(1, 2), delivered(2, 2), ResetDelivered(3, "a", 1), delivered(4, 2), age(5, 0.1)),
    "S2 a sweep at the answer's revision": (
        commit(1, 2), delivered(1, 2), commit(2, 3, value=None), commit(3, 4, "x"), delivered(4, 4, value=None)),
    "S3 superseded": (started(1, 1), commit(2, 2), acknowledged(3, 1, 2), commit(4, 3, value="w")),
    "S3 discarded": (started(1, 1), commit(2, 2), acknowledged(3, 1, 2), restored(4, 1)),
    "S4": (started(1, 1, expect=0), commit(2, 2), acknowledged(3, 1, 2), started(4, 2, expect=2), commit(5, 3),
           acknowledged(6, 2, 3)),
    "S4 a refusal": (commit(1, 2), started(2, 1), refused(3, 1, "TooLarge"), commit(4, 3, value="w")),
    "S4 an unknown outcome": (started(1, 1), commit(2, 2), refused(3, 1, "OutcomeUnknown")),
    "S4 a lost comparison": (started(1, 1, expect=7), commit(2, 2), refused(3, 1, "Conflict")),
    "S4 over a deletion": (commit(1, 2, value=None), started(2, 1, expect=0), commit(2, 3), acknowledged(3, 1, 3)),
    "S4 a key after its life": (commit(1, 2, "x", key="k"), commit(700, 3, "x", key="k"), age(700, 1)),
    "S4 a key in another history": (
        commit(1, 2, key="k"), restored(2, 1), LineageCommitted(3, 2, "e", "l2"), commit(3, 3, key="k")),
    "S4 a key in another history that goes on in the old lineage": (
        commit(1, 2, key="k"), restored(2, 1), commit(3, 2, "x"), commit(4, 3, key="k")),
    "S5": (age(1, 1), commit(2, 2), age(10, 8), delivered(11, 2), age(12, 0)),
    "S5 a slow clock": (FaultInjected(0.0, "clock_rate", "a 0.99"), commit(2, 2), age(12, 10.01)),
    "S5 a bad clock": (FaultInjected(0.0, "clock_rate", "a 0.5"), commit(2, 2), age(12, 1)),
    "S5 beats of a node with a fast clock": (
        STARTED, BEATEN, FaultInjected(0.0, "clock_rate", "n1 1.1"), commit(2, 2), age(10, 7.9)),
    "S5 absent is deleted": (commit(2, 2), commit(3, 3, value=None), age(12, 1)),
    "S5 set again": (commit(2, 2), commit(3, 3, value=None), commit(10, 4), age(12, 2)),
    "S5 brought back": (
        commit(1, 2), restored(2, 1), ResetDelivered(3, "a", 1),
        HistoryReplaced(11, "restored", "e", 2, ((1, "l1"),), ()), age(12, 1)),
    "S5 brought back but never seen to leave": (
        commit(1, 2), commit(2, 3, value=None), delivered(3, 3, value=None), restored(11, 2), age(12, 1)),
    "S5 given up": (Unsubscribed(1, "a", 1), commit(2, 2), age(12, 1)),
    "S6": (STARTED, node(200, "a"), age(200, 1)),
    "S6 polling": (STARTED, node(200), age(200, 1, "polling")),
    "S6 just after the end of a node": (
        STARTED, NodeEnded(199, "n1", 1, "power"), NodeStarted(199, "n1", 2), node(200), age(200, 1)),
    "S6 of a lost history": (
        STARTED, commit(1, 2), delivered(1, 2), restored(199, 2, "wiped"), node(200), age(200, 1)),
    "S6 of a history that was lost while the store was down": (
        STARTED, FaultInjected(100, "store_down", "all"), restored(101, 1), FaultInjected(199, "store_up", "all"),
        node(200), age(200, 1)),
    "S6 revoked": (STARTED, node(190, "a"), node(200, revoked=1), age(200, 1)),
    "S6 a missed revocation": (STARTED, FaultInjected(1, "stop_reading", "a"), node(200), age(200, 1)),
    "S6 frozen": (STARTED, node(199), FaultInjected(199, "freeze", "n1"), age(200, 1)),
    "S7": (*MESSAGES, NOTIFY_2, NOTIFY_3, RENEWED),
    "S7 part of the answer": (
        *MESSAGES[:3], written(4, "subscribed", id=1, changes=[
            {"topic": "t", "version": 2}, {"topic": "p/x", "version": 3}], position=POSITION), *MESSAGES[4:], RENEWED),
    "S7 no match": (*MESSAGES, written(6, "renewed", id=2, match=False, store="ok", position=POSITION)),
    "S7 given up": (*MESSAGES, NOTIFY_2, written(5, "unsubscribe", topics=[], prefixes=["p/"]), RENEWED),
    "S7 revoked": (*MESSAGES, written(5, "revoked", reason="expired"), RENEWED),
    "S7 a denied name": (
        *MESSAGES[:3], written(4, "subscribed", id=1, changes=[], denied=["t", "p/"], position=POSITION), *MESSAGES[4:],
        RENEWED),
    "S7 resumed": (*RESUMED, MessageWritten(7, 2, "n1", "a", "notify", {"topic": "p/x", "version": 3}), RENEWED_2),
    "S7 a beat": (*MESSAGES, NOTIFY_2, NOTIFY_3, BEAT),
    "S7 a beat that is older than the answer": (
        *MESSAGES[:3], *MESSAGES[4:6], commit(4, 4), written(
            5, "subscribed", id=1, changes=[{"topic": "t", "version": 4}, {"topic": "p/x", "version": 3}],
            position={**POSITION, "revision": 4}), BEAT),
    "S7 a beat without a position": (*MESSAGES, replace(BEAT, message={"op": "beat", "next_ms": 1_000, "sent": 0})),
    "S7 a beat before the answer": (*MESSAGES[:3], *MESSAGES[4:], BEAT),
    "S7 a beat over a name of which a page was written": (
        *MESSAGES[:3], written(4, "subscribed", id=1, changes=[], more=True, position=POSITION), *MESSAGES[4:], BEAT),
    "S7 a beat over names given up": (
        *MESSAGES, NOTIFY_2, written(5, "unsubscribe", topics=[], prefixes=["p/"]), BEAT),
    "S7 a beat while all is subscribed again": (*MESSAGES, SUBSCRIBE_AGAIN, BEAT),
    "S7 a beat after a revocation": (*MESSAGES, written(5, "revoked", reason="expired"), BEAT),
    "S7 a beat over a denied name": (
        *MESSAGES[:3], written(4, "subscribed", id=1, changes=[], denied=["t", "p/"], position=POSITION), *MESSAGES[4:],
        BEAT),
    "S7 a beat on a resumed session": (*RESUMED, BEAT_2),
    "S7 a beat after a mismatch on a resumed session": (
        *RESUMED, replace(RENEWED_2, message={"id": 1, "match": False, "position": POSITION}), BEAT_2),
    "S7 a beat after a renewal while the store is down": (
        *RESUMED, replace(RENEWED_2, message={"id": 1, "match": True, "store": "down", "position": POSITION}), BEAT_2),
    "S7 beats of a lost history": (
        *MESSAGES, NOTIFY_2, NOTIFY_3, restored(6, 2), LineageCommitted(6, 3, "e", "l2"), commit(6, 4), BEAT),
    "S8": (commit(1, 2), commit(2, 3, value=None), delivered(3, 3, value=None), commit(4, 4), delivered(5, 4)),
    "S9": (
        commit(1, 2), commit(1, 3), delivered(2, 3), restored(3, 2), commit(4, 4, "p/x"), ResetDelivered(5, "a", 1),
        delivered(5, 4, "p/x"), delivered(6, 2)),
    "S9 a common past": (
        commit(1, 2), delivered(2, 2), commit(2, 3, "x"), restored(3, 2), commit(4, 4, "p/x"), delivered(5, 4, "p/x")),
    "S10": (STARTED, node(1, pending=1_024, pending_bytes=2**20), GONE, node(70, "a", connections=1), node(200)),
    "S11": (STARTED, LeasesDropped(5.0, "n1", ("a",)), HEALED, node(50, "a"), age(50, 1)),
    "S3 nothing to delete": (started(1, 1, value=None), acknowledged(3, 1, 0)),
    "S3 deleted already": (commit(1, 2, value=None), started(2, 1, value=None, expect=0), acknowledged(3, 1, 2)),
    "S18": (
        commit(1, 2), DAMAGED, refusing(10, "t"), HEALED, commit(10, 3), delivered(11, 3), refusing(80, age_s=1)),
    "S18 an old value that stays": (commit(1, 2), delivered(1, 2), DAMAGED, commit(3, 3, "p/x"), delivered(4, 3, "p/x"),
                                    refusing(5, "t", age_s=1)),
    "S7 named as unreadable": (
        *MESSAGES[:3], written(4, "subscribed", id=1, changes=[{"topic": "p/x", "version": 3}], unreadable=["t"],
                               position=POSITION), *MESSAGES[4:], RENEWED),
    "B": (age(40, 30), age(41, 100, "polling"), age(42, 1)),
    "B with beats": (BEATEN, age(40, 8.2)),
    "B with beats and a bad clock": (BEATEN, FaultInjected(0.0, "clock_rate", "n1 0.9"), age(40, 30)),
    "B with beats after a clock has jumped": (BEATEN, FaultInjected(20.0, "clock_jump", "n1 3600 s"), age(40, 30)),
    "B with beats behind what is read slowly": (BEATEN, FaultInjected(0.0, "read_slowly", "a 1 s"), age(40, 30)),
    "B with beats after its lease was forgotten": (
        BEATEN, LeasesDropped(20.0, "n1", ("a",)), age(40, 30)),
    "B with beats that are lost": (
        BEATEN, FaultInjected(20.0, "frames", "drop beat n1→a (1 of them)"), age(40, 30)),
    "B with beats that are on their way": (
        BEATEN, FaultInjected(5.0, "slow", "n1→a 1 to 10 s"), age(40, 18)),
    "B with beats of which some are always lost": (
        BEATEN, FaultInjected(1.0, "frames", "drop any message *→* (every one, chance 0.2)"), age(400, 30)),
    "B while the store is down": (FaultInjected(1, "store_down", "n1"), age(40, 39)),
    "B while one store fault of two lasts": (
        FaultInjected(1, "store_down", "all"), FaultInjected(2, "store_down", "n1"),
        FaultInjected(3, "store_up", "n1"), age(80, 79)),
    "B just woken": (FaultInjected(39, "clock_jump", "a 60 s"), age(40, 61)),
    "L": (commit(1, 2), HEALED, age(20, 19, "polling"), delivered(21, 2), age(80, 1)),
    "L of a new handle": (
        commit(1, 2), delivered(2, 2), HEALED, Subscribed(79.0, "a", 2, ("t",)), replace(age(80, math.inf), handle=2),
        age(80, 1)),
    "L not yet": (commit(1, 2), HEALED, age(49, 48, "polling")),
}  # fmt: skip


def checked_by_oracle(events: Events) -> Oracle:
    oracle = Oracle()
    for event in (OPENED, WANTED, *events):
        oracle.see(event)
    oracle.finish(max(event.at_s for event in events) + (100 if events[-1] is HEALED else 0))
    return oracle


@pytest.mark.parametrize("name", BREAKING)
def test_a_broken_promise_is_reported_and_nothing_else(name: str) -> None:
    promise, events = BREAKING[name]
    oracle = checked_by_oracle(events)
    assert [violation.promise for violation in oracle.violations] == [promise]
    violation = oracle.violations[0]
    assert violation.evidence
    with pytest.raises(PromiseBroken, match=rf"{promise} broken at \d+\.\d+ s, {violation.party}"):
        oracle.check()


@pytest.mark.parametrize("name", KEEPING)
def test_a_kept_promise_is_not_reported(name: str) -> None:
    oracle = checked_by_oracle(KEEPING[name])
    oracle.check()
    assert oracle.steps == len(KEEPING[name]) + 2


def test_every_promise_that_a_trace_can_break_is_in_both_lists() -> None:
    named = {*(f"S{number}" for number in range(1, 12)), "S18", "B", "L"}
    assert {promise for promise, _ in BREAKING.values()} == named
    assert {name.partition(" ")[0] for name in KEEPING} == named


def test_a_loss_breaks_no_promise_on_a_store_that_claims_no_durability() -> None:
    oracle = Oracle(Bounds(durable=False))
    for event in (OPENED, *BREAKING["a lost acknowledgement"][1]):
        oracle.see(event)
    oracle.finish(5)
    oracle.check()


def test_an_attached_oracle_sees_past_and_future_events() -> None:
    trace = Trace([OPENED, WANTED])
    oracle = Oracle.attach(trace)
    trace.add(delivered(1, 2))
    assert oracle.steps == 3
    assert [violation.promise for violation in oracle.violations] == ["S2"]


def test_the_first_violation_of_a_promise_stands_for_all_of_one_party_and_their_number_is_bounded() -> None:
    oracle = Oracle()
    for event in (OPENED, WANTED):
        oracle.see(event)
    for number in range(200):
        for _ in range(2):
            oracle.see(delivered(1, 2 + number, f"p/{number}"))
    assert len(oracle.violations) == 100
    with pytest.raises(PromiseBroken, match="… of 100"):
        oracle.check()


def test_margin_and_convergence_are_measured() -> None:
    oracle = checked_by_oracle(
        (commit(1, 2), age(3, 2.5), HEALED, age(20, 19.25, "polling"), delivered(21, 2), age(22, 0.5))
    )
    assert oracle.clients.margin_s == pytest.approx(0.25)
    assert oracle.clients.converged_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("name", "beats"),
    [("S7 a beat", 1), ("S7 a beat without a position", 0), ("S7 a beat after a revocation", 0), ("S7", 0)],
)
def test_beats_that_tell_of_something_are_counted(name: str, beats: int) -> None:
    assert checked_by_oracle(KEEPING[name]).wire.beats == beats


def test_names_cover_topics() -> None:
    assert covers("/", "a/b")
    assert covers("a/", "a/b")
    assert covers("a", "a")
    assert not covers("a/", "a")
    assert not covers("a", "a/b")
