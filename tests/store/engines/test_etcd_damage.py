"""Rows of a real etcd that are damaged, deleted or put there by others: each costs its own topic, and nothing else."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

import pytest
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.model import Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Number, Write
from softstate.store.etcd import demand, dump
from softstate.store.etcd.rows import write_lineage, write_topic
from softstate.store.etcd.schema import Data, Layout, read_head
from softstate.store.etcd.store import EtcdStore
from softstate.store.rules.judge import TopicState
from softstate.testing.conformance.stage import put, read_page
from softstate.wire import encode_value
from tests.store.engines.damage_check import Damaged, check_others_are_served, check_publishing_heals, everything
from tests.store.engines.etcd_rig import EtcdBackend


class Rows:
    """The rows of a namespace, to be changed as another program would, in one transaction for each call of `write`."""

    def __init__(self, backend: EtcdBackend, data: Data, held: Mapping[bytes, bytes]) -> None:
        self.data = data
        self.held = held
        self._rig = backend.rig
        self._changes: dict[bytes, bytes | None] = {}

    @classmethod
    async def of(cls, backend: EtcdBackend, *, head_only: bool = False) -> Rows:
        """Read all rows, or no more than the head if others have put keys of any bytes there."""
        layout = Layout(backend.namespace)
        found = await backend.rig.keys(layout.head.decode()) if head_only else await backend.snapshot()
        held = {key.encode(): value for key, value in found.items()}
        return cls(backend, layout.data(read_head(held[layout.head], "etcd").head.generation), held)

    def log(self, record: Record) -> bytes:
        return self.data.at("log", record.version)

    def change(self, key: bytes, value: bytes | None) -> None:
        self._changes[key] = value

    async def write(self) -> None:
        ops = []
        for key, value in self._changes.items():
            name = b64encode(key).decode()
            if value is None:
                ops.append({"request_delete_range": {"key": name}})
            else:
                ops.append({"request_put": {"key": name, "value": b64encode(value).decode()}})
        parts = [ops[at : at + 60] for at in range(0, len(ops), 60)]
        message = {"success": [{"request_txn": {"success": part}} for part in parts]}
        await trio.to_thread.run_sync(self._rig.call, "/v3/kv/txn", message)
        self._changes.clear()


Damage = Callable[[Rows, Record, Record], None]
"""Damages the rows of a record; the other record is left as it is."""


def in_log(change: Callable[[bytes], bytes | None]) -> Damage:
    return lambda rows, record, _: rows.change(rows.log(record), change(rows.held[rows.log(record)]))


def in_topic(change: Callable[[bytes], bytes | None]) -> Damage:
    def damage(rows: Rows, record: Record, _: Record) -> None:
        key = rows.data.topic(record.topic)
        rows.change(key, change(rows.held[key]))

    return damage


def valued(cbor: bytes) -> Damage:
    """Put another value in the place of a record's, under the checksum of the old one."""
    return in_log(lambda value: value[: value.index(b"\0", 8) + 1] + b"+" + cbor)


def renamed(rows: Rows, record: Record, other: Record) -> None:
    """Have a record name another topic, which has one of its own."""
    old, new = record.topic.encode(), other.topic.encode()
    rows.change(rows.log(record), rows.held[rows.log(record)].replace(old, new, 1))


def copied(rows: Rows, record: Record, other: Record) -> None:
    """Put the whole row of another topic's record in the place of a record's."""
    rows.change(rows.log(record), rows.held[rows.log(other)])


def topic_copied(rows: Rows, record: Record, other: Record) -> None:
    rows.change(rows.data.topic(record.topic), rows.held[rows.data.topic(other.topic)])


DAMAGES: dict[str, Damage] = {
    "a bit of the value": in_log(lambda value: value[:-1] + bytes([value[-1] ^ 1])),
    "a bit of the checksum": in_log(lambda value: bytes([value[0] ^ 1]) + value[1:]),
    "no checksum": in_log(lambda value: value[8:]),
    "cut off": in_log(lambda value: value[:-3]),
    "cut off within the name": in_log(lambda value: value[:12]),
    "empty": in_log(lambda _: b""),
    "text": in_log(lambda _: b'{"not":"a record"}'),
    "no UTF-8": in_log(lambda value: value[:8] + b"\xff\xfe\0+\x01"),
    "deep": valued(b"\x81" * 5000 + b"\x01"),
    "tag 35": valued(b"\xd8\x23\x61a"),
    "x'ffff'": valued(b"\xff\xff"),
    "text for bytes": in_log(lambda value: value[: value.index(b"\0", 8) + 1] + b"text"),
    "made a tombstone": in_log(lambda value: value[: value.index(b"\0", 8) + 1]),
    "renamed": renamed,
    "name of no topic": in_log(lambda value: value.replace(b"/", b"//", 1)),
    "copied": copied,
    "deleted": in_log(lambda _: None),
    "topic: text": in_topic(lambda _: b"text"),
    "topic: empty": in_topic(lambda _: b""),
    "topic: version 0": in_topic(lambda value: b"0" * 16 + value[16:]),
    "topic: version above the head": in_topic(lambda value: b"000fffffffffffff" + value[16:]),
    "topic: no version": in_topic(lambda value: b"ffffffffffffffff" + value[16:]),
    "topic: made a tombstone": in_topic(lambda value: value.replace(b"+", b"-")),
    "topic: no checksum": in_topic(lambda value: value[:17]),
    "topic: copied": topic_copied,
}
ROUNDS = 9
"""How often each damage is done: more than 200 rows in all."""


@dataclass
class Story(Damaged):
    """A store with damaged rows."""

    store: EtcdStore = field(kw_only=True)


async def damaged_store(backend: EtcdBackend) -> Story:
    store = await backend.open()
    random = Random(3)
    names = [f"{random.choice('abc')}/{number}" for number in range(ROUNDS * len(DAMAGES) + 60)]
    written: dict[str, Record] = {}
    for at in range(0, len(names), 25):
        some = names[at : at + 25]
        group = [
            Write(name, encode_value({"name": name}), key=name, number=Number("p", 1 + at + n, 0))
            for n, name in enumerate(some)
        ]
        for record in (await store.publish(group)).records:
            written[record.topic] = record
    for name in names[-10:]:
        written[name] = Record(name, await put(store, name, None), None)
    rows = await Rows.of(backend)
    victims = random.sample(names[:-20], ROUNDS * len(DAMAGES))
    healthy = [written[name] for name in names[:-10] if name not in victims]
    for victim, damage in zip(victims, itertools.cycle(DAMAGES.values()), strict=False):
        damage(rows, written[victim], random.choice(healthy))
    put_by_others(rows, (await store.head()).revision)
    await rows.write()
    return Story(written, frozenset(victims), store=store)


def put_by_others(rows: Rows, head: int) -> None:
    """Put keys of others everywhere."""
    root = rows.data.root
    names = [b"", b"zzz", b"\xff\xfe", b"0", b"00000000000000aa/more", b"%016xx" % (head // 2), b"%016x" % (head + 9)]
    for table in ("log", "topic", "tomb", "key", "keylog", "publisher", "touched", "lineage", "strange"):
        for name in names:
            rows.change(root + table.encode() + b"/" + name, b"theirs")
    rows.change(root + b"strange", b"theirs")
    rows.change(rows.data.at("tomb", 3), b"a/0")
    rows.change(rows.data.at("tomb", 4), b"\xff")
    rows.change(rows.data.at("keylog", 1), b"\xff")
    rows.change(rows.data.touched(3, "p"), b"")
    rows.change(rows.data.touched(4, "nobody"), b"x")


@pytest.mark.parametrize("limits", [{}, {"PREFIX_TOPICS_MAX": 0}, {"NAMES_MAX": 9, "ROUND_BYTES": 500}], ids=str)
async def test_200_damaged_rows_cost_their_own_topics(
    backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    story = await damaged_store(backend)
    store = story.store
    for name, value in limits.items():
        monkeypatch.setattr(demand, name, value)

    def told(found: dict[str, Record]) -> dict[str, Record]:
        by_name = limits.get("PREFIX_TOPICS_MAX", 1)
        return found if by_name else found | as_told_by_the_log(found, story)

    await check_others_are_served(store, story, ("a/", "b/", "c/"), told)
    await store.aclose()


def as_told_by_the_log(found: Mapping[str, Record], story: Story) -> dict[str, Record]:
    """Check what a scan of the log tells of damaged topics, and return them as if it had told all of them.

    It passes over a record that is gone, or names another topic, and takes one whose topic's row is damaged for whole.
    """
    for topic in story.topics & found.keys():
        assert found[topic].unreadable or found[topic] == story.written[topic], topic
    return {topic: Record(topic, 1, None, unreadable=True) for topic in story.topics}


async def test_feed_goes_on(backend: EtcdBackend) -> None:
    story = await damaged_store(backend)
    store = story.store
    (lineage,) = await store.lineage_at([1])
    assert lineage is not None
    position = Position((await store.head()).epoch, lineage, 1)
    fed: dict[str, Record] = {}
    more = True
    while more:
        feed = await store.feed(position, 30)
        fed |= {record.topic: record for record in feed.records}
        position, more = feed.upto, feed.more
    check_copied(fed, story)
    await store.aclose()


def check_copied(found: Mapping[str, Record], story: Story) -> None:
    assert all(found[topic].unreadable for topic in found.keys() - story.written.keys()), "keys of others"
    for topic, record in story.written.items():
        assert topic in story.topics or found[topic] == record, topic
        assert topic not in found or found[topic].unreadable or found[topic] == record, topic
    assert sum(record.unreadable for record in found.values()) > 50


@pytest.mark.parametrize("names_max", [0, 10_000])
async def test_dump_goes_on(backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch, names_max: int) -> None:
    """Page by page, with more damaged rows than a page has, and nothing that is whole is left out."""
    monkeypatch.setattr(dump, "PREFIX_TOPICS_MAX", names_max)
    story = await damaged_store(backend)
    store = story.store
    rows = await Rows.of(backend, head_only=True)
    for number in range(2, 40):
        rows.change(rows.data.at("keylog", number), b"theirs")
        rows.change(rows.data.touched(number, "stranger"), b"theirs")
    await rows.write()
    for number in range(50):
        await store.publish([Write("kept", b"\x01", key=f"{number}", number=Number(f"q{number}", 1, 0))])
    dumped: dict[str, Record] = {}
    keys: set[str] = set()
    publishers: set[str] = set()
    lineages: list[str] = []
    after, more = 0, True
    while more:
        page = await store.dump(after, 7)
        dumped |= {record.topic: record for record in page.records}
        keys |= {key.key for key in page.keys}
        publishers |= {publisher.publisher for publisher in page.publishers}
        lineages += [row.lineage for row in page.rows]
        after, more = page.upto, page.more
    kept = dumped.pop("kept")
    assert kept.cbor == b"\x01"
    check_copied(dumped, story)
    if names_max:
        assert set(story.topics) <= dumped.keys(), "all that is lost is told"
    assert keys >= {str(number) for number in range(50)}
    assert publishers == {"p", *(f"q{number}" for number in range(50))}
    assert len(lineages) == 1
    await store.aclose()


async def test_a_damaged_topic_is_published_again(backend: EtcdBackend) -> None:
    """And nothing old comes back, after compacting neither."""
    story = await damaged_store(backend)
    store = story.store
    await check_publishing_heals(store, story)
    head = (await store.head()).revision
    assert await store.compact(tombstones=head, keys=head) > 0
    again = await backend.open()
    page = await everything(again, Query(prefixes={ALL: 0}))
    assert [record for record in page.values() if record.topic in story.written and record.unreadable] == []
    story.check(page)
    await again.info()
    await again.aclose()
    await store.aclose()


async def test_compaction_of_damaged_rows_removes_no_other_topic(backend: EtcdBackend) -> None:
    story = await damaged_store(backend)
    store = story.store
    head = (await store.head()).revision
    await store.compact(tombstones=head, keys=head)
    await store.compact(tombstones=head, keys=head)
    story.check(await everything(store, Query(topics=dict.fromkeys(story.written, 0))))
    info = await store.info()
    assert info.keys == 0
    assert (info.publishers, info.layout) == (0, 2)
    await store.aclose()


async def test_a_topic_that_leads_to_the_record_of_another(backend: EtcdBackend) -> None:
    """Its row is whole, which no damage brings about: the other topic is served all the same, by its own name only."""
    store = await backend.open()
    one, two = await put(store, "t/1"), await put(store, "t/2", b"\x02")
    rows = await Rows.of(backend)
    rows.change(rows.data.topic("t/1"), write_topic("t/1", TopicState(two, live=True)))
    await rows.write()
    wanted = [Record("t/1", two, None, unreadable=True), Record("t/2", two, b"\x02")]
    for query in (Query(prefixes={"t/": 0}), Query(topics={"t/2": 0, "t/1": 0}), Query(topics={"t/1": 0, "t/2": one})):
        page = await read_page(store, query)
        assert sorted(page.records, key=lambda record: record.topic) == wanted
    await store.aclose()


async def test_rows_of_topics_that_were_deleted(backend: EtcdBackend) -> None:
    """Without its row a topic is as good as never published; the others do not notice."""
    store = await backend.open()
    names = [f"t/{number}" for number in range(20)]
    await store.publish([Write(name, b"\x01") for name in names])
    rows = await Rows.of(backend)
    for name in names[:5]:
        rows.change(rows.data.topic(name), None)
    await rows.write()
    found = await everything(store, Query(prefixes={"t/": 0}))
    assert sorted(found) == sorted(names[5:])
    found = await everything(store, Query(topics=dict.fromkeys(names, 0)))
    assert sorted(found) == sorted(names[5:])
    again = await backend.open()
    assert await put(again, names[0], b"\x02", expect=0)
    assert (await everything(again, Query(topics={names[0]: 0})))[names[0]].cbor == b"\x02"
    await again.aclose()
    await store.aclose()


async def test_damaged_keys_and_publishers_count_as_absent(backend: EtcdBackend) -> None:
    store = await backend.open()
    keyed = Write("a", b"\x01", key="k", digest=bytes(16))
    numbered = Write("b", b"\x01", number=Number("p", 1, 0), digest=bytes(16))
    first = (await store.publish([keyed, numbered])).verdicts
    assert (await store.publish([keyed, numbered])).verdicts == [
        replace(verdict, repeated=True) for verdict in first if isinstance(verdict, Applied)
    ]
    rows = await Rows.of(backend)
    rows.change(rows.data.key("a", "k"), b"\xff")
    rows.change(rows.data.publisher("p"), b"\xff")
    await rows.write()
    other = await backend.open()
    again = (await other.publish([keyed, numbered])).verdicts
    assert [isinstance(verdict, Applied) and verdict.repeated for verdict in again] == [False, False]
    once_more = (await other.publish([keyed, numbered])).verdicts
    assert [isinstance(verdict, Applied) and verdict.repeated for verdict in once_more] == [True, True]
    head = (await other.head()).revision
    await other.compact(tombstones=0, keys=head)
    info = await other.info()
    assert (info.keys, info.publishers) == (0, 0)
    assert not [
        key for key in (await Rows.of(backend)).held if b"/key/" in key or b"/publisher/" in key or b"/touched/" in key
    ]
    await other.aclose()
    await store.aclose()


async def test_an_audit_tells_what_no_list_shows(backend: EtcdBackend) -> None:
    store = await backend.open()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(20)])
    await put(store, "t/0", None)
    assert await store.audit() == []
    rows = await Rows.of(backend)
    for number in (1, 2):
        rows.change(rows.data.topic(f"t/{number}"), None)
    rows.change(rows.data.at("log", 6), b"theirs")
    rows.change(rows.data.at("log", 6) + b"x", b"theirs")
    rows.change(Layout(backend.namespace).refused(b"a"), b"reason\n1")
    await rows.write()
    found = list(await store.audit())
    assert len(found) == 4
    assert "'t/4' is unreadable" in found[0]
    assert found[1].startswith("2 rows of topics have vanished")
    assert found[2].startswith("1 keys of others lie among the records")
    assert "refused" in found[3]
    await store.aclose()


HEADS: dict[str, Callable[[bytes], bytes]] = {
    "revision": lambda head: head.replace(b'"revision":', b'"revision":9'),
    "cut off": lambda head: head[:-5],
    "text": lambda _: b"text",
    "empty": lambda _: b"",
    "floor": lambda head: head.replace(b'"floor":0', b'"floor":1'),
    "nested too deep": lambda head: head.replace(b"{", b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b",", 1),
}


@pytest.mark.parametrize("damage", HEADS.values(), ids=HEADS.keys())
async def test_damaged_head(backend: EtcdBackend, damage: Callable[[bytes], bytes]) -> None:
    """A store that is open is down, with what to do; one that is opened is refused; put back, all goes on."""
    store = await backend.open()
    await put(store, "a")
    rows = await Rows.of(backend)
    key = Layout(backend.namespace).head
    rows.change(key, damage(rows.held[key]))
    await rows.write()
    for call in (
        store.head,
        lambda: store.read([Query(topics={"a": 0})]),
        lambda: store.publish([Write("a", b"\x02")]),
    ):
        with pytest.raises(Unavailable, match=r"damaged.*stop every node.*store restore"):
            await call()
    with pytest.raises(StoreRefused, match=r"damaged.*stop every node.*store restore"):
        await backend.open()
    rows.change(key, rows.held[key])
    await rows.write()
    await put(store, "a")
    await store.aclose()


@pytest.mark.parametrize("value", [b"text", b"", None, write_lineage(1, "0123456789abcdef")[:-1]], ids=str)
async def test_damaged_lineage(backend: EtcdBackend, value: bytes | None) -> None:
    """Also a row that is gone: else a client that has seen a lost history could pass for one that has not."""
    store = await backend.open()
    begin = await store.head()
    await store.reopen()
    await put(store, "a")
    rows = await Rows.of(backend)
    rows.change(rows.data.at("lineage", 1), value)
    await rows.write()
    if value is not None:
        with pytest.raises(Unavailable, match=r"lineage row.*stop every node"):
            await store.read([Query(witness=begin)])
    assert await store.head()
    with pytest.raises(StoreRefused, match=r"lineage rows?.*stop every node"):
        await backend.open()
    await store.aclose()


async def test_layout_that_changes_under_an_open_store(backend: EtcdBackend) -> None:
    """A later release has migrated the store: nothing is written any more, and the error says what to do."""
    store = await backend.open()
    await put(store, "a")
    rows = await Rows.of(backend)
    rows.change(Layout(backend.namespace).head, b'{"application":"softstate","layout":3}')
    await rows.write()
    before = await backend.snapshot()
    for call in (lambda: store.publish([Write("a", b"\x02")]), lambda: store.compact(tombstones=9, keys=9), store.head):
        with pytest.raises(Unavailable, match=r"layout changed to 3.*stop this node"):
            await call()
    with pytest.raises(StoreRefused, match="layout version 3"):
        await store.reopen()
    assert await backend.snapshot() == before
    await store.aclose()
