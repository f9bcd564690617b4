"""Options that the token commands share, and writing a key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from softstate.auth.patterns import check_pattern
from softstate.errors import ConfigError

DEFAULT_ISSUER = "local"
DEFAULT_AUDIENCE = "softstate"

RESERVED_CLAIMS = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "cnf", "softstate", "groups"})
"""Claims that an option of another name sets, or none."""

Read: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--read", negative=(), metavar="PATTERN", show_default=False, help="May read this; repeated."),
]
Write: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--write", negative=(), metavar="PATTERN", show_default=False, help="May publish this; repeated."),
]
Groups: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--group", negative=(), metavar="NAME", show_default=False, help="Is of this group; repeated."),
]
Claims: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        name="--claim", negative=(), metavar="NAME=TEXT", show_default=False, help="Has this claim besides; repeated."
    ),
]
PolicyPath: TypeAlias = Annotated[
    Path | None, Parameter(name="--auth", metavar="FILE", help="The policy file, as for `softstate serve`.")
]


def patterns_of(texts: Sequence[str], option: str) -> list[str]:
    """Return patterns that are checked. Raises `Invalid`, naming the option."""
    return [check_pattern(text, option) for text in texts]


def claims_of(texts: Sequence[str]) -> dict[str, object]:
    """Return the claims of ``--claim``. Raises `ConfigError`."""
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--claim must be NAME=TEXT, not {text[:64]!r}")
        if name in RESERVED_CLAIMS or name in found:
            raise ConfigError(f"--claim {name}: an option of its own sets it, or it is there twice")
        found[name] = value
    return found


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone may read. Raises `ConfigError`, also if there is one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: it was left as it is") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot make {path}: {getattr(error, 'strerror', error)}") from None
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
