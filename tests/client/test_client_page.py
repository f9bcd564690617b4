"""CLIENT.md draws the machine's table: the chart is generated from it, and compared.

``python tests/client/test_client_page.py`` prints the chart.
"""

from __future__ import annotations

import re
from pathlib import Path

from softstate.client.machine.table import MODES, TABLE
from softstate.client.machine.triggers import Trigger

PAGE = Path(__file__).parents[2] / "softstate" / "client" / "CLIENT.md"


def chart() -> str:
    """Draw every row that leads to another mode; rows of one pair of modes share an arrow."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    for mode in MODES:
        by_target: dict[str, list[str]] = {}
        for trigger in Trigger:
            row = TABLE.get((mode, trigger))
            if row is not None and row.to not in (None, mode):
                by_target.setdefault(str(row.to), []).append(trigger.name.lower())
        lines += [f"    {mode} --> {to}: {', '.join(triggers)}" for to, triggers in by_target.items()]
    return "\n".join(lines)


def test_the_chart_is_the_table() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert drawn == chart()


def test_every_mode_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page.partition("## Modes")[2].partition("##")[0], re.MULTILINE) == list(MODES)


if __name__ == "__main__":
    print(chart())
