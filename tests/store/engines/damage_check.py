"""The cost of damaged rows, the same for every engine: their own topics, and those until they are published again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from softstate.errors import Conflict, RequestError
from softstate.model import Page, Query, Record
from softstate.names import ALL, check_topic, covers
from softstate.store.base import EXISTS, Applied, Store, Write
from softstate.testing.conformance.stage import read_page


@dataclass
class Damaged:
    """Topics whose rows were damaged, and the newest record of every topic as it was written, tombstones too.

    Topics of `vanished` have no row of their name any more, so that a store may know nothing of them.
    """

    written: dict[str, Record]
    topics: Collection[str]
    vanished: Collection[str] = ()

    @property
    def healthy(self) -> list[str]:
        return [topic for topic in self.written if topic not in self.topics]

    @property
    def present(self) -> list[str]:
        return sorted(topic for topic in self.topics if topic not in self.vanished)

    def check(self, found: Mapping[str, Record], asked: Iterable[str] | None = None) -> None:
        """Check what was found of the topics that were asked for, all by default, from revision 0.

        A healthy one is as it was; a damaged one has no value and does not pass for deleted; nothing else has a value.
        """
        for topic in self.written if asked is None else asked:
            if topic in self.vanished:
                assert topic not in found or found[topic].unreadable, topic
            elif topic in self.topics:
                assert topic in found, topic
                assert found[topic].unreadable, topic
            elif self.written[topic].deleted:
                assert topic not in found or found[topic] == self.written[topic], topic
            else:
                assert found.get(topic) == self.written[topic], topic
        for record in found.values():
            check_topic(record.topic)
            assert record.cbor is None or not record.unreadable, record.topic
            assert record.topic in self.written or record.unreadable, f"{record.topic}: this was never published"


async def everything(store: Store, query: Query) -> dict[str, Record]:
    """Read all pages, as a client does: the newest record of each topic."""
    found: dict[str, Record] = {}
    while True:
        page = await read_page(store, query)
        assert not page.restart
        found |= {record.topic: record for record in page.records}
        if not page.more:
            return found
        listed = page.position.revision if query.listed is None else query.listed
        query = Query(query.topics, query.prefixes, query.witness, page.next_after, listed, query.limit)


async def answers(store: Store, queries: Sequence[Query]) -> list[Page | RequestError]:
    """Ask in groups until all is answered: one call may answer a part of a group."""
    found: list[Page | RequestError] = []
    while len(found) < len(queries):
        found += await store.read(queries[len(found) : len(found) + 64])
    return found


def _as_found(found: dict[str, Record]) -> dict[str, Record]:
    return found


async def check_others_are_served(
    store: Store,
    damaged: Damaged,
    prefixes: Sequence[str],
    told: Callable[[dict[str, Record]], dict[str, Record]] = _as_found,
) -> dict[str, Record]:
    """Check that only damaged topics are refused, however they are asked for; return the list of all.

    `told` may add to a list what is right though the list does not tell it.
    """
    alone = await answers(store, [Query(topics={topic: 0}) for topic in damaged.written])
    for topic, answer in zip(damaged.written, alone, strict=True):
        assert isinstance(answer, Page), topic
        assert [record.topic for record in answer.records] in ([topic], []), topic
        damaged.check({record.topic: record for record in answer.records}, [topic])
    for limit in (1000, 7):
        damaged.check(await everything(store, Query(topics=dict.fromkeys(damaged.written, 0), limit=limit)))
    for prefix in (*prefixes, ALL):
        for limit in (1000, 20):
            found = told(await everything(store, Query(prefixes={prefix: 0}, limit=limit)))
            damaged.check(found, [topic for topic in damaged.written if covers(prefix, topic)])
    known = [topic for topic in damaged.written if topic not in damaged.vanished]
    held = [Query(topics={topic: damaged.written[topic].version}) for topic in known]
    held.append(Query(topics=dict.fromkeys(damaged.present, (await store.head()).revision)))
    for query, answer in zip(held, await answers(store, held), strict=True):
        assert isinstance(answer, Page), f"{query}: a version in a damaged row is no evidence of another history"
    return found


async def check_publishing_heals(store: Store, damaged: Damaged) -> None:
    """Check that each damaged topic can be published again; a condition on its version loses, as nothing knows it.

    Every third one is deleted, and every third one published on the condition that it exists.
    """
    for topic in damaged.present:
        group = [
            Write(topic, b"\x01", expect=0),
            Write(topic, None, expect=5),
            Write(topic, b"\x01", expect=damaged.written[topic].version),
        ]
        done = await store.publish(group)
        assert not done.records, topic
        for verdict in done.verdicts:
            assert isinstance(verdict, Conflict), topic
            assert verdict.current is None, topic
    for place, topic in enumerate(sorted(damaged.topics)):
        exists = place % 3 == 1 and topic not in damaged.vanished
        cbor = None if place % 3 == 2 else b"\x02"
        (verdict,) = (await store.publish([Write(topic, cbor, expect=EXISTS if exists else None)])).verdicts
        assert isinstance(verdict, Applied), topic
        damaged.written[topic] = Record(topic, verdict.version, cbor)
    damaged.topics = damaged.vanished = ()
    damaged.check(await everything(store, Query(prefixes={ALL: 0}, limit=50)))
