"""The picture that `softstate top` draws: a line about all nodes, and a table of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from softstate.cli.commands.top.board import Row, together
from softstate.cli.options.durations import seconds_text
from softstate.cli.visible import visible

NODE_CHARS = 6
"""Characters of a node's id that are shown."""

# Wide enough for a terminal of 80 columns. SLOW counts clients that do not read as fast as values change.
COLUMNS = ("NODE", "ADDRESS", "SESS", "POLL", "DELIV/s", "PUB/s", "AGE p99", "max", "SLOW", "REPAIRS", "MiB")
_RIGHT_FROM = 2


def picture(rows: Sequence[Row]) -> Group:
    """Draw the nodes; nothing that a node says is taken for markup or an escape sequence."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for at, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if at >= _RIGHT_FROM else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style="" if row.up else "dim") for cell in cells(row)))
    away = [Text(visible(_absence(row)), style="red") for row in rows if not row.up]
    return Group(Text(headline(rows), style="bold"), Text(""), table, *away)


def headline(rows: Sequence[Row]) -> str:
    """Say in a line how all nodes are that have answered."""
    all_of = together(rows)
    store = "; ".join(all_of["stores"]) or "no store known"
    down = f" DOWN for {all_of['store_down']}" if all_of["store_down"] else ""
    modes = "  ".join(f"{mode} {count:,}" for mode, count in all_of["modes"].items() if count)
    return visible(
        f"softstate top  {all_of['nodes_up']} of {len(rows)} nodes  store {store}{down}"
        f"  revision {_count(all_of['revision'])}  sessions {all_of['sessions']:,}  polling {all_of['polling']:,}"
        f"  client age p99 {seconds_text(all_of['age_p99_s'])}, max {seconds_text(all_of['age_max_s'])}"
        + (f"  {modes}" if modes else "")
    )


def cells(row: Row) -> list[str]:
    """Write one node, a text for each of `COLUMNS`."""
    told = row.told
    name = str(told.get("node") or "?")[:NODE_CHARS]
    ages = [row.clients.get(each) for each in ("age_p99_s", "age_max_s")]
    return [
        visible(name),
        visible(row.url.partition("://")[2] or row.url),
        _count(told.get("sessions")),
        _count(told.get("polling")),
        *(_count(None if rate is None else round(rate)) for rate in row.rates.values()),
        *("-" if age is None else seconds_text(age) for age in ages),
        _count(told.get("congested")),
        _count(row.repairs),
        "-" if told.get("memory_bytes") is None else f"{told['memory_bytes'] / 2**20:,.0f}",
    ]


def _absence(row: Row) -> str:
    known = "never seen" if row.age_s is None else f"seen {seconds_text(row.age_s)} ago"
    return f"DOWN  {row.url}, {known}: {row.error}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
