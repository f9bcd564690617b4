"""The page of results: each part is written between two markers of its own, so that the text around it stays."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import fill

from bench.models.part import Part
from softstate.errors import ConfigError

COLUMNS = 120

PAGE = Path(__file__).parents[2] / "softstate" / "docs" / "evidence.md"


def write(parts: list[Part], page: Path) -> None:
    """Replace what the page has of these parts. Raises `ConfigError` if it has no place for one."""
    text = page.read_text(encoding="utf-8")
    for part in parts:
        text = replaced(text, part.name, markdown(part), page)
    page.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, by: str, page: Path = PAGE) -> str:
    """Return a page with another text between the markers of a part."""
    begin, end = markers(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(f"{page} has no place for {name}: add the lines {begin} and {end} where it belongs")
    before, _, rest = text.partition(begin)
    _, _, behind = rest.partition(end)
    return f"{before}{begin}\n\n{by}\n\n{end}{behind}"


def shown(text: str, name: str) -> str:
    """Return what a page has of a part."""
    begin, end = markers(name)
    return text.partition(begin)[2].partition(end)[0].strip()


def markers(name: str) -> tuple[str, str]:
    """Return the lines that begin and end a part."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def markdown(part: Part) -> str:
    """Return a part as the page shows it, without the CPU that it took: the same seed gives the same text."""
    blocks = [_lines(f"*{part.about}*")]
    if part.compared:
        blocks.append(_table(part.comparison()))
    blocks += [_lines(f"Differs: {reason}.") for reason in part.reasons()]
    blocks += [f"{_capital(grid.title)}:\n\n{_table(grid.cells())}" for grid in part.grids]
    blocks += [_lines(f"**Broken:** {what}.") for what in part.broken]
    blocks += [_lines(f"{_capital(note)}.") for note in part.notes]
    command = part.command or f"python -m bench models --only {part.name}"
    blocks.append(f"Repeat it: `{command}` ({part.origin}).")
    return "\n\n".join(blocks)


def _table(lines: list[list[str]]) -> str:
    head, *rows = [[re.sub(r"\|", "\\|", cell) for cell in line] for line in lines]
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def _lines(text: str) -> str:
    return fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
