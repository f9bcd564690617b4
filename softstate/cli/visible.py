"""Text of others, made safe to show: no character that a terminal obeys, hides or reorders.

A topic or a value may hold an escape sequence, a right-to-left override or a line separator, which would fake a line
of `softstate watch`. Where people read, all of Unicode's category C (control, format, surrogate, private, unassigned)
and the two separators of lines are written as JSON writes them, so a value shown this way is still JSON.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

CHARACTERS_KEPT = 4_096
"""Different characters beyond ASCII whose escape is remembered."""

_ASCII_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OTHERS = re.compile(r"[^\x20-\x7e]")
_FOR_PROGRAMS = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """Return text for people, with what must not reach a terminal as JSON's escapes."""
    if text.isascii():
        return _ASCII_CONTROL.sub(_escape, text)
    return _OTHERS.sub(_shown, text)


def for_programs(json: str) -> str:
    """Return JSON for programs: valid as it was, and no control character or line end that JSON itself would allow."""
    return json if json.isascii() and "\x7f" not in json else _FOR_PROGRAMS.sub(_escape, json)


def _escape(found: re.Match[str]) -> str:
    return _escaped(found[0])


def _shown(found: re.Match[str]) -> str:
    return _kept_or_escaped(found[0])


@lru_cache(CHARACTERS_KEPT)
def _kept_or_escaped(character: str) -> str:
    return _escaped(character) if unicodedata.category(character) in _HIDDEN else character


def _escaped(character: str) -> str:
    """Write one character as JSON does: beyond the first plane as two surrogates."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
