"""The SQL that makes a store's tables and functions, which stands in files beside this one."""

from __future__ import annotations

import re
from importlib.resources import files

from softstate.store.postgres.connection import Connection


def source(name: str) -> bytes:
    """Return the text of one file, such as ``functions.sql``."""
    return files(__package__).joinpath(name).read_bytes()


CODE = ("cbor.sql", "functions.sql")
"""The files with our functions."""

_FUNCTION = re.compile(r"^CREATE FUNCTION (\w+)\((.*?)\)\s+(?:RETURNS|LANGUAGE)", re.MULTILINE | re.DOTALL)


def _signature(name: str, parameters: str) -> str:
    """Return a function as PostgreSQL tells it from others of its name: by the types of what it takes."""
    taken = [parameter.partition(" DEFAULT ")[0].split() for parameter in parameters.split(",") if parameter.strip()]
    return f"{name}({','.join(words[-1] for words in taken if words[0] != 'OUT')})"


SIGNATURES = frozenset(_signature(*found) for found in _FUNCTION.findall(b"\n".join(map(source, CODE)).decode()))
"""Our functions, such as ``delete(text,bigint)``, of layout 1 too. Others of these names are others'."""

_NUMBER = re.compile(r"softstate: functions, number ([0-9]+)")


def number_in(text: str | None) -> int:
    """Return the number of a set of functions, from its comment; sets of before there was one have none, and count 1.

    Also for the text of ``functions.sql``.
    """
    found = _NUMBER.search(text or "")
    return 1 if found is None else int(found[1])


NUMBER = number_in(source("functions.sql").decode())
"""The number of our set: a store with a lower one gets it when it is opened."""


def run(connection: Connection, *names: str, replacing: bool = False) -> None:
    """Run files, one after the other, within the caller's transaction. `replacing`: functions may be there already.

    Whether they are is not left to the files: one that another program has made in a schema would be lost.
    """
    for name in names:
        text = source(name)
        connection.execute(text.replace(b"\nCREATE FUNCTION", b"\nCREATE OR REPLACE FUNCTION") if replacing else text)
