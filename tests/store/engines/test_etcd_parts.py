"""The parts of the store in etcd that need no server: encodings, folding, chunks, what a write leaves, taking turns."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
import trio
import trio.testing

from softstate.errors import StoreRefused, Unavailable
from softstate.model import Record
from softstate.position import Position
from softstate.store.base import Applied, Committed, Key, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import FOLDED_OPS_MAX, NESTED_MAX, TXN_OPS_MAX, Op, folded, put
from softstate.store.etcd.schema import (
    Head,
    Layout,
    read_head,
    read_keylog,
    read_record,
    read_topic,
    read_use,
    write_head,
    write_keylog,
    write_record,
    write_topic,
    write_use,
)
from softstate.store.etcd.snapshot import FETCH_MAX, FIRST_FETCH, PageBudget
from softstate.store.etcd.store import _joined
from softstate.store.etcd.transaction import (
    PUBLISH_OPS_MAX,
    PUBLISHES_MAX,
    REQUEST_BYTES_MAX,
    EtcdTransaction,
    chunks_of,
)
from softstate.store.etcd.write import CONTENTION_S, FAIRNESS_WINDOW_S, YIELD_S_MAX, WriteOutcome, Writer
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.judge import TopicState

HEAD = Head("epoch", "lineage", 3, 9, "0123456789abcdef", "token", 2, 5)
DATA = Layout("softstate").data(HEAD.generation)


def test_what_is_written_can_be_read() -> None:
    assert read_topic(write_topic(TopicState(7, live=True))) == TopicState(7, live=True)
    assert read_topic(write_topic(TopicState(2**52, live=False))) == TopicState(2**52, live=False)
    for record in (Record("a/ä", 7, b"\x00\x01"), Record("a", 8, None)):
        assert read_record(DATA.at("log", record.version), write_record(record)) == record
    key = Key("a", "k\0\n", b"\xff", 9)
    assert read_use(write_use(key)) == (b"\xff", 9)
    assert read_keylog(DATA.at("keylog", 9), write_keylog(key)) == key
    assert read_head(write_head(HEAD, Random(1)).raw, "etcd").head.position == HEAD.position


def test_no_two_writes_leave_the_same_head() -> None:
    random = Random(1)
    assert len({write_head(HEAD, random).raw for _ in range(9)}) == 9


def test_one_range_covers_head_and_inbox_and_nothing_else() -> None:
    layout = Layout("a/b")
    begin, end = layout.watched
    keys = [layout.head, layout.inbox + b"t", layout.inbox + b"\xff", layout.refused(b"t"), layout.generations + b"x"]
    assert [begin <= key < end for key in keys] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"", "not written by softstate"),
        (b"\xff", "not written by softstate"),
        (b'{"application":"other","layout":9}', "not written by softstate"),
        (b'{"application":"softstate","layout":1}', "not written by softstate"),
        (b'{"application":"softstate","layout":2}', "layout version 2"),
        (msgspec.json.encode(msgspec.structs.replace(HEAD, layout=2)), "layout version 2"),
    ],
)
def test_head_that_is_not_ours(raw: bytes, because: str) -> None:
    with pytest.raises(StoreRefused, match=because):
        read_head(raw, "etcd://here")


@pytest.mark.parametrize("count", [0, 1, NESTED_MAX - 1, NESTED_MAX, NESTED_MAX + 1, FOLDED_OPS_MAX])
def test_folded_lists_are_within_the_limits_of_etcd(count: int) -> None:
    ops = [put(b"%d" % number, b"") for number in range(count)]
    found = folded(put(b"head", b""), ops)

    def check(ops: list[Op], limit: int) -> list[Op]:
        assert len(ops) <= limit
        flat: list[Op] = []
        for op in ops:
            nested = op.get("request_txn")
            flat += [op] if nested is None else check(nested["success"], limit - len(found))
        return flat

    assert check(found, TXN_OPS_MAX) == [put(b"head", b""), *ops]


def test_chunks_fit_a_transaction() -> None:
    assert chunks_of([]) == [[]]
    small = [Write(f"t/{number}", b"\x01") for number in range(2 * PUBLISHES_MAX + 1)]
    assert [len(chunk) for chunk in chunks_of(small)] == [PUBLISHES_MAX, PUBLISHES_MAX, 1]
    assert PUBLISHES_MAX * PUBLISH_OPS_MAX <= FOLDED_OPS_MAX
    large = [Write(f"t/{number}", bytes(65_536), key=str(number)) for number in range(40)]
    chunks = chunks_of(large)
    assert [publish for chunk in chunks for publish in chunk] == large
    assert all(sum(len(publish.cbor or b"") for publish in chunk) <= REQUEST_BYTES_MAX for chunk in chunks)
    assert len(chunks) == 3
    huge = [Write("a", bytes(2 * REQUEST_BYTES_MAX)), Write("b", b"\x01")]
    assert [len(chunk) for chunk in chunks_of(huge)] == [1, 1]


def test_most_operations_that_a_publish_needs() -> None:
    """A keyed one that gives a buried topic a value; and none for what the same group supersedes."""
    topics = {"a": TopicState(4, live=False)}
    nothing = FetchedSnapshot(HEAD.position, 0, lineage_of={})
    keyed = Write("a", b"\x02", key="k")
    transaction = EtcdTransaction(DATA, HEAD, keys_max=9)
    assert transaction.apply([keyed], nothing, topics, {}) == [Applied(10)]
    assert len(transaction.ops()) == PUBLISH_OPS_MAX
    transaction = EtcdTransaction(DATA, HEAD, keys_max=9)
    assert transaction.apply([keyed, Write("a", b"\x01")], nothing, topics, {}) == [Applied(10), Applied(11)]
    assert transaction.changes[DATA.at("log", 11)] is not None
    assert not {DATA.at("log", 10), DATA.at("tomb", 10)} & transaction.changes.keys()
    assert (transaction.head.revision, transaction.head.keys, transaction.before) == (11, 6, 9)


def test_row_goes_before_the_changes() -> None:
    transaction = EtcdTransaction(DATA, HEAD, nonce="new")
    assert not transaction.changes
    nothing = FetchedSnapshot(HEAD.position, 0, lineage_of={})
    assert transaction.apply([Write("a", b"\x01")], nothing, {}, {}) == [Applied(11)]
    assert (transaction.head.since, transaction.head.lineage, transaction.before) == (10, "new", 10)
    assert transaction.ops()[0] == put(DATA.at("lineage", 10), b"new")


def committed(before: int, count: int, lineage: str = "l") -> Committed:
    records = [Record("a", before + 1 + number, None) for number in range(count)]
    verdicts = [Applied(record.version) for record in records]
    return Committed(verdicts, before, records, Position("e", lineage, before + count))


def test_parts_of_a_group_are_joined_as_far_as_they_are_contiguous() -> None:
    joined = _joined(committed(3, 2), committed(5, 1), "etcd")
    assert joined == committed(3, 3)
    apart = _joined(committed(3, 2), committed(7, 1), "etcd")
    assert [verdict.version for verdict in apart.verdicts if isinstance(verdict, Applied)] == [4, 5, 8]
    assert (apart.before, list(apart.records), apart.position.revision) == (7, [Record("a", 8, None)], 8)
    assert _joined(committed(3, 2), committed(9, 0), "etcd") == committed(3, 2)
    assert _joined(committed(3, 0), committed(9, 1), "etcd") == committed(9, 1)
    with pytest.raises(Unavailable):
        _joined(committed(3, 2), committed(7, 1, "other"), "etcd")


def test_appetite() -> None:
    budget = PageBudget(1000, 100_000)
    assert budget.fetch_size() == FIRST_FETCH
    budget.count(Record("a", 1, bytes(64 * 1024)), take=True)
    assert budget.fetch_size() == 16
    for version in range(2, 500):
        budget.count(Record("a", version, None), take=False)
    assert (budget.fetch_size(), budget.spent) == (FETCH_MAX, False)
    spent = []
    for version in (500, 501):
        budget.count(Record("a", version, bytes(64 * 1024)), take=True)
        spent.append(budget.spent)
    assert spent == [False, True], "one more than brings it to its bytes"
    few = PageBudget(2, 100_000)
    assert few.fetch_size() == 3
    for version in (1, 2, 3):
        few.count(Record("a", version, b"\x01"), take=True)
        spent.append(few.spent)
    assert spent[2:] == [False, False, True]


class Road:
    """The part of a gateway that a `Writer` uses on the way to a write."""

    endpoints = SimpleNamespace(count=1)

    def __init__(self) -> None:
        self.writers = self

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        yield

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield cast("Connection", None)


class Race:
    """An attempt that takes `took_s`, and loses as often as it is told; it notes when it began."""

    def __init__(self, took_s: float, losses: int) -> None:
        self.took_s = took_s
        self.losses = losses
        self.began: list[float] = []

    async def __call__(self, _connection: Connection, _fate: WriteOutcome) -> str | None:
        self.began.append(trio.current_time())
        await trio.sleep(self.took_s)
        return "done" if len(self.began) > self.losses else None


@pytest.mark.parametrize(("took_s", "gives_way_s"), [(0.004, 0.004), (0.5, YIELD_S_MAX)])
async def test_a_loser_tries_again_soon_and_a_winner_yields(
    autojump_clock: trio.testing.MockClock, took_s: float, gives_way_s: float
) -> None:
    writer = Writer(cast("Gateway", Road()), Layout("softstate"), Random(1))
    contended = Race(took_s, losses=5)
    assert await writer.retry(contended) == "done"
    won = trio.current_time()
    pauses = [later - sooner - took_s for sooner, later in itertools.pairwise(contended.began)]
    assert all(0 <= pause <= 2 * CONTENTION_S for pause in pauses)
    assert any(pause > CONTENTION_S for pause in pauses)
    after = Race(took_s, losses=0)
    await writer.retry(after)
    assert after.began == [pytest.approx(won + gives_way_s)]


async def test_a_writer_without_a_rival_does_not_yield(autojump_clock: trio.testing.MockClock) -> None:
    writer = Writer(cast("Gateway", Road()), Layout("softstate"), Random(1))
    await writer.retry(Race(0.004, losses=1))
    await trio.sleep(FAIRNESS_WINDOW_S)
    for _ in range(3):
        now = trio.current_time()
        race = Race(0.004, losses=0)
        await writer.retry(race)
        assert race.began == [now]
