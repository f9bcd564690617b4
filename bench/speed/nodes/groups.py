"""Groups of nodes: separate processes on one new store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from bench.measure.engines import Engine
from bench.measure.servers import Server, softstate_server

Groups: TypeAlias = Mapping[int, Sequence[Server]]
"""The nodes of each number of nodes."""


@contextmanager
def group(engine: Engine, count: int, name: str, *options: str) -> Iterator[Sequence[Server]]:
    """Run so many nodes on a new store in an engine."""
    with engine.store(name) as url, ExitStack() as stack:
        yield [stack.enter_context(softstate_server(*options, store=url)) for _ in range(count)]


def name_of(count: int) -> str:
    """Return the name of a candidate."""
    return f"{count} node{'s' if count > 1 else ''}"
