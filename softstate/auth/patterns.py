"""Patterns: which names a grant reaches.

A pattern is written like a name. A topic (``orders/42``) stands for itself, a prefix (``orders/``) for every topic
below it, ``/`` for all. A segment ``*`` stands for any one segment, and ``{sub}``, ``{iss}`` and ``{claim:org}`` for a
value of the identity, which is one whole segment or makes the pattern void.

A first segment that begins with ``$`` is reserved: only a pattern that spells it covers it, not ``/``, nor ``*``, nor a
value of the identity. There are no patterns that take something away, so a name is covered if one pattern covers all of
it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from softstate.errors import Invalid
from softstate.names import ALL, check_prefix, check_topic, prefixes_of

ANY = "*"
"""The segment that stands for any one segment."""

SUBJECT = "\0sub"
"""The subject in a pattern that is made for all subjects alike. It is known by being this very object: a value that is
spelt like it is no valid segment."""

_VALUE = re.compile(r"\{(sub|iss|claim:[^{}/]+)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern without values to fill: `segments` must agree, and if it is a prefix, at least one more follows."""

    segments: tuple[str, ...]
    prefix: bool

    def __str__(self) -> str:
        return "/".join(self.segments) + ("/" if self.prefix else "")

    @property
    def is_name(self) -> bool:
        """Tell whether this pattern stands for exactly what a name stands for."""
        return ANY not in self.segments

    def covers(self, other: Pattern) -> bool:
        """Tell whether every topic that `other` reaches is reached by this pattern too."""
        count = len(self.segments)
        if self.prefix:
            if len(other.segments) < count + (not other.prefix):
                return False
        elif other.prefix or len(other.segments) != count:
            return False
        if not count:
            return not (other.segments and other.segments[0].startswith("$"))
        return all(map(_covers, self.segments, other.segments)) and not (
            self.segments[0] == ANY and other.segments[0].startswith("$")
        )

    def within(self, other: Pattern) -> Pattern | None:
        """Return the pattern of all topics that both reach, None if there are none."""
        short, long = sorted((self, other), key=lambda pattern: len(pattern.segments))
        if len(short.segments) == len(long.segments):
            if short.prefix != long.prefix:
                return None
        elif not short.prefix:
            return None
        merged = []
        for one, another in zip(short.segments, long.segments, strict=False):
            if not (_covers(one, another) or _covers(another, one)):
                return None
            merged.append(another if one == ANY else one)
        met = Pattern((*merged, *long.segments[len(merged) :]), long.prefix)
        return met if short.covers(met) and long.covers(met) else None


def pattern_of(name: str) -> Pattern:
    """Return the pattern that stands for exactly what a valid name stands for; ``*`` in it stands for any segment."""
    if name == ALL:
        return Pattern((), prefix=True)
    prefix = name.endswith("/")
    return Pattern(tuple((name[:-1] if prefix else name).split("/")), prefix)


def check_pattern(text: object, field: str = "pattern") -> str:
    """Return `text` if it is a pattern, which may have values to fill; else raise `Invalid`, naming `field`."""
    text = check_prefix(text, field) if isinstance(text, str) and text.endswith("/") else check_topic(text, field)
    for segment in text.split("/"):
        if ("*" in segment and segment != ANY) or (set("{}") & set(segment) and not _VALUE.fullmatch(segment)):
            raise Invalid(
                f"{field}: '*', '{{sub}}', '{{iss}}' and '{{claim:NAME}}' each stand for one whole segment,"
                f" which {segment!r} is not"
            )
    return text


def fill(text: str, value_of: Callable[[str], object]) -> Pattern | None:
    """Return a checked pattern with its values, each asked for as ``sub``, ``iss`` or ``claim:NAME``.

    Returns None if one of them is not a valid segment, or would stand first and begin with ``$``: the pattern is void.
    A value is never a wildcard, so one that is ``*`` makes it void too. `SUBJECT` stands for a valid one.
    """
    pattern = pattern_of(text)
    if "{" not in text:
        return pattern
    filled: list[str] = []
    for segment in pattern.segments:
        if (match := _VALUE.fullmatch(segment)) is None:
            filled.append(segment)
            continue
        value = value_of(match[1])
        if value is SUBJECT:
            filled.append(SUBJECT)
            continue
        if not isinstance(value, str) or "/" in value or value == ANY or (not filled and value.startswith("$")):
            return None
        filled.append(value)
    try:
        check_topic("/".join(["s" if segment is SUBJECT else segment for segment in filled]))
    except Invalid:
        return None
    return Pattern(tuple(filled), pattern.prefix)


def values_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the values, other than ``sub``, that checked patterns ask for."""
    return frozenset({match[1] for text in texts if "{" in text for match in _VALUE.finditer(text)} - {"sub"})


def least(patterns: Iterable[Pattern]) -> tuple[Pattern, ...]:
    """Return the patterns, in order of their text, without those that another one of them covers."""
    patterns = set(patterns)
    if len(patterns) < 2:
        return tuple(patterns)
    names: dict[str, Pattern] = {}
    wild: list[Pattern] = []
    for pattern in sorted(patterns, key=lambda pattern: len(pattern.segments)):
        if pattern.is_name:
            names[str(pattern)] = pattern
        elif not any(other.covers(pattern) for other in wild):
            wild = [other for other in wild if not pattern.covers(other)]
            wild.append(pattern)
    kept = [pattern for pattern in wild if not _within_any(pattern, names)]
    kept += [
        pattern
        for pattern in names.values()
        if not _within_any(pattern, names) and not any(other.covers(pattern) for other in wild)
    ]
    return tuple(sorted(kept, key=str))


def _within_any(pattern: Pattern, names: Mapping[str, Pattern]) -> bool:
    """Tell whether one of these prefixes, another than the pattern itself, covers it."""
    text = str(pattern)
    found = (names.get(prefix) for prefix in prefixes_of(text) if prefix != text)
    return any(other is not None and other.covers(pattern) for other in found)


def _covers(segment: str, other: str) -> bool:
    return segment in (ANY, other)
