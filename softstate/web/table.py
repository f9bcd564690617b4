"""The machine's table for JavaScript, written from the literal that Python runs.

``python -m softstate.web.table`` writes it; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from softstate.client.machine.table import IGNORED, ROWS

TABLE_JS = Path(__file__).with_name("machine") / "table.js"
IGNORED_JS = Path(__file__).with_name("machine") / "ignored.js"

_HEAD = "// Generated from softstate/client/machine/table.py by `python -m softstate.web.table`: do not edit.\n\n"


def table_js() -> str:
    """Return the text of `TABLE_JS`: the rows, as modes, triggers, the next mode (null: the same), actions."""
    rows = [
        [list(modes), [trigger.name for trigger in triggers], to, [action.__name__ for action in actions]]
        for modes, triggers, to, actions in ROWS
    ]
    kind = "/** @type {[modes: string[], triggers: string[], to: string | null, actions: string[]][]} */\n"
    return f"{_HEAD}{kind}export const ROWS = [\n{_lines(rows)}];\n"


def ignored_js() -> str:
    """Return the text of `IGNORED_JS`: why a trigger does nothing in a mode. Tests read it; no page loads it."""
    reasons = [[mode, trigger.name, reason] for (mode, trigger), reason in IGNORED.items()]
    kind = "/** @type {[mode: string, trigger: string, reason: string][]} */\n"
    return f"{_HEAD}{kind}export const IGNORED = [\n{_lines(reasons)}];\n"


def write() -> None:
    """Write both files."""
    TABLE_JS.write_text(table_js())
    IGNORED_JS.write_text(ignored_js())


def _lines(rows: Iterable[object]) -> str:
    return "".join(f"  {json.dumps(row)},\n" for row in rows)


if __name__ == "__main__":
    write()
