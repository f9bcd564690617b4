"""Showing how far a copy is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from softstate.cli.terminal.progress import ProgressBar
from softstate.store.base import Dump, Store
from softstate.store.rules.dump import pages


@asynccontextmanager
async def moved(what: str, source: Store) -> AsyncIterator[AsyncGenerator[Dump, None]]:
    """Yield the pages of a store's dump, with a progress bar while they are taken."""
    head = await source.head()
    records = 0
    with ProgressBar(what, head.revision, "records") as bar:

        def show(page: Dump) -> None:
            nonlocal records
            records = len(page.records) + (records if page.after else 0)
            bar.show(page.upto, records)

        async with aclosing(pages(source, progress=show)) as dump:
            yield dump
