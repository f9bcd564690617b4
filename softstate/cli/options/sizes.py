"""Sizes of memory as people write them: ``512MiB``, ``2GiB``, ``1.5GB``, or a number of bytes."""

from __future__ import annotations

import re
from typing import Any

from softstate.errors import ConfigError

SIZE_BYTES_MAX = 2**50
"""Largest size: above it, it is a slip of the keyboard."""

_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_PATTERN = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?i?B|)")


def parse_size(text: str, name: str) -> int:
    """Read a size as whole bytes. Raises `ConfigError`, naming `name`."""
    found = _PATTERN.fullmatch(text.strip())
    if not found or found[2] not in _UNITS:
        raise ConfigError(f"{name} must be a size such as 512MiB, 2GiB or 1500MB, not {text[:32]!r}")
    size = float(found[1]) * _UNITS[found[2]]
    if size > SIZE_BYTES_MAX:
        raise ConfigError(f"{name} must be at most {SIZE_BYTES_MAX // 2**40}TiB, not {text[:32]!r}")
    return int(size)


def size(_type: Any, tokens: Any) -> int:
    """Convert a flag to bytes, for cyclopts; `tokens` is the one token that the user gave."""
    return parse_size(tokens[0].value, tokens[0].keyword or "the size")
