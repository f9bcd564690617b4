"""The list of events is closed: the code logs what it names, and nothing else."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import softstate
from softstate.server.observe.log_events import EVENTS, table

ROOT = Path(softstate.__file__).parent
OF_A_NODE = ("server", "store", "cli/processes")
TWO_LEVELS = {"node drains": {"info", "error"}}


def logged() -> Iterator[tuple[str, str]]:
    """Yield level and name of each line that a node may log; of one that is put together, each name that it may be."""
    for folder in OF_A_NODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
                    continue
                if call.func.attr not in ("debug", "info", "warning", "error", "exception", "critical"):
                    continue
                if "log" not in ast.unparse(call.func.value):
                    continue
                name = call.args[0]
                if isinstance(name, ast.JoinedStr):
                    begin = ast.literal_eval(name.values[0])
                    assert begin == "TLS ", "names are literal, so that they can be searched for"
                    yield from ((call.func.attr, event) for event in EVENTS if event.startswith(begin))
                else:
                    yield call.func.attr, ast.literal_eval(name)


def test_the_code_logs_what_the_list_names_at_its_level() -> None:
    found = defaultdict(set)
    for level, name in logged():
        found[name].add(level)
    assert {name: TWO_LEVELS.get(name, {event.level}) for name, event in EVENTS.items()} == found


def test_every_event_has_words() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) == len(EVENTS)
    assert all(event.help.endswith(".") and "|" not in name + event.help for name, event in EVENTS.items())
