"""Printing what something holds: one field a line for people, one object for programs."""

from __future__ import annotations

from typing import Any

from softstate.cli.terminal.values import line_text
from softstate.cli.visible import visible


def print_fields(fields: dict[str, Any], *, json: bool) -> None:
    """Print fields in their order; nested ones get their names joined by dots, lists one line for each item."""
    if json:
        print(line_text(fields))
        return
    rows = list(_rows(fields))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{visible(name):<{width}}  {visible(value)}")


def _rows(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in fields.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            rows += [(f"{prefix}{name}", str(item)) for item in value or ["none"]]
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
