"""Moving a store's contents: how far it is, and the topics that cannot be moved."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.exit_codes import Failure
from softstate.cli.options.store_urls import plain
from softstate.cli.terminal.progress import ProgressBar
from softstate.store.base import Dump, Store
from softstate.store.rules.dump import pages

SkipUnreadable: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Leave out topics whose stored record is damaged; without this, nothing is written if there are any.",
    ),
]


@asynccontextmanager
async def moved(what: str, source: Store, *, skip_unreadable: bool) -> AsyncIterator[AsyncGenerator[Dump, None]]:
    """Yield the pages of a store's dump, with a progress bar while they are taken.

    Unreadable topics are left out, and named on stdout after the block if they may be. If not, taking the last page
    raises `Failure`, naming them.
    """
    head = await source.head()
    records = 0
    unreadable: list[str] = []
    with ProgressBar(what, head.revision, "records") as bar:

        def show(page: Dump) -> None:
            nonlocal records
            records = len(page.records) + (records if page.after else 0)
            bar.show(page.upto, records)

        async def readable() -> AsyncGenerator[Dump, None]:
            async with aclosing(pages(source, progress=show)) as dump:
                async for page in dump:
                    if not page.after:
                        unreadable.clear()
                    unreadable.extend(record.topic for record in page.records if record.unreadable)
                    if unreadable and not (skip_unreadable or page.more):
                        raise _cannot_be_moved(source, unreadable)
                    yield replace(page, records=[record for record in page.records if not record.unreadable])

        async with aclosing(readable()) as dump:
            yield dump
    if unreadable:
        print(f"left out, unreadable: {_listed(unreadable)}", flush=True)


def _cannot_be_moved(source: Store, topics: Sequence[str]) -> Failure:
    count = f"{len(topics)} record{'' if len(topics) == 1 else 's'}"
    return Failure(
        f"nothing was copied: {count} of {plain(source.name)} cannot be read: {_listed(topics)}; publish"
        f" {'it' if len(topics) == 1 else 'them'} again without expect, or add --skip-unreadable",
        exit_codes.BROKEN,
    )


def _listed(topics: Sequence[str]) -> str:
    return ", ".join(map(repr, sorted(set(topics))))
