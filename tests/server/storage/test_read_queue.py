"""Reads under overload: each asker pays for its own, in virtual time."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Overloaded, RequestError, Unavailable
from softstate.lease import LeaseTable
from softstate.model import READ_COST_MAX, Page, Query
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.edge.poller import hung_up
from softstate.server.fanout.hub import Hub
from softstate.server.storage.access import StoreAccess
from softstate.server.storage.asker import ASKER, Asker
from softstate.server.storage.batcher import Ticket
from softstate.server.storage.read_queue import (
    LIGHT_COST_MAX,
    RETRY_MS_MAX,
    RETRY_MS_MIN,
    UNKNOWN_COST,
    ReadQueue,
    ReadRequest,
)
from softstate.store.memory.store import MemoryStore

US = 1e-6
PATIENCE_S = 5.0


class Gone(Asker):
    """An asker that a test lets hang up."""

    def __init__(self) -> None:
        super().__init__(lambda: self.left)
        self.left = False


class CostlyStore(MemoryStore):
    """A store whose reads take time by their cost; it is `cost_of` a prefix, and 1 of a topic."""

    us_each = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.cost_of: dict[str, int] = {}
        self.calls: list[list[Query]] = []
        self.hang_s = 0.0

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Any]:
        pages: list[Page] = []
        spent = 0
        for query in group:
            cost = min(len(query.topics) + sum(map(self.cost_of.__getitem__, query.prefixes)), query.limit_cost)
            if pages and spent + cost > query.limit_cost:
                break
            more = any(self.cost_of[prefix] > query.limit_cost for prefix in query.prefixes)
            pages.append(
                Page(self.disk.image.position, 0, more=more, upto=query.after + 1 if more else None, cost=cost)
            )
            spent += cost
        self.calls.append(list(group[: len(pages)]))
        await trio.sleep(spent * self.us_each * US + self.hang_s)
        return pages


class Rig:
    def __init__(self, store: CostlyStore, access: StoreAccess) -> None:
        self.store = store
        self.access = access

    async def ask(self, query: Query, asker: Asker | None = None) -> Page | RequestError:
        ASKER.set(asker or Asker())
        try:
            return await self.access.reads.read(query)
        except RequestError as error:
            return error

    def unready(self) -> str | None:
        return self.access.unready

    def prefix(self, name: str, cost: int) -> Query:
        self.store.cost_of[name] = cost
        return Query(prefixes={name: 0})


async def _no_rewind(_position: Position) -> None:
    raise AssertionError


@asynccontextmanager
async def reading(**options: Any) -> AsyncIterator[Rig]:
    store = CostlyStore()
    bulkhead = Bulkhead(strict=True)
    hub = Hub(LeaseTable(0), store.disk.image.position, bulkhead, lambda _leases: None, (), lambda: 0)
    access = StoreAccess(
        ServerConfig(**options), store, hub, trio.current_time, bulkhead, rewound=_no_rewind, skipped=lambda: None
    )
    async with trio.open_nursery() as nursery:
        access.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        yield Rig(store, access)
        nursery.cancel_scope.cancel()


# The order -----------------------------------------------------------------------------------------------------------


def queue() -> ReadQueue:
    return ReadQueue(READ_COST_MAX, PATIENCE_S)


def ticket(query: Query, asker: Asker | None = None, at: float = 0.0) -> Ticket[ReadRequest, Page]:
    return Ticket(ReadRequest(query, asker or Asker(), at), lambda _: None)


def taken(waiting: ReadQueue, now: float = 0.0, count_max: int = 512) -> list[Query]:
    reads, refused = waiting.take(count_max, now)
    for ticket, error in refused:
        ticket.settle(error)
    return [ticket.item.query for ticket in reads]


def page(records: int = 0, cost: int = 0) -> Page:
    return Page(MemoryStore().disk.image.position, 0, cost=cost)


def test_lanes_take_turns_and_each_is_in_the_order_of_arrival() -> None:
    waiting = queue()
    dear, light = Query(prefixes={"dear/": 0}), Query(prefixes={"light/": 0})
    waiting.learn(dear, page(cost=READ_COST_MAX))
    waiting.learn(light, page(cost=10))
    unknown = [Query(prefixes={f"unknown{number}/": 0}) for number in range(2)]
    topics = [Query({f"t{number}": 0}) for number in range(2)]
    for query in (dear, dear, *unknown, light, *topics):
        waiting.append(ticket(query))
    assert len(waiting) == 7
    assert taken(waiting) == [light, *topics]
    waiting.append(ticket(topics[0]))
    assert taken(waiting) == unknown
    assert taken(waiting) == [dear]
    assert taken(waiting) == topics[:1]
    assert taken(waiting) == [dear]
    assert (taken(waiting), len(waiting)) == ([], 0)


def test_a_call_takes_reads_up_to_its_cost_and_one_at_least() -> None:
    waiting = queue()
    names = Query(dict.fromkeys(map(str, range(LIGHT_COST_MAX)), 0))
    for _ in range(30):
        waiting.append(ticket(names))
    assert len(taken(waiting)) == READ_COST_MAX // LIGHT_COST_MAX == 25
    assert len(taken(waiting, count_max=3)) == 3
    large = Query(dict.fromkeys(map(str, range(READ_COST_MAX + 1)), 0))
    for _ in range(2):
        waiting.append(ticket(large))
    assert len(taken(waiting)) == 1
    assert len(taken(waiting)) == 2
    for number in range(100):
        waiting.append(ticket(Query(prefixes={f"{number}/": 0})))
    assert len(taken(waiting)) == READ_COST_MAX // UNKNOWN_COST
    assert taken(waiting) == [large]


def test_reads_that_a_call_did_not_come_to_go_ahead_of_others() -> None:
    waiting = queue()
    first, second, third = (ticket(Query({name: 0})) for name in "abc")
    waiting.append(third)
    waiting.put_back([first, second])
    assert waiting.take(512, 0.0) == ([first, second, third], [])
    assert waiting.drain() == []
    waiting.put_back([first])
    assert (waiting.drain(), len(waiting)) == ([first], 0)


def test_reads_that_waited_too_long_are_not_made_and_no_more_are_taken_before() -> None:
    waiting = queue()
    old = ticket(Query({"a": 0}))
    waiting.append(old)
    waiting.append(ticket(Query({"b": 0}), at=PATIENCE_S / 2))
    with pytest.raises(Overloaded) as caught:
        waiting.append(ticket(Query({"c": 0}), at=PATIENCE_S / 2 + 0.01))
    assert caught.value.retry_ms == RETRY_MS_MIN
    waiting.append(ticket(Query(prefixes={"another/": 0}), at=PATIENCE_S / 2 + 0.01))
    assert taken(waiting, PATIENCE_S / 2) == [Query({"b": 0})]
    assert isinstance(old.error, Overloaded)
    assert waiting.shed == 2


def test_no_more_is_taken_than_can_be_served_in_time_and_the_others_come_back_one_by_one() -> None:
    waiting = queue()
    others = count()

    def dear() -> Query:
        return Query(prefixes={"dear/": next(others)})

    waiting.learn(dear(), page(cost=READ_COST_MAX))
    for _ in range(100):
        waiting.measured([page(cost=READ_COST_MAX)], 0.5)
    for _ in range(6):
        waiting.append(ticket(dear()))
    told = []
    for _ in range(100):
        with pytest.raises(Overloaded) as caught:
            waiting.append(ticket(dear()))
        told.append(caught.value.retry_ms)
    assert told == [min(250 * (number + 1), RETRY_MS_MAX) for number in range(100)]
    assert (len(waiting), waiting.shed) == (6, 100)
    waiting.append(ticket(Query({"a": 0})))
    for _ in range(2):
        taken(waiting)
    waiting.drain()
    waiting.append(ticket(dear()))


def test_a_read_costs_little_while_an_equal_one_waits() -> None:
    waiting = queue()
    dear = Query(prefixes={"dear/": 0})
    waiting.learn(dear, page(cost=READ_COST_MAX))
    for _ in range(100):
        waiting.measured([page(cost=READ_COST_MAX)], 0.5)
    for number in range(200):
        waiting.append(ticket(Query(prefixes={"dear/": 0, "other/": number})) if number % 100 == 0 else ticket(dear))
    assert waiting.shed == 0
    assert len(taken(waiting)) + len(taken(waiting)) + len(taken(waiting)) + len(taken(waiting)) == 200
    waiting.append(ticket(dear))
    assert sum(waiting._lane_costs) == READ_COST_MAX, "the equal ones have gone"
    waiting.drain()
    assert not waiting._waiting


def test_reads_whose_asker_has_gone_are_not_made() -> None:
    waiting = queue()
    asker = Gone()
    first, second = ticket(Query({"a": 0}), asker), ticket(Query({"b": 0}), asker)
    asker.left = True
    waiting.append(first)
    assert taken(waiting, 0.05) == [Query({"a": 0})], "it may have closed its half of the connection only"
    waiting.append(second)
    cancelled = ticket(Query({"c": 0}))
    waiting.append(cancelled)
    cancelled.abandon()
    assert taken(waiting, 0.2) == []
    assert isinstance(second.error, Unavailable)
    assert waiting.gone == 2


def test_a_socket_shows_when_its_peer_hangs_up() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not hung_up(ours.fileno())
        theirs.send(b"more")
        assert not hung_up(ours.fileno())
        theirs.close()
        assert hung_up(ours.fileno())
        assert ours.recv(10) == b"more"


# A node --------------------------------------------------------------------------------------------------------------


async def test_cheap_reads_are_served_between_dear_ones(autojump_clock: trio.testing.MockClock) -> None:
    async with reading() as rig, trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(rig.ask, rig.prefix(f"dear{number}/", READ_COST_MAX))
        await trio.sleep(0.7)
        for _ in range(12):
            begun = trio.current_time()
            assert isinstance(await rig.ask(Query({"a": 0})), Page)
            # A call under way, and one of each of the other lanes, of half a second each.
            assert trio.current_time() - begun <= 3 * READ_COST_MAX * rig.store.us_each * US
        assert rig.unready() is None


async def test_sixteen_polls_of_many_large_prefixes_take_nothing_down(autojump_clock: trio.testing.MockClock) -> None:
    """Their first call would have taken eight seconds, and made every read 503."""
    async with reading() as rig:
        query = Query(prefixes={f"p{number}/": 0 for number in range(97)})
        rig.store.cost_of = dict.fromkeys(query.prefixes, 600_000 // 97)
        rig.store.us_each = 1.0
        outcomes: list[object] = []

        async def poll_whole() -> None:
            asked = query
            for _ in range(20):
                answer = await rig.ask(asked)
                outcomes.append(answer)
                if isinstance(answer, Page) and answer.more:
                    asked = replace(asked, after=answer.next_after)

        async def innocent() -> None:
            for _ in range(100):
                begun = trio.current_time()
                assert isinstance(await rig.ask(Query({"a": 0})), Page)
                assert trio.current_time() - begun < 0.2
                assert rig.unready() is None
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(poll_whole)
            nursery.start_soon(innocent)
        assert len(outcomes) == 16 * 20
        assert [outcome for outcome in outcomes if not isinstance(outcome, Page)] == []


@pytest.mark.parametrize("askers", [10, 20, 80])
async def test_goodput_at_many_times_the_load_is_that_of_the_peak(
    askers: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Each asker gives up after five seconds, hangs up, and asks again at once."""
    async with reading() as rig:
        served = 0

        async def insist(query: Query) -> None:
            nonlocal served
            while True:
                asker = Gone()
                with trio.move_on_after(PATIENCE_S):
                    answer = await rig.ask(query, asker)
                    if isinstance(answer, Page):
                        served += 1
                    else:
                        await trio.sleep((answer.retry_ms or 0) / 1000)
                asker.left = True

        async with trio.open_nursery() as nursery:
            for number in range(askers):
                nursery.start_soon(insist, rig.prefix(f"dear{number}/", READ_COST_MAX))
            await trio.sleep(120)
            nursery.cancel_scope.cancel()
        # Two calls a second.
        assert served >= 0.95 * 120 / (READ_COST_MAX * rig.store.us_each * US)


async def test_an_answer_that_was_made_is_delivered_late(autojump_clock: trio.testing.MockClock) -> None:
    async with reading(store_s_max=2.0, timeout_ms=10_000) as rig:
        rig.store.hang_s = 3.0
        answers: list[object] = []

        async def ask(query: Query) -> None:
            answers.append(await rig.ask(query))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, Query({"in flight": 0}))
            await trio.sleep(0.1)
            nursery.start_soon(ask, Query({"queued": 0}))
            await trio.sleep(2.4)
            assert [type(answer) for answer in answers] == [Unavailable]
            assert rig.unready() is not None
            assert isinstance(await rig.ask(Query({"refused": 0})), Unavailable)
            rig.store.hang_s = 0.0
        late = answers[-1]
        assert (len(answers), isinstance(late, Page), rig.unready()) == (2, True, None)
        rig.store.hang_s = 1e6
        began = trio.current_time()
        assert isinstance(await rig.ask(Query({"hopeless": 0})), Unavailable)
        assert trio.current_time() - began <= 2 * 2.0 + 0.5


async def test_what_a_call_does_not_come_to_is_read_by_the_next(autojump_clock: trio.testing.MockClock) -> None:
    async with reading() as rig, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(rig.ask, rig.prefix(f"{number}/", 30_000))
        await trio.sleep(10)
        assert [len(call) for call in rig.store.calls] == [1] * 8
        assert rig.access.statistics()["reads"] == 8
        assert rig.access.statistics()["reads_waiting"] == 0


async def test_a_read_that_is_cancelled_is_not_made(autojump_clock: trio.testing.MockClock) -> None:
    async with reading() as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.ask, rig.prefix("a/", 40_000))
        await trio.sleep(0.01)
        with trio.move_on_after(0.2):
            await rig.ask(Query({"b": 0}))
        await trio.sleep(1)
        assert [list(query.topics) for call in rig.store.calls for query in call] == [[]]
        assert rig.access.statistics()["reads_gone"] == 1


async def test_the_cost_of_the_configuration_is_the_one_that_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with reading(read_cost_max=777) as rig:
        await rig.ask(Query({"a": 0}))
        assert rig.store.calls[0][0].limit_cost == 777
