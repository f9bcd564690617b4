"""The warden: which leases a revocation ends, in which turns, and which revocations it forgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from softstate.auth.answers import DOWN_RETRY_MS
from softstate.auth.digests import digest_of
from softstate.auth.identity import NOTHING, Identity
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.auth.revocations import REVOKED, Revocation, Revocations, key_topic, subject_topic, token_topic
from softstate.errors import Rewound, TooLarge, Unavailable
from softstate.lease import LeaseTable
from softstate.model import Page, Query, Record
from softstate.server.auth import warden as module
from softstate.server.auth.gate import NodeGate
from softstate.server.auth.warden import FORGET_S, SCANNED_PER_TURN, Warden, read_revocations
from softstate.server.bulkhead import Bulkhead
from softstate.store import MemoryDisk, MemoryStore
from softstate.store.base import Write
from softstate.wire import encode_value
from softstate.wire.messages import Reason
from tests.kit.node_rig import node
from tests.kit.rules_gate import RulesGate
from tests.kit.warden_rig import U1, Rig


@pytest.mark.parametrize(
    ("topic", "ended"),
    [
        (subject_topic("issuer", "u1"), ["one", "other key", "other token"]),
        (token_topic("t1"), ["one", "other key"]),
        (token_topic("j1"), ["one", "other key", "other token"]),
        (key_topic("issuer", "k1"), ["one", "other subject", "other token"]),
        (subject_topic("issuer", "nobody"), []),
    ],
)
def test_all_leases_that_rest_on_it_end_and_no_other(topic: str, ended: list[str]) -> None:
    rig = Rig()
    rig.lease("one", U1)
    rig.lease("other token", replace(U1, token=digest_of("t2")))
    rig.lease("other key", replace(U1, key="k2"))
    rig.lease("other subject", replace(U1, subject="u2", token=digest_of("t3"), token_id=""))
    rig.lease("anybody", Identity("", "", NOTHING))
    rig.table.grant("nobody's", 0.0, 60)
    rig.heed(topic)
    assert rig.all_ended == ended
    assert {lease.token for lease in rig.table.all()}.isdisjoint(ended)
    assert len(rig.table) == 6 - len(ended)


def test_a_subject_that_has_signed_in_again_keeps_its_new_lease() -> None:
    rig = Rig()
    rig.lease("old", U1)
    rig.lease("new", replace(U1, issued_at=7.0))
    rig.heed(subject_topic("issuer", "u1"), before=6.0)
    assert rig.all_ended == ["old"]


def test_the_leases_of_a_key_are_looked_at_in_turns() -> None:
    rig = Rig()
    for number in range(SCANNED_PER_TURN * 2 + 1):
        rig.lease(str(number), U1)
    turns = rig.warden.heed([Record(key_topic("issuer", "k1"), 1, encode_value({}))])
    next(turns)
    assert len(rig.table) == SCANNED_PER_TURN + 1
    rig.table.release(rig.table.all()[-1])  # one may go meanwhile
    assert sum(1 for _ in turns) == 2
    assert len(rig.table) == 0


def test_the_leases_of_one_subject_are_looked_at_in_turns() -> None:
    rig = Rig()
    for number in range(SCANNED_PER_TURN * 2 + 1):
        rig.lease(str(number), U1)
    turns = rig.warden.heed([Record(subject_topic("issuer", "u1"), 1, encode_value({}))])
    next(turns)
    assert len(rig.table) == SCANNED_PER_TURN + 1
    assert sum(1 for _ in turns) == 1
    assert len(rig.table) == 0


def test_each_lease_is_looked_at_once_however_many_are_revoked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    for number in range(10):
        rig.lease(str(number), replace(U1, token=digest_of(str(number)), token_id=""))
    rig.held = [(trio.CancelScope(), U1)]
    looked: list[Identity] = []
    of = Revocations.of

    def counted(revocations: Revocations, identity: Identity) -> Revocation | None:
        looked.append(identity)
        return of(revocations, identity)

    monkeypatch.setattr(Revocations, "of", counted)
    topics = [token_topic(str(number)) for number in range(5, 105)] + [
        subject_topic("issuer", str(n)) for n in range(9)
    ]
    turns = sum(1 for _ in rig.warden.heed([Record(topic, 1, encode_value({})) for topic in topics]))
    assert (rig.all_ended, len(looked)) == (["5", "6", "7", "8", "9"], 10 + 1)
    assert turns == 1 + 1 + 1  # of the log, leases and requests


def test_of_two_revocations_of_one_topic_the_wider_counts() -> None:
    for befores in ((6.0, 8.0), (8.0, 6.0)):
        rig = Rig()
        rig.lease("one", replace(U1, issued_at=7.0))
        topic = subject_topic("issuer", "u1")
        records = [Record(topic, at, encode_value({"before": before})) for at, before in enumerate(befores, 1)]
        assert sum(1 for _ in rig.warden.heed(records)) == 0
        assert rig.all_ended == ["one"]


@pytest.mark.parametrize("topic", [subject_topic("issuer", "u1"), token_topic("t1"), key_topic("issuer", "k1")])
async def test_requests_that_are_held_under_it_are_answered_at_once(topic: str) -> None:
    rig = Rig()
    others = [Identity("", "", NOTHING), replace(U1, subject="u2", key="k2", token="", token_id="")]
    rig.held = [(trio.CancelScope(), identity) for identity in (*others, U1)]
    rig.heed(topic)
    assert [scope.cancel_called for scope, _ in rig.held] == [False, False, True]


async def test_requests_that_are_held_are_looked_at_in_turns() -> None:
    rig = Rig()
    rig.held = [(trio.CancelScope(), U1) for _ in range(SCANNED_PER_TURN + 1)]
    assert rig.heed(subject_topic("issuer", "u1")) == 2
    assert all(scope.cancel_called for scope, _ in rig.held)


def test_what_is_no_news_ends_nothing() -> None:
    rig = Rig()
    rig.heed(subject_topic("issuer", "u1"))
    rig.lease("later", U1)
    rig.heed(subject_topic("issuer", "u1"))
    assert rig.all_ended == []


# The store -----------------------------------------------------------------------------------------------------------


async def revoke(store: MemoryStore, *topics: str, **value: object) -> None:
    await store.publish([Write(topic, encode_value(value)) for topic in topics])


async def test_all_pages_of_a_store_are_read() -> None:
    store = MemoryStore(MemoryDisk())
    topics = [subject_topic("issuer", str(number)) for number in range(3_000)]
    await revoke(store, *topics, "a", "$softstate/other")
    await store.publish([Write(topics[0], None)])
    records = await read_revocations(store)
    assert {record.topic for record in records if not record.deleted} == set(topics[1:])


async def test_reading_begins_again_when_the_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(MemoryDisk())
    topics = [subject_topic("issuer", str(number)) for number in range(1_500)]
    await revoke(store, *topics)
    read, asked = store.read, []

    async def restarting(group: list[Query]) -> list[Page]:
        asked.append(group[0].after)
        (page,) = await read(group)
        assert isinstance(page, Page)
        return [replace(page, records=(), restart=True)] if len(asked) == 2 else [page]

    monkeypatch.setattr(store, "read", restarting)
    assert {record.topic for record in await read_revocations(store)} == set(topics)
    assert asked[2] == 0


async def test_an_answer_that_is_an_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(MemoryDisk())

    async def rewound(_group: object) -> list[Rewound]:
        return [Rewound("gone", position=await store.head())]

    monkeypatch.setattr(store, "read", rewound)
    with pytest.raises(Rewound):
        await read_revocations(store)


async def test_a_node_without_rules_reads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(MemoryDisk())
    monkeypatch.setattr(store, "read", None)
    gate = NodeGate(EVERYBODY_MAY_ALL, lambda: 0.0, lambda: 0.0)
    await Warden(gate, LeaseTable(0.0), lambda _leases, _reason, _retry_ms: None, list).learn(store)


async def test_a_node_waits_for_its_store_before_it_lets_anybody_in(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    disk, rules, failures = MemoryDisk(), RulesGate(), [Unavailable("down"), Unavailable("still down")]
    await revoke(MemoryStore(disk), subject_topic("issuer", "u1"))
    read = MemoryStore.read

    async def failing(self: MemoryStore, group: list[Query]) -> object:
        if failures:
            raise failures.pop()
        return await read(self, group)

    monkeypatch.setattr(MemoryStore, "read", failing)
    async with node(disk, parts={"authority": rules}):
        assert failures == []
        assert [each.topic for each in rules.revocations] == [subject_topic("issuer", "u1")]
    assert autojump_clock.rate == 0


async def test_a_store_holds_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REVOCATIONS_MAX", 2)
    topics = [token_topic(str(number)) for number in range(3)]
    async with node(parts={"authority": RulesGate()}) as running:
        writes = running.node.access.writes
        for topic in (*topics[:2], topics[0]):
            await writes.publish(Write(topic, encode_value({})))
        with pytest.raises(TooLarge, match="the limit is 2"):
            await writes.publish(Write(topics[2], encode_value({})))
        with pytest.raises(TooLarge):
            writes.submit(Write(topics[2], encode_value({})), lambda _ticket: None)
        refused, also = await writes.publish_all([Write(topics[2], encode_value({})), Write("a", encode_value(1))])
        assert isinstance(refused, TooLarge)
        assert also is refused
        await writes.publish(Write("a", encode_value(1)))
        await writes.publish(Write(topics[0], None))
        await writes.publish(Write(topics[2], encode_value({})))


async def test_those_that_are_over_are_deleted(autojump_clock: MockClock) -> None:
    disk, rules = MemoryDisk(), RulesGate()
    store = MemoryStore(disk)
    over, lasting = token_topic("over"), token_topic("lasting")
    await revoke(store, over, until=1_000.0)
    await revoke(store, lasting)
    async with node(disk, parts={"authority": rules, "wall": lambda: 1_000.5}, wait_s=FORGET_S * 2) as running:
        assert len(rules.revocations) == 2
        await trio.sleep(FORGET_S * 1.5)
        assert [each.topic for each in rules.revocations] == [lasting]
        assert running.node.counts()["revocations_in_force"] == 1
    (page,) = await store.read([Query(prefixes={REVOKED: 0})])
    assert isinstance(page, Page)
    assert [record.topic for record in page.records if not record.deleted] == [lasting]
    assert autojump_clock.rate == 0


async def test_a_bug_in_looking_for_them_costs_one_look(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    rules, looks = RulesGate(), []

    def is_over(_revocation: object, _wall: float) -> bool:
        looks.append(trio.current_time())
        if len(looks) == 1:
            raise ZeroDivisionError
        return True

    monkeypatch.setattr(rules, "is_over", is_over)
    disk = MemoryDisk()
    await revoke(MemoryStore(disk), token_topic("t"))
    bulkhead = Bulkhead(strict=False)
    async with node(disk, parts={"authority": rules, "bulkhead": bulkhead}, wait_s=FORGET_S * 3) as running:
        await trio.sleep(FORGET_S * 1.5)
        assert (len(rules.revocations), bulkhead.bugs) == (1, 1)
        await trio.sleep(FORGET_S)
        assert running.node.counts()["revocations_in_force"] == 0
    assert autojump_clock.rate == 0


async def test_a_store_that_does_not_answer_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    disk, rules = MemoryDisk(), RulesGate()
    await revoke(MemoryStore(disk), token_topic("t"), until=1.0)
    failures = [Unavailable("down")]
    publish = MemoryStore.publish

    async def failing(self: MemoryStore, changes: list[Write]) -> object:
        if failures:
            raise failures.pop()
        return await publish(self, changes)

    monkeypatch.setattr(MemoryStore, "publish", failing)
    async with node(disk, parts={"authority": rules, "wall": lambda: 2.0}, wait_s=FORGET_S * 3):
        await trio.sleep(FORGET_S * 1.5)
        assert len(rules.revocations) == 1
        await trio.sleep(FORGET_S)
        assert len(rules.revocations) == 0
    assert autojump_clock.rate == 0


@pytest.mark.parametrize(("reason", "retry_ms"), [("denied", 0), ("overloaded", DOWN_RETRY_MS)])
async def test_what_rests_on_tokens_that_nobody_answers_for_is_ended(reason: Reason, retry_ms: int) -> None:
    rig = Rig()
    rig.lease("a", U1)
    rig.lease("b", replace(U1, token=digest_of("t2")))
    rig.lease("c", replace(U1, subject="u2"))
    rig.held = [(trio.CancelScope(), U1), (trio.CancelScope(), replace(U1, token="other"))]
    rig.warden.lost({U1.token: U1.digest}, reason)
    assert rig.all_ended == ["a"]
    assert rig.reasons == {(reason, retry_ms)}
    assert [scope.cancel_called for scope, _ in rig.held] == [True, False]
