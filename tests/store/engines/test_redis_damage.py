"""Rows that were damaged behind the library's back: only that topic is refused, all others are served (S18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TypeAlias

import pytest

from softstate.errors import StoreRefused, Unavailable
from softstate.model import PAGE_BYTES_MAX, Query, Record
from softstate.names import ALL, prefixes_of
from softstate.store.base import Applied, Number, Write
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put, read_page
from tests.store.engines.damage_check import Damaged, check_others_are_served, check_publishing_heals, everything
from tests.store.engines.redis_rig import RedisRig

TOPICS = 260
DAMAGED = 200
SEED = 11

Command: TypeAlias = tuple[str | bytes | int, ...]
Damage: TypeAlias = Callable[[str, str, int, Random], list[Command]]
"""Commands that damage one topic, from the prefix of the image's keys, the topic, its version, and random numbers."""


def kept(value: bytes) -> Damage:
    return lambda at, topic, _version, _random: [("HSET", f"{at}record", topic, value)]


def flipped(at: str, topic: str, version: int, random: Random) -> list[Command]:
    value = bytearray(b"\xd9\xd9\xf7" + bytes(random.randrange(256) for _ in range(40)))
    return [("HSET", f"{at}record", topic, bytes(value))]


def moved(to: Callable[[int], float]) -> Damage:
    def commands(at: str, topic: str, version: int, _random: Random) -> list[Command]:
        return [("ZADD", f"{at}live:{prefix}", str(to(version)), topic) for prefix in prefixes_of(topic)]

    return commands


def renamed(at: str, topic: str, _version: int, _random: Random) -> list[Command]:
    """Give a topic the record of another: a value that was published, but not under this name."""
    script = "return redis.call('HSET', KEYS[1], ARGV[1], redis.call('HGET', KEYS[1], 't/0/0'))"
    return [("EVAL", script, 1, f"{at}record", topic)]


def both_sides(at: str, topic: str, version: int, _random: Random) -> list[Command]:
    return [("ZADD", f"{at}dead:{prefix}", version, topic) for prefix in prefixes_of(topic)]


DAMAGES: dict[str, Damage] = {
    "cut off": kept(b"0123456789abcdef\xd9\xd9\xf7\x82\x01"),
    "not cbor": kept(b"0123456789abcdef\xd9\xd9\xf7\xff\xff"),
    "nothing": kept(b""),
    "no sum": kept(b"\xd9\xd9\xf7\x01"),
    "text": kept("ünicode".encode()),
    "deep": kept(b"0123456789abcdef\xd9\xd9\xf7" + b"\x81" * 400 + b"\x01"),
    "flipped": flipped,
    "gone": lambda at, topic, _version, _random: [("HDEL", f"{at}record", topic)],
    "renamed": renamed,
    "higher": moved(lambda version: version + 0.5),
    "far above": moved(lambda version: version + 10**7),
    "below": moved(lambda _version: -3),
}


async def image(rig: RedisRig) -> str:
    answer = await rig.ask("HGET", f"{{{rig.namespace}}}:meta", "image")
    name = answer.split(b"\r\n")[1].decode()
    return f"{{{rig.namespace}}}:{name}:"


async def test_200_damaged_rows_are_refused_and_no_other(rig: RedisRig) -> None:
    random = Random(SEED)
    store = await rig.open()
    topics = [f"t/{number % 7}/{number}" for number in range(TOPICS)]
    done = await store.publish(
        [Write(topic, b"\x18" + bytes([number % 200 + 24])) for number, topic in enumerate(topics)]
    )
    start = done.position.at(done.before)
    written = {record.topic: record for record in done.records}
    damaged = Damaged(written, random.sample(topics[1:], DAMAGED))
    at = await image(rig)
    for number, topic in enumerate(damaged.topics):
        damage = list(DAMAGES.values())[number % len(DAMAGES)]
        for command in damage(at, topic, written[topic].version, random):
            await rig.ask(*command)

    found = await check_others_are_served(store, damaged, [f"t/{number}/" for number in range(7)])
    assert found.keys() == set(topics)
    feed = await store.feed(start)
    assert {record.topic for record in feed.records if not record.unreadable} == set(damaged.healthy)
    dumped = {record.topic: record async for page in pages(store) for record in page.records}
    assert {topic for topic, record in dumped.items() if record.unreadable} == set(damaged.topics)
    await check_publishing_heals(store, damaged)
    await store.aclose()


async def test_a_row_on_both_sides_is_healed_by_a_publish(rig: RedisRig) -> None:
    store = await rig.open()
    version = await put(store, "a/b")
    for command in both_sides(await image(rig), "a/b", version, Random(0)):
        await rig.ask(*command)
    await read_page(store, Query(prefixes={ALL: 0}))
    newer = await put(store, "a/b", b"\x02")
    page = await read_page(store, Query(prefixes={ALL: 1}))
    assert page.records == [Record("a/b", newer, b"\x02")]
    await store.aclose()


async def test_names_that_are_no_topics_are_left_out(rig: RedisRig) -> None:
    store = await rig.open()
    await put(store, "a")
    version = await put(store, "b")
    at = await image(rig)
    for name in (b"\xff\xfe", b"a//b", b"", b"x\x01"):
        await rig.ask("ZADD", f"{at}live:/", version - 1, name)
    assert list(await everything(store, Query(prefixes={ALL: 0}))) == ["a", "b"]
    await store.aclose()


STRAYS: dict[str, Callable[[str, int], list[Command]]] = {
    "names that are no topics": lambda at, version: [
        ("ZADD", f"{at}live:/", version, name)
        for name in (b"\xff%d" % version, b"a//%d" % version, b"a/0\0%d" % version)
    ],
    "between two revisions": lambda at, version: [
        ("ZADD", f"{at}{side}:/", str(version + part), f"stray/{version}/{side}/{part}")
        for side in ("live", "dead")
        for part in (0.25, 0.5, 0.75)
    ],
    "at one revision": lambda at, version: [
        ("ZADD", f"{at}{side}:/", version, f"{name}/{version}/{side}")
        for side in ("live", "dead")
        for name in ("A", "z", "zz")
    ],
    "large": lambda at, version: [
        command
        for name, part in ((b"a//%d" % version, 0), (b"\xff%d" % version, 0.25), (b"stray/%d" % version, 0.5))
        for command in (
            ("ZADD", f"{at}live:/", str(version + part), name),
            ("HSET", f"{at}record", name, bytes(PAGE_BYTES_MAX + 100)),
        )
    ],
}
"""Commands that put entries of no use among those of the topics, at or above a revision."""


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
@pytest.mark.parametrize("strays", STRAYS.values(), ids=STRAYS.keys())
async def test_entries_of_no_use_end_no_page_where_it_began(
    rig: RedisRig, strays: Callable[[str, int], list[Command]], limit: int
) -> None:
    """Dump, feed and listing come to their end in pages of any size, and pass over no sound topic."""
    store = await rig.open()
    written: dict[str, Record] = {}
    start = await store.head()
    for number in range(5):
        done = await store.publish([Write(f"a/{number}", b"\x01"), Write(f"b/{number}", b"\x02")])
        written |= {record.topic: record for record in done.records}
    at = await image(rig)
    for version in (start.revision, 3, 4, 5, 9, done.position.revision):
        for command in strays(at, version):
            await rig.ask(*command)

    dumped: dict[str, Record] = {}
    after, more = 0, True
    while more:
        dump = await store.dump(after, limit)
        assert dump.upto > after
        dumped |= {record.topic: record for record in dump.records}
        after, more = dump.upto, dump.more
    assert dumped | written == dumped
    assert all(dumped[topic].unreadable for topic in dumped.keys() - written.keys())

    fed: dict[str, Record] = {}
    position, more = start, True
    while more:
        feed = await store.feed(position, limit)
        assert feed.upto.revision > position.revision
        fed |= {record.topic: record for record in feed.records}
        position, more = feed.upto, feed.more
    assert position == await store.head()
    assert fed | written == fed

    for query in (
        Query(prefixes={ALL: 0}, limit=limit),
        Query(topics=dict.fromkeys(written, 0), limit=limit),
        Query(prefixes={"a/": 0, "b/": 0}, limit=limit),
    ):
        listed: dict[str, Record] = {}
        after, more = 0, True
        while more:
            page = await read_page(store, replace(query, after=after))
            assert not page.more or page.next_after > after
            listed |= {record.topic: record for record in page.records}
            after, more = page.next_after if page.more else 0, page.more
        assert listed | written == listed
    assert len(await store.audit()) == len(dumped) - len(written)
    await store.aclose()


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_damaged_keys_and_publishers_hide_no_other_in_a_dump(rig: RedisRig, limit: int) -> None:
    """Nor those whose place in the order is damaged."""
    store = await rig.open()
    names = [f"{number}" for number in range(8)]
    for name in names:
        await store.publish([Write("a", b"\x01", key=name, digest=b"d", number=Number(f"p{name}", 1, 0))])
    at = await image(rig)
    for name in names[1:5]:
        await rig.ask("HSET", f"{at}key", f"a\0{name}", b"0123456789abcdefd")
        await rig.ask("HSET", f"{at}publisher", f"p{name}", b"0123456789abcdef\xff")
    await rig.ask("ZADD", f"{at}keylog", "2.5", f"a\0{names[5]}", "2.5", "x", "2.25", "y", "inf", "z", -1, "w")
    await rig.ask("ZADD", f"{at}publisherlog", "2.5", "x", "2.25", "y", "inf", "z", -1, "w")
    keys: set[str] = set()
    publishers: set[str] = set()
    after, more = 0, True
    while more:
        page = await store.dump(after, limit)
        assert page.upto > after
        keys |= {key.key for key in page.keys}
        publishers |= {publisher.publisher for publisher in page.publishers}
        after, more = page.upto, page.more
    assert keys == {"0", "6", "7"}
    assert publishers == {"p0", "p5", "p6", "p7"}
    await store.aclose()


async def test_a_lineage_row_between_two_revisions_is_told_at_its_own(rig: RedisRig) -> None:
    store = await rig.open()
    await put(store, "a")
    await store.reopen()
    await put(store, "a")
    at = await image(rig)
    row = (await rig.ask("ZRANGEBYSCORE", f"{at}lineage", 3, 3)).split(b"\r\n")[2]
    await rig.ask("ZADD", f"{at}lineage", "2.75", row)
    assert [row.revision for row in (await store.dump(0)).rows] == [1, 3]
    await store.aclose()


async def test_a_damaged_key_or_publisher_counts_as_absent(rig: RedisRig) -> None:
    store = await rig.open()
    keyed = Write("a", b"\x01", key="k", digest=b"1" * 16)
    numbered = Write("a", b"\x01", digest=b"1" * 16, number=Number("p", 1, 0))
    await store.publish([keyed, numbered])
    at = await image(rig)
    await rig.ask("HSET", f"{at}key", b"a\0k", b"0123456789abcdef" + b"1" * 16)
    await rig.ask("HSET", f"{at}publisher", "p", b"0123456789abcdef\xff")
    done = await store.publish([keyed, numbered])
    assert done.verdicts == [Applied(done.before + 1), Applied(done.before + 2)]
    again = await store.publish([keyed, numbered])
    assert [verdict.repeated for verdict in again.verdicts if isinstance(verdict, Applied)] == [True, True]
    assert [page async for page in pages(store)]
    await store.aclose()


@pytest.mark.parametrize("damage", ["spoilt", "gone", "-0.25", "-3"])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_dump_goes_on_behind_damaged_rows(rig: RedisRig, damage: str, limit: int) -> None:
    """Of keys, publishers and lineage rows: a page with fewer sound ones than it has room for is not the last."""
    for _ in range(5):
        store = await rig.open()
        await store.publish([Write("a", b"\x01", key="k", digest=b"1" * 16)])
        await store.aclose()
    store = await rig.open()
    for number in range(7):
        name = f"{number}"
        await store.publish([Write("a", b"\x01", key=name, digest=b"1" * 16, number=Number(name, 1, 0))])
    sound = [page async for page in pages(store, limit=limit)]
    at = await image(rig)
    for number in (0, 1, 4):
        for kind, name in (("key", f"a\0{number}"), ("publisher", f"{number}")):
            if damage == "spoilt":
                await rig.ask("HSET", f"{at}{kind}", name, b"0123456789abcdef" + b"1" * 16)
            elif damage == "gone":
                await rig.ask("HDEL", f"{at}{kind}", name)
            else:
                await rig.ask("ZINCRBY", f"{at}{kind}log", damage, name)
    starts = [row.revision for page in sound for row in page.rows]
    for start in (starts[0], starts[3]):
        await rig.ask("ZREMRANGEBYSCORE", f"{at}lineage", start, start)
        await rig.ask("ZADD", f"{at}lineage", start, "0123456789abcdefother")
    found = [page async for page in pages(store, limit=limit)]
    assert {key.key for page in found for key in page.keys} == {"k", "2", "3", "5", "6"}
    kept = {"0", "1", "4"} if damage.startswith("-") else set()
    assert {each.publisher for page in found for each in page.publishers} == {"2", "3", "5", "6"} | kept
    rows = [row.revision for page in found for row in page.rows]
    assert rows == [start for start in starts if start not in (starts[0], starts[3])]
    assert all(page.upto > page.after for page in found)
    await store.aclose()


@pytest.mark.parametrize("field", ["head", "floor", "lineage", "epoch", "start", "sum"])
async def test_a_damaged_record_of_the_store_is_refused(rig: RedisRig, field: str) -> None:
    store = await rig.open()
    await put(store, "a")
    await rig.ask("HSET", f"{{{rig.namespace}}}:meta", field, "7")
    with pytest.raises(Unavailable, match="restore a backup"):
        await store.head()
    with pytest.raises(StoreRefused, match="restore a backup"):
        await rig.open()
    await store.aclose()


async def test_a_damaged_lineage_row_is_refused(rig: RedisRig) -> None:
    store = await rig.open()
    await store.aclose()
    at = await image(rig)
    await rig.ask("DEL", f"{at}lineage")
    await rig.ask("ZADD", f"{at}lineage", 1, "0123456789abcdefother")
    with pytest.raises(StoreRefused, match="the lineage row at revision 1 is damaged"):
        await rig.open()
