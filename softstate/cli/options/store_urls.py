"""Names of stores: URLs that may hold a password, and files whose names may not be Unicode."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from softstate.cli.visible import visible
from softstate.errors import ConfigError


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
    """Tell whether two URLs name one store, judging by the URLs alone. Raises `ConfigError` as `status_of` does."""
    first, second = path_of(one), path_of(other)
    if first is None or second is None:
        return one == other
    found, also = status_of(first), status_of(second)
    if found is not None and also is not None:
        return os.path.samestat(found, also)
    return os.path.realpath(first) == os.path.realpath(second)


def status_of(path: str | Path) -> os.stat_result | None:
    """Return the status of the file at a path, None if there is none.

    Raises `ConfigError` if that cannot be told: a name that is too long, links in a circle, a directory that may not
    be searched, or a relative path in a directory that is gone.
    """
    if not Path(path).is_absolute():
        _check_current_directory()
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ConfigError(
            f"cannot look for {path}: {error.strerror}; let this user search the directories in it, or name another"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot look for {path}: {getattr(error, 'strerror', error)}; name another file") from None


def _check_current_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"the current directory cannot be used: {error.strerror}; change to another, or name files by whole paths"
        ) from None


def check_file_of(url: str) -> None:
    """Raise `ConfigError` if a store is a file that cannot be looked for, or SQLite's files beside it cannot."""
    path = path_of(url)
    if path is not None:
        # For their errors alone: a name may be too long.
        status_of(path)
        status_of(f"{path}-journal")


def check_ordinary(path: Path, found: os.stat_result) -> None:
    """Raise `ConfigError` unless what was found at a path is a file that holds data: no directory, device or pipe."""
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is a directory: name a file")
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is a device, a pipe or a socket: name a file")


def plain(text: str) -> str:
    """Return a name that may hold a file's as text that any terminal takes."""
    return visible(os.fsencode(text).decode("utf-8", "backslashreplace"))
