"""The SQL that makes a store's tables and functions, which stands in files beside this one."""

from __future__ import annotations

import re
from importlib.resources import files

from softstate.store.postgres.connection import Connection


def source(name: str) -> bytes:
    """Return the text of one file, such as ``functions.sql``."""
    return files(__package__).joinpath(name).read_bytes()


FUNCTIONS = frozenset(
    re.findall(r"^CREATE FUNCTION (\w+)", (source("cbor.sql") + source("functions.sql")).decode(), re.MULTILINE)
)
"""The names of our functions, of layout 1 too."""


def run(connection: Connection, *names: str) -> None:
    """Run files, one after the other, within the caller's transaction."""
    for name in names:
        connection.execute(source(name))
