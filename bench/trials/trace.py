"""Files of changes: the final state of one, and a writer of synthetic ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from softstate.cli.terminal.ndjson_lines import ChangeFile, Line
from softstate.wire.value import wrap_bytes


@dataclass(frozen=True)
class Trace:
    """The content of a file of changes: the number of lines, all topics, and the values at its end, as JSON."""

    lines: int
    topics: frozenset[str]
    final: dict[str, Any]


def read_trace(path: Path) -> Trace:
    """Read a file of changes and apply it. Raises `BadLine` and `OSError`."""
    final: dict[str, Any] = {}
    topics: set[str] = set()
    lines = 0
    for line in _lines(path):
        lines += 1
        topics.add(line.topic)
        if line.deleted:
            final.pop(line.topic, None)
        else:
            final[line.topic] = wrap_bytes(line.value)
    return Trace(lines, frozenset(topics), final)


def _lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as raw:
        file = ChangeFile(raw)
        while (batch := file.batch()) is not None:
            yield from batch


def write_trace(path: Path, changes: int, topics: int, seed: int) -> None:
    """Write a synthetic file of changes: a few topics change often, most rarely; one change in eight deletes."""
    random = Random(seed)
    names = [f"area-{number % 7}/part-{number % 31}/item-{number}" for number in range(topics)]
    weights = [1 / (rank + 1) for rank in range(topics)]
    alive: set[str] = set()
    lines = []
    for number, topic in enumerate(random.choices(names, weights, k=changes)):
        if topic in alive and random.random() < 1 / 8:
            alive.discard(topic)
            lines.append(json.dumps({"topic": topic, "deleted": True}))
        else:
            alive.add(topic)
            lines.append(json.dumps({"topic": topic, "value": {"change": number, "text": "x" * random.randrange(64)}}))
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
