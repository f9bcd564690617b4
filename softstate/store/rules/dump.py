"""Moving everything that a store holds: the pages of a dump stay consistent while the store goes on changing.

The method is that of the change feed. Records come in revision order, and one that changes gets a higher revision, so
a reader that reaches the end has the newest of every topic: the state at the last page's position, and no engine has
to keep a snapshot open for as long as a copy takes. Only compaction can spoil that, by removing meanwhile a tombstone
above the cursor whose topic was already copied alive; then the dump starts over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from softstate.errors import StoreRefused, Unavailable
from softstate.model import PAGE_RECORDS_MAX
from softstate.store.base import Dump, Store

DUMP_TRIES = 5
"""How often a dump is started before compaction, or a rewind of the store, makes it fail."""


async def pages(
    store: Store, *, limit: int = PAGE_RECORDS_MAX, progress: Callable[[Dump], None] = lambda _page: None
) -> AsyncGenerator[Dump, None]:
    """Yield the pages of a dump, until one has no `more`. A caller that may stop earlier uses `contextlib.aclosing`.

    The caller replaces an earlier record of a topic by a later one, and starts over at a page whose `after` is 0.
    Raises `Unavailable` when that has happened `DUMP_TRIES` times, and what `Store.dump` raises.
    """
    for _ in range(DUMP_TRIES):
        last: Dump | None = None
        floor = 0
        while last is None or last.more:
            page = await store.dump(last.upto if last else 0, limit)
            if last is None:
                floor = page.floor
            elif page.floor > max(floor, page.after) or not await _continues(page, last, store):
                break
            progress(page)
            yield page
            last = page
        else:
            return
    raise Unavailable(f"{store.name} was compacted {DUMP_TRIES} times while it was being read: try again later")


async def _continues(page: Dump, last: Dump, store: Store) -> bool:
    """Tell whether a page is of the same history as the one before it: the store may have been reopened in between."""
    if page.position.same_lineage(last.position):
        return True
    # Asked after the page was cut, so a rewind before the page cannot be missed.
    (lineage,) = await store.lineage_at([last.position.revision])
    return page.position.epoch == last.position.epoch and lineage == last.position.lineage


def check_joined(last: Dump | None, page: Dump | None) -> None:
    """Raise `Unavailable` unless a store that adopts pages may go on from `last` (None: nothing) to `page` (the end).

    Every engine asks this for each page and at the end, so that a copy with a hole is never taken for the whole.
    """
    if page is None and (last is None or last.more):
        raise Unavailable("the copy broke off before its end: copy it again")
    if page is not None and page.after and (last is None or page.after != last.upto):
        raise Unavailable(f"the copy has a gap before revision {page.after}: copy it again")


def published_to(name: str) -> StoreRefused:
    """Return the error of `Store.adopt` without `replace`, for a store that something was published to."""
    return StoreRefused(
        f"{name} is not empty, and its contents would be lost: name an empty one, or ask to replace it (--replace)"
    )
