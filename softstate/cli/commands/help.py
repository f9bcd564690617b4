"""``softstate help``: print the guides and references that are shipped with it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from softstate.cli import exit_codes
from softstate.cli.exit_codes import USAGE, Failure

PACKAGE = Path(__file__).parents[2]

REFERENCES = {"protocol": "wire/PROTOCOL.md", "http": "wire/HTTP.md", "commands": "cli/README.md"}
"""Pages beside the guides of `softstate/docs`, by the names that they have here."""


def topics(package: Path = PACKAGE) -> Mapping[str, Path]:
    """Return the pages that are there, by name: the guides, then the references."""
    guides = {path.stem: path for path in sorted((package / "docs").glob("*.md"))}
    return guides | {name: path for name, place in REFERENCES.items() if (path := package / place).exists()}


async def command(topic: str | None = None, /) -> int:
    """Print a guide or a reference, such as clients or protocol; without a topic, the list of them.

    On a terminal it is shown page by page, by the program that PAGER names.

    :param topic: The page.
    """
    pages = topics()
    if topic is None:
        width = max(map(len, pages))
        print("\n".join(f"{name:<{width}}  {_title(path)}" for name, path in pages.items()))
        return exit_codes.OK
    path = pages.get(topic.lower())
    if path is None:
        nearest = difflib.get_close_matches(topic.lower(), pages, 1)
        guess = f" did you mean {nearest[0]}?" if nearest else ""
        hint = "softstate COMMAND --help shows the options of a command"
        raise Failure(f"there is no page {topic!r}:{guess} pages are {', '.join(pages)}; {hint}", USAGE)
    show(path.read_text(encoding="utf-8"))
    return exit_codes.OK


def show(text: str) -> None:
    """Print a page: on a terminal by the user's pager, which begins at its top."""
    if sys.stdout.isatty() and sys.stdin.isatty():
        import pydoc  # noqa: PLC0415 - only a person waits for it

        pydoc.pager(text)
    else:
        sys.stdout.write(text)


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return next((line.lstrip("# ").strip() for line in file if line.startswith("# ")), "")
