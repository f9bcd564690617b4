"""The parts of the store in etcd that need no server: encodings, folding, chunks, what a write leaves, taking turns."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
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
from softstate.store.base import Applied, Committed, Key, Number, Publisher, Use, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.errors import failure_in
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import FOLDED_OPS_MAX, NESTED_MAX, TXN_OPS_MAX, Op, folded, put
from softstate.store.etcd.notifications import Watch
from softstate.store.etcd.rows import (
    DAMAGED,
    read_keylog,
    read_lineage,
    read_log,
    read_publisher,
    read_topic,
    read_use,
    record_of,
    topic_in,
    version_in,
    write_keylog,
    write_lineage,
    write_publisher,
    write_record,
    write_topic,
    write_use,
)
from softstate.store.etcd.schema import Head, Layout, read_head, write_head
from softstate.store.etcd.snapshot import FETCH_MAX, FIRST_FETCH, PageBudget
from softstate.store.etcd.store import EtcdStore, _joined
from softstate.store.etcd.transaction import (
    PUBLISH_OPS_MAX,
    PUBLISHES_MAX,
    REQUEST_BYTES_LIMIT,
    REQUEST_BYTES_MAX,
    Bounds,
    EtcdTransaction,
    Known,
    TransactionTooLong,
    chunks_of,
)
from softstate.store.etcd.write import CONTENTION_S, FAIRNESS_WINDOW_S, YIELD_S_MAX, WriteOutcome, Writer
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.checksum import UNRANKED
from softstate.store.rules.judge import TopicState

HEAD = Head("epoch", "lineage", 3, 9, "0123456789abcdef", "token", 2, topics=4, rows=1, keys=5, publishers=2)
DATA = Layout("softstate").data(HEAD.generation)
UPTO = 2**52
DEEP = b"[" * 5_000 + b"]" * 5_000
"""JSON that msgspec gives up with RecursionError."""
PUBLISHER = Publisher("p/ä", 3, 9, {4: Use(bytes(16), 8, changed=True), 7: Use(b"d" * 16, 0, changed=False)})


def test_what_is_written_can_be_read() -> None:
    for state in (TopicState(7, live=True), TopicState(UPTO, live=False)):
        assert read_topic("a/ä", write_topic("a/ä", state), UPTO) == state
    for record in (Record("a/ä", 7, b"\x00\x01"), Record("a", 8, None), Record("a", 9, None, unreadable=True)):
        assert read_log(record.version, write_record(record), UPTO) == record
    key = Key("a", "k\0\n", b"\xff", 9)
    assert read_use("a", "k\0\n", write_use(key)) == (b"\xff", 9)
    assert read_keylog(9, write_keylog(key)) == key
    assert read_lineage(9, write_lineage(9, "0123")) == "0123"
    assert read_publisher("p/ä", write_publisher(PUBLISHER)) == PUBLISHER
    assert read_head(write_head(HEAD, Random(1)).raw, "etcd").head.position == HEAD.position


def damage(value: bytes) -> Iterator[bytes]:
    """Yield a value with each bit of it flipped, cut off at each place, longer, and other things in its place.

    Where there is JSON, some of it is nested deeper than Python follows.
    """
    for at in range(len(value)):
        yield value[:at]
        for bit in range(8):
            yield value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
    yield from (value + b"x", b"x" + value, b"text", b"\xff" * len(value), b"\0" * len(value), value.upper() + b"\n")
    nested = value.replace(b"{", b'{"x":' + DEEP + b","), value.replace(b'",', b'",' + DEEP + b",", 1), DEEP
    yield from (other for other in nested if other != value)


def test_no_damage_goes_unnoticed_or_raises() -> None:
    """Every row, with every single bit flipped: no other meaning, and no error."""
    key = Key("a", "k", b"\xff", 9)
    for value in damage(write_topic("a", TopicState(7, live=True))):
        assert read_topic("a", value, UPTO) == DAMAGED, value
    for record in (Record("topic/a", 7, b"\x61a"), Record("topic/a", 8, None)):
        for value in damage(write_record(record)):
            found = read_log(record.version, value, UPTO)
            assert found is None or found.unreadable, value
            assert record_of(record.topic, record.version, value, UPTO).unreadable, value
    for value in damage(write_use(key)):
        assert read_use("a", "k", value) is None, value
    for value in damage(write_keylog(key)):
        assert read_keylog(9, value) is None, value
    for value in damage(write_lineage(9, "0123")):
        assert read_lineage(9, value) is None, value
    for value in damage(write_publisher(PUBLISHER)):
        assert read_publisher("p/ä", value) is None, value
    for value in damage(write_head(HEAD, Random(1)).raw):
        with pytest.raises(StoreRefused):
            read_head(value, "etcd")


def test_a_row_counts_at_its_own_place_only() -> None:
    """Whole rows, of other topics, versions, keys and publishers."""
    record = Record("a", 7, b"\x01")
    assert read_topic("b", write_topic("a", TopicState(7, live=True)), UPTO) == DAMAGED
    assert read_topic("a", write_topic("a", TopicState(7, live=True)), 6) == DAMAGED, "above the head"
    assert read_log(8, write_record(record), UPTO) == Record("a", 8, None, unreadable=True)
    assert read_log(7, write_record(record), 6) is None, "above the head"
    assert record_of("b", 7, write_record(record), UPTO) == Record("b", 7, None, unreadable=True)
    assert record_of("a", 7, None, UPTO) == Record("a", 7, None, unreadable=True)
    assert record_of("a", 7, write_record(Record("a", 7, None)), UPTO).unreadable, "a tombstone where a value was"
    assert read_use("a", "j", write_use(Key("a", "k", b"", 9))) is None
    assert read_keylog(8, write_keylog(Key("a", "k", b"", 9))) is None
    assert read_lineage(8, write_lineage(9, "0123")) is None
    assert read_publisher("q", write_publisher(PUBLISHER)) is None


@pytest.mark.parametrize(
    "digits", [b"", b"7", b"000000000000000G", b"00000000000000FF", b"00000000000000071", b"+00000000000007f"]
)
def test_keys_that_end_in_no_version(digits: bytes) -> None:
    assert version_in(b"log/" + digits, 4) is None
    assert version_in(b"log/000000000000007f", 4) == 127


@pytest.mark.parametrize("name", [b"", b"\xff", b"a//b", b"a/", b"n" * 256])
def test_names_that_are_no_topic(name: bytes) -> None:
    assert topic_in(name) is None
    assert read_log(7, bytes(8) + name + b"\0+\x01", UPTO) is None


def test_damaged_version_of_a_record_is_not_one() -> None:
    assert UNRANKED == 1
    assert read_log(0, write_record(Record("a", 7, b"\x01")), UPTO) is None


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
        (b'{"application":"softstate","layout":1}', "layout version 1.*softstate serve"),
        (b'{"application":"softstate","layout":2}', "does not match its checksum"),
        (b'{"application":"softstate","layout":3}', "layout version 3"),
        (write_head(msgspec.structs.replace(HEAD, layout=3), Random(1)).raw, "layout version 3"),
        (msgspec.json.encode(msgspec.structs.replace(HEAD, revision=8)), "does not match its checksum.*restore"),
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


NOTHING = FetchedSnapshot(HEAD.position, 0, lineage_of={})


def test_most_operations_that_a_publish_needs() -> None:
    """A keyed and numbered one that buries a topic; and none for what the same group supersedes."""
    topics = {"a": TopicState(4, live=False), "b": TopicState(5, live=True)}
    known = Known(topics, publishers={PUBLISHER.publisher: PUBLISHER})
    number = Number(PUBLISHER.publisher, 8, 3)
    transaction = EtcdTransaction(DATA, HEAD, bounds=Bounds(9))
    assert transaction.apply([Write("a", b"\x01", key="k", number=number)], NOTHING, known) == [Applied(10)]
    assert len(transaction.ops()) + 1 == PUBLISH_OPS_MAX, "one that is damaged takes one more"
    transaction = EtcdTransaction(DATA, HEAD, bounds=Bounds(9))
    group = [Write("b", None, key="k"), Write("b", b"\x01")]
    assert transaction.apply(group, NOTHING, known) == [Applied(10), Applied(11)]
    assert transaction.changes[DATA.at("log", 11)] is not None
    assert not {DATA.at("log", 10), DATA.at("tomb", 10)} & transaction.changes.keys()
    head = transaction.head
    assert (head.revision, head.keys, head.topics, transaction.before) == (11, 6, 4, 9)


def test_a_transaction_counts_what_it_adds() -> None:
    transaction = EtcdTransaction(DATA, HEAD, nonce="new", bounds=Bounds(9, 9))
    group = [Write("new", b"\x01", number=Number("p", 1, 0)), Write("old", b"\x01", number=Number("q", 1, 0))]
    known = Known({"old": TopicState(5, live=True)}, publishers={"q": Publisher("q", 0, 5, {})})
    transaction.apply(group, NOTHING, known)
    head = transaction.head
    assert (head.topics, head.rows, head.publishers, head.keys) == (5, 2, 3, 5)
    assert transaction.changes[DATA.touched(5, "q")] is None
    assert transaction.changes[DATA.touched(12, "q")] == b""


def test_publishers_with_much_in_flight_make_a_transaction_too_long() -> None:
    uses = {seq: Use(bytes(16), 8, changed=True) for seq in range(4, 1028)}
    names = [f"p{number}" for number in range(50)]
    known = Known({}, publishers={name: Publisher(name, 3, 9, uses) for name in names})
    group = [Write(name, b"\x01", number=Number(name, 2000, 3)) for name in names]
    transaction = EtcdTransaction(DATA, HEAD)
    transaction.apply(group, NOTHING, known)
    with pytest.raises(TransactionTooLong):
        transaction.ops()
    half = EtcdTransaction(DATA, HEAD)
    half.apply(group[:25], NOTHING, known)
    assert sum(len(value or b"") for value in half.changes.values()) < REQUEST_BYTES_LIMIT
    assert len(half.ops()) == 25 * 5


def test_row_goes_before_the_changes() -> None:
    transaction = EtcdTransaction(DATA, HEAD, nonce="new")
    assert not transaction.changes
    assert transaction.apply([Write("a", b"\x01")], NOTHING, Known({})) == [Applied(11)]
    assert (transaction.head.since, transaction.head.lineage, transaction.before) == (10, "new", 10)
    assert transaction.ops()[0] == put(DATA.at("lineage", 10), write_lineage(10, "new"))


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
    budget = PageBudget(1000, 200_000)
    assert budget.fetch_size() == FIRST_FETCH
    budget.count(Record("a", 1, bytes(64 * 1024)))
    assert budget.fetch_size() == 16
    for version in range(2, 500):
        budget.count(Record("a", version, None))
    assert (budget.fetch_size(), budget.spent) == (FETCH_MAX, False)
    spent = []
    for version in (500, 501, 502, 503):
        budget.count(Record("a", version, bytes(64 * 1024)))
        spent.append(budget.spent)
    assert spent == [False, False, False, True], "one more than brings it to its bytes"
    few = PageBudget(2, 100_000)
    assert few.fetch_size() == 3
    spent = []
    for version in (1, 2, 3):
        few.count(Record("a", version, b"\x01"))
        spent.append(few.spent)
    assert spent == [False, False, True]


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


@asynccontextmanager
async def other_program(body: bytes) -> AsyncIterator[str]:
    """Answer every request with status 200 and these bytes, as a proxy does that wants somebody to log in."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            async for _ in stream:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in, please</html>",
        b"\xff",
        b"{}",
        b"[]",
        b'{"token":["x"]}',
        b'{"token":"x"}',
        '{"token":"x€"}'.encode(),
        b'{"token":"x\\ny"}',
        b'{"x":' + DEEP + b"}",
    ],
    ids=lambda body: body[:20],
)
@pytest.mark.parametrize("user", ["", "app:secret@"])
async def test_another_program_in_the_place_of_etcd_makes_the_store_unavailable(user: str, body: bytes) -> None:
    async with other_program(body) as address:
        for read_only in (True, False):
            with pytest.raises(Unavailable, match="does not answer as etcd's gateway does"):
                await EtcdStore.open(f"etcd://{user}{address}/", read_only=read_only)


def test_an_error_that_is_nested_too_deep_is_told_as_text() -> None:
    found = failure_in(b'{"message":"m","x":' + DEEP + b"}", 500, where="here", name="etcd")
    assert isinstance(found, Unavailable)
    assert "HTTP status 500" in found.message


@pytest.mark.parametrize(
    "line", [b"<html>", b"\xff", b'{"error":' + DEEP + b"}", b'{"x":' + DEEP + b"}"], ids=lambda line: line[:10]
)
async def test_a_line_that_is_no_message_of_a_watch_ends_it(line: bytes) -> None:
    async def chunk() -> bytes:
        return line + b"\n"

    connection = cast("Connection", SimpleNamespace(chunk=chunk, where="here"))
    with pytest.raises(Unavailable, match="does not speak as etcd's watch does"):
        await Watch(cast("Gateway", None), Layout("softstate"))._line(connection)
