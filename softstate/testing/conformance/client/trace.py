"""A trace as a file: NDJSON, the header in the first line, then a line for each step, and for each look."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from softstate.testing.conformance.client.form import Json

FORMAT = 1
"""The version of the format; a file with another is not read."""

FOLDER = Path(__file__).parent / "traces"
"""The committed traces of the machine, level 1."""

HANDING = FOLDER.with_name("handing")
"""The traces of level 2: what an application is handed."""


@dataclass(slots=True)
class Trace:
    """One trace. `header` has its name, its machine's options and what it covers; `lines` are its steps and looks."""

    header: Json
    lines: list[Json] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name, which is that of its file below `FOLDER`, without the ending."""
        return str(self.header["trace"])

    def text(self) -> str:
        """Return the content of its file."""
        return "".join(
            json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
            for line in (self.header, *self.lines)
        )

    @classmethod
    def of(cls, text: str) -> Trace:
        """Read the content of a file. Raises `ValueError` if it is of another version of the format."""
        header, *lines = map(json.loads, text.splitlines())
        if header.get("format") != FORMAT:
            raise ValueError(f"a trace of format {header.get('format')}, this reads {FORMAT} only: update softstate")
        return cls(header, lines)


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Return where a trace is kept."""
    return folder / f"{name}.ndjson"


def load_all(folder: Path = FOLDER) -> list[Trace]:
    """Read every trace of a folder, in the order of their names."""
    return [Trace.of(path.read_text("utf-8")) for path in sorted(folder.rglob("*.ndjson"))]


def write_all(traces: Iterable[Trace], folder: Path = FOLDER) -> tuple[list[str], list[str]]:
    """Make a folder hold these traces and no others; return the names that were written, and those removed."""
    written, wanted = [], set()
    for trace in traces:
        path, text = path_of(trace.name, folder), trace.text()
        wanted.add(path)
        if path.exists() and path.read_text("utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        written.append(trace.name)
    removed = [path for path in sorted(folder.rglob("*.ndjson")) if path not in wanted]
    for path in removed:
        path.unlink()
    return written, [path.relative_to(folder).with_suffix("").as_posix() for path in removed]
