"""Reading: queued queries are answered together, from one snapshot, as far as one store call may cost."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import structlog
import trio

from softstate.errors import RequestError
from softstate.model import Page, Query, SharedRecords
from softstate.names import ALL, SPELT, covered
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.spell import Spell
from softstate.server.storage.asker import ASKER, Asker
from softstate.server.storage.batcher import DEFERRED, Batcher
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.level import Level
from softstate.server.storage.read_queue import ReadQueue, ReadRequest, ReadTicket
from softstate.store.base import Store

LATE_CALLS = 2
"""Reads of a call that is stuck wait for so many times the time that a call may take: late is better than again."""

LINEAGES_CACHED = 16_384
"""Revisions whose lineage is kept in memory. It does not change within a generation, so only size evicts."""

FAILING_QUIET_S = 15.0
"""Seconds without a failure after which a read that succeeds ends a spell: damage fails some reads and not others."""

log = structlog.get_logger("softstate.reads")


def _log_failure(because: str) -> None:
    log.error("reads fail", because=because)


def _log_success(failures: int) -> None:
    log.info("reads succeed again", failures=failures)


class StoreReads:
    """Answers queries from shared snapshots. `told` is called with every position that an answer tells a client."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        guard: StoreGuard,
        bulkhead: Bulkhead,
        damage: Damage,
        level: Level,
        told: Callable[[Position], None] = lambda _position: None,
    ) -> None:
        self._store = store
        self._guard = guard
        self._told = told
        self._damage = damage
        self._level = level
        self.failing = Spell(_log_failure, _log_success, quiet_s=FAILING_QUIET_S)
        """The store calls for reads that fail, without `FAILING_QUIET_S` between two of them."""
        # By generation and revision: a lineage that was read before the store was reopened may be of what was lost.
        self._lineages: OrderedDict[tuple[int | None, int], str] = OrderedDict()
        queued_max, call_s_max = config.reads_waiting_max, config.store_s_max
        self._cost_max = config.read_cost_max
        self.queue = ReadQueue(config.read_cost_max, config.timeout_ms / 1000)
        self.pages: Batcher[ReadRequest, Page] = Batcher(
            "reads",
            self._read_pages,
            bulkhead,
            queued_max=queued_max,
            call_s_max=call_s_max,
            queue=self.queue,
            late_s_max=LATE_CALLS * call_s_max,
            on_failed=self._failed,
        )
        self._rows: Batcher[int, tuple[str | None]] = Batcher(
            "reads", self._read_rows, bulkhead, queued_max=queued_max, call_s_max=call_s_max, on_failed=self._failed
        )
        self.batchers = (self.pages, self._rows)

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call, for the connection whose task this is.

        Raises `Rewound`, `Unavailable` or `Overloaded`. If cancelled before the read is made, it is not made.
        """
        return await self.pages.ask(self._request(query, ASKER.get()))

    async def with_tombstone(self, topic: str, page: Page) -> Page:
        """Return what is known of a topic, of which `page` tells the value, if it has one. Raises as `read` does.

        An answer that begins leaves tombstones out; a page that goes on has them.
        """
        return page if page.records else await self.read(Query({topic: 0}, after=max(page.floor, 1)))

    def submit(
        self, query: Query, asker: Asker, settled: Callable[[ReadTicket], None], broken: Callable[[], None]
    ) -> ReadTicket:
        """Have `settled` called with the answer from a snapshot begun after this call; as `Batcher.submit`.

        An abandoned ticket's read is not made.
        """
        return self.pages.submit(self._request(query, asker), settled, broken)

    def _request(self, query: Query, asker: Asker) -> ReadRequest:
        if query.limit_cost != self._cost_max:
            query = replace(query, limit_cost=self._cost_max)
        return ReadRequest(query, asker, trio.current_time())

    async def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at a revision, None if unknown. Raises as `read` does."""
        known = self._lineages.get((self._guard.generation, revision))
        if known is not None:
            return known
        (lineage,) = await self._rows.ask(revision)
        return lineage

    def _failed(self, error: RequestError) -> None:
        self.failing.failed(error.message)

    async def _read_pages(self, group: Sequence[ReadRequest]) -> Sequence[Page | RequestError]:
        began = trio.current_time()
        # Equal queries, as those of a herd that subscribes to one prefix, are asked once, and share a page. All were
        # asked before the read begins; one that comes later may have to see what was committed since. The members of a
        # herd have seen different positions: the first is asked with its own, those of the others beside it.
        queries: dict[Hashable, Query] = {}
        asked = Counter(request.key for request in group)
        for request in group:
            witness = request.query.witness
            if witness not in (None, queries.setdefault(request.key, request.query).witness):
                queries.setdefault(witness, Query(witness=witness))
        reading = self._level.begin()
        pages = await self._guard.call(self._store.read, list(queries.values()))
        if not 1 <= len(pages) <= len(queries):
            raise AssertionError(f"{len(queries)} queries got {len(pages)} answers")
        self.failing.succeeded()
        answers: dict[Hashable, Page | RequestError] = {}
        for (key, query), page in zip(queries.items(), pages, strict=False):
            answers[key] = page
            if isinstance(page, Page):
                self._told(page.position)
                self._damage.met(page.records)
                self.queue.learn(query, page)
                answers[key] = page = _reached(query, page)
                if asked[key] > 1:
                    answers[key] = replace(page, records=SharedRecords(page.records))
        if isinstance(pages[0], Page):
            self._level.read(reading, pages[0].position)
        self.queue.measured((page for page in pages if isinstance(page, Page)), trio.current_time() - began)
        return [_answer(request, queries[request.key].witness, answers) for request in group]

    async def _read_rows(self, revisions: Sequence[int]) -> Sequence[tuple[str | None] | RequestError]:
        lineages = await self._guard.call(self._store.lineage_at, revisions)
        self.failing.succeeded()
        for revision, lineage in zip(revisions, lineages, strict=True):
            if lineage is not None:
                self._lineages[self._guard.generation, revision] = lineage
        while len(self._lineages) > LINEAGES_CACHED:
            self._lineages.popitem(last=False)
        return [(lineage,) for lineage in lineages]


def _reached(query: Query, page: Page) -> Page:
    """Return a page without the records that the store found below ``/``, which does not reach them."""
    if ALL not in query.prefixes or not any(record.topic.startswith(SPELT) for record in page.records):
        return page
    names = query.topics.keys() | query.prefixes.keys()
    records = [record for record in page.records if not record.topic.startswith(SPELT) or covered(names, record.topic)]
    return replace(page, records=records, upto=page.next_after if page.more else page.upto)


def _answer(
    request: ReadRequest, asked_with: Position | None, answers: Mapping[Hashable, Page | RequestError]
) -> Page | RequestError:
    """Return the answer to a request whose page was asked for with the witness `asked_with`."""
    answer = answers.get(request.key, DEFERRED)
    witness = request.query.witness
    if witness == asked_with:
        return answer
    if witness is not None and not isinstance(stands := answers.get(witness, DEFERRED), Page):
        return stands
    # Else perhaps the other witness alone is off the history.
    return answer if isinstance(answer, Page) else DEFERRED
