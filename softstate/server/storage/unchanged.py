"""A node answers polls and subscribes that miss nothing from memory, without its store (P-HTTP-17, P-SUB-17)."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import replace
from typing import final

import trio

from softstate.errors import RequestError
from softstate.model import Page, Query
from softstate.server.fanout.hub import Hub
from softstate.server.storage.heads import HeadReads, HeadTicket
from softstate.server.storage.level import LEVEL_S_MAX, Reading


@final
class UnchangedPolls:
    """Answers polls and subscribes of a node at the position of its hub. `damage` are the topics known to be damaged.

    `answer` does not wait, so that a poll can be answered in the turn in which it was read.
    """

    def __init__(self, hub: Hub, heads: HeadReads, damage: Sized) -> None:
        self.answered = 0
        self._hub = hub
        self._heads = heads
        self._damage = damage

    def answer(self, query: Query, at_least: int = 0) -> Page | None:
        """Return an empty page if the asker misses nothing; None if it may, or if that is not known by now.

        Its `lag_s` is what the level says. A level that is young is made younger meanwhile, for the polls to come; an
        old one will do only while it is the store that does not let it become younger.
        """
        if not self.knows(query, at_least):
            return None
        lag_s = self._heads.level.lag_s()
        if lag_s > LEVEL_S_MAX / 2:
            if lag_s > (self._heads.wait_s_max if self._heads.slow else LEVEL_S_MAX):
                return None
            self._heads.refresh()
        self.answered += 1
        return Page(self._hub.position, 0, lag_s=lag_s)

    def confirm_soon(
        self, query: Query, at_least: int, confirmed: Callable[[Page | None], None], broken: Callable[[], None]
    ) -> None:
        """Answer as `answer` does once the head is read, for a level that is old: that costs less than to read a page.

        `confirmed` is called with the page or None within half of the time that clients wait, perhaps at once; `broken`
        if a bug ends that call.
        """
        arrived = self.begin()

        def settled(_head: HeadTicket | None) -> None:
            page = self.answer(query, at_least)
            confirmed(None if page is None else replace(page, lag_s=self._heads.level.lag_s(arrived)))

        try:
            self._heads.submit(settled, broken)
        except RequestError:
            settled(None)

    async def confirm(self, query: Query, at_least: int = 0) -> Page | None:
        """Return what `confirm_soon` finds out about a poll of many names; None at once if it knows of news."""
        if not self.knows(query, at_least):
            return None
        done = trio.Event()
        pages: list[Page | None] = []

        def confirmed(page: Page | None) -> None:
            pages.append(page)
            done.set()

        self.confirm_soon(query, at_least, confirmed, lambda: confirmed(None))
        await done.wait()
        return pages[0]

    def knows(self, query: Query, at_least: int) -> bool:
        """Tell whether all that has passed the hub leaves the asker as it is."""
        position, witness = self._hub.position, query.witness
        return not (
            query.after
            or not (query.topics or query.prefixes)
            or at_least > position.revision
            or (witness is not None and not (witness.same_lineage(position) and witness.revision <= position.revision))
            or not self._hub.known.nothing_newer(query.topics, query.prefixes, position.revision)
            or len(self._damage)
        )

    def begin(self) -> Reading:
        """Note that a poll has arrived now."""
        return self._heads.level.begin()

    def learn(self, query: Query, page: Page, reading: Reading) -> None:
        """Take the store's answer to a poll, for the polls to come, unless a new history began since it was asked."""
        if page.position.same_lineage(self._hub.position) and self._heads.level.is_of_this_history(reading):
            self._hub.known.learn(query, page)
