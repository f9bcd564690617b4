"""The parts that all checks of a store use: a backend to open stores on, assertions, reading and writing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from softstate.errors import SoftstateError
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import KEYS_MAX, Applied, Store, Write

T = TypeVar("T")
E = TypeVar("E", bound=SoftstateError)


class Backend(Protocol):
    """The place where stores keep their data, empty at first: a file, a database, a server.

    Any number of stores can be opened on it.
    """

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        """Open a store on it, as a node does that starts now. The store keeps at most `keys_max` idempotency keys."""


@runtime_checkable
class Rewindable(Protocol):
    """A `Backend` that can also be put back to an earlier state. For others the checks of rewinding do nothing."""

    async def snapshot(self) -> Any:
        """Take a backup while stores are open, and return it."""

    async def restore(self, snapshot: Any) -> None:
        """Put a backup back, while stores are open."""


@runtime_checkable
class Readable(Protocol):
    """A `Backend` that can also be opened to read only. For others the check of that does nothing."""

    async def open_to_read(self) -> Store:
        """Open a store on it that changes nothing, as ``softstate store info`` does."""


class Stage:
    """A backend, and the stores that one check has opened on it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._stores: list[Store] = []

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        """Open a store that `aclose` will close."""
        store = await self.backend.open(keys_max=keys_max)
        self._stores.append(store)
        return store

    async def open_to_read(self) -> Store | None:
        """Open a store that changes nothing, which `aclose` will close; None if the backend cannot."""
        if not isinstance(self.backend, Readable):
            return None
        store = await self.backend.open_to_read()
        self._stores.append(store)
        return store

    async def aclose(self) -> None:
        """Close every store."""
        for store in self._stores:
            await store.aclose()


def must(condition: object, rule: str) -> None:
    """Raise AssertionError with the rule that was broken, unless the condition holds. Works under `python -O` too."""
    if not condition:
        raise AssertionError(rule)


def equal(found: object, wanted: object, rule: str) -> None:
    """Raise AssertionError with the rule and both values, unless they are equal."""
    must(found == wanted, f"{rule}: wanted {wanted!r}, found {found!r}")


def expect(kind: type[T], found: object, rule: str) -> T:
    """Return `found` if it is of this kind, else raise AssertionError with the rule."""
    if isinstance(found, kind):
        return found
    raise AssertionError(f"{rule}: wanted {kind.__name__}, found {found!r}")


async def raises(kind: type[SoftstateError], call: Callable[[], Awaitable[object]], rule: str) -> None:
    """Raise AssertionError with the rule unless the call raises this error."""
    try:
        found = await call()
    except kind:
        return
    raise AssertionError(f"{rule}: wanted {kind.__name__}, it returned {found!r}")


async def put(store: Store, topic: str, cbor: bytes | None = b"\x01", **fields: Any) -> int:
    """Write one change that must be applied; return its version."""
    (verdict,) = (await store.publish([Write(topic, cbor, **fields)])).verdicts
    return expect(Applied, verdict, f"publishing {topic!r} with {fields} must be applied").version


async def refused(store: Store, kind: type[E], publish: Write, rule: str) -> E:
    """Write one change that must get this verdict; return it."""
    committed = await store.publish([publish])
    equal(committed.records, [], f"{rule}: nothing may be applied")
    return expect(kind, committed.verdicts[0], rule)


async def read_page(store: Store, query: Query) -> Page:
    """Read one page."""
    (page,) = await store.read([query])
    return expect(Page, page, f"{query} must be answered with a page")


async def state(store: Store) -> dict[str, Record]:
    """Read everything that is alive, in pages."""
    query = Query(prefixes={ALL: 0})
    found: dict[str, Record] = {}
    while True:
        page = await read_page(store, query)
        found.update({record.topic: record for record in page.records})
        if not page.more:
            return {topic: record for topic, record in found.items() if not record.deleted}
        query = next_query(query, page)


def next_query(query: Query, page: Page) -> Query:
    """Return the query for the page after `page`."""
    listed = page.position.revision if query.listed is None else query.listed
    return replace(query, after=page.next_after, listed=listed)


def names(records: Iterable[Record]) -> Sequence[tuple[str, int]]:
    """Name records by topic and version."""
    return [(record.topic, record.version) for record in records]


def off_history(position: Position) -> Sequence[Position]:
    """Return positions that the history which ends at `position` does not contain."""
    return (
        position.at(position.revision + 1),
        Position(position.epoch, "other", position.revision),
        Position("other", position.lineage, position.revision),
        position.at(0),
    )
