"""Durations as people write them: ``500ms``, ``60s``, ``10m``, ``1h``."""

from __future__ import annotations

import math
import re
from typing import Any

from softstate.errors import ConfigError

DURATION_MS_MAX = 366 * 24 * 3_600_000
"""Longest duration: above it, it is a slip of the keyboard."""

_UNITS_MS = {"ms": 1.0, "s": 1_000.0, "m": 60_000.0, "h": 3_600_000.0}
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_ms(text: str, name: str) -> int:
    """Read a duration as whole milliseconds, at least 1 unless it is zero. Raises `ConfigError`, naming `name`."""
    found = _PATTERN.fullmatch(text.strip())
    if not found:
        bare = f"; for seconds write {text.strip()}s" if _NUMBER.fullmatch(text.strip()) else ""
        raise ConfigError(f"{name} must be a duration such as 500ms, 60s, 10m or 1h, not {text[:32]!r}{bare}")
    ms = float(found[1]) * _UNITS_MS[found[2]]
    if ms > DURATION_MS_MAX:
        raise ConfigError(f"{name} must be at most {DURATION_MS_MAX // 3_600_000}h, not {text[:32]!r}")
    return math.ceil(ms)


def duration(_type: Any, tokens: Any) -> float:
    """Convert a flag to seconds, for cyclopts; `tokens` is the one token that the user gave."""
    return parse_ms(tokens[0].value, tokens[0].keyword or "the duration") / 1_000


def seconds_text(seconds: float | None) -> str:
    """Write an age for people: ``0.4 s``, ``12 s``, ``5 m``, ``3 h``, or ``unknown`` for None and infinity."""
    if seconds is None or math.isinf(seconds):
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} m" if seconds < 7200 else f"{seconds / 3600:.0f} h"
