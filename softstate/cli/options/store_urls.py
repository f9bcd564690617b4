"""Names of stores: URLs that may hold a password, and files whose names may not be Unicode."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from softstate.cli.visible import visible


def path_of(url: str) -> Path | None:
    """Return the file of a store that is one."""
    scheme, _, rest = url.partition(":")
    return Path(rest) if scheme == "sqlite" and rest else None


def shown(url: str) -> str:
    """Return a store's URL without a password and without options, for people."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition(':')[0]}://…"
    user, _, hosts = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"{parts.scheme}://{name + '@' if name else ''}{hosts}{parts.path}" if parts.netloc else url


def same_store(one: str, other: str) -> bool:
    """Tell whether two URLs name one store, judging by the URLs alone."""
    first, second = path_of(one), path_of(other)
    if first is None or second is None:
        return one == other
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()


def plain(text: str) -> str:
    """Return a name that may hold a file's as text that any terminal takes."""
    return visible(os.fsencode(text).decode("utf-8", "backslashreplace"))
