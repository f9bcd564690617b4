"""``softstate version``: what runs here, for a report of a fault."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

from softstate.cli import exit_codes
from softstate.cli.options.nodes import AsJson
from softstate.cli.terminal.values import line_text

PACKAGES = ("trio", "msgspec", "cbor2", "httptools", "trio-websocket", "coredis", "psycopg", "joserfc")
"""Packages of others on which behaviour and speed depend; those that are not installed are left out."""


async def command(*, json: AsJson = False) -> int:
    """Print the versions of softstate, Python, the system and what it is built on.

    :param json: Print them as one JSON object.
    """
    found = {
        "softstate": _version("softstate") or "not installed: it runs from a folder",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        **{name: installed for name in PACKAGES if (installed := _version(name))},
    }
    width = max(map(len, found))
    print(line_text(found) if json else "\n".join(f"{name:<{width}}  {text}" for name, text in found.items()))
    return exit_codes.OK


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
