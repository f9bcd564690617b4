"""Names: topics and prefixes.

A *topic* names one piece of state; a *prefix* (a topic followed by ``/``) stands for every topic below it, and ``/``
for all but those that begin with ``$``, which only a name that spells their first segment reaches; a *name* is either.
A store makes no such difference: to it ``/`` is everything.
"""

from __future__ import annotations

import re
from collections.abc import Container

from softstate.errors import Invalid

TOPIC_BYTES_MAX = 255
"""Longest topic, in bytes of UTF-8."""

ALL = "/"
"""The prefix that stands for every topic, but those that are `SPELT`."""

SPELT = "$"
"""The beginning of topics that ``/`` does not reach."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_topic(name: object, field: str = "topic") -> str:
    """Return `name` if it is a valid topic, else raise `Invalid`, naming `field` and the rule that was broken."""
    if not isinstance(name, str):
        raise Invalid(f"{field} must be text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{field} must be valid Unicode (it holds a lone surrogate)") from None
    if not 1 <= size <= TOPIC_BYTES_MAX:
        raise Invalid(f"{field} must be 1 to {TOPIC_BYTES_MAX} bytes of UTF-8, this one has {size}")
    if _CONTROL.search(name):
        raise Invalid(f"{field} must not hold control characters")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise Invalid(f"{field} must not begin or end with '/', nor hold an empty, '.' or '..' segment: {name!r}")
    return name


def is_topic(name: object) -> bool:
    """Tell whether `name` is a valid topic."""
    try:
        check_topic(name)
    except Invalid:
        return False
    return True


def check_prefix(name: object, field: str = "prefix") -> str:
    """Return `name` if it is a valid prefix (``/``, or a topic followed by ``/``), else raise `Invalid`."""
    if name == ALL:
        return ALL
    if not isinstance(name, str) or not name.endswith("/"):
        raise Invalid(f"{field} must be '/' or a topic followed by '/', such as 'orders/'")
    check_topic(name[:-1], field)
    return name


def is_prefix(name: str) -> bool:
    """Tell whether a valid name is a prefix."""
    return name.endswith("/")


def covers(name: str, topic: str) -> bool:
    """Tell whether `name` (a topic or a prefix) covers `topic` in a store."""
    return name in (topic, ALL) or (name[-1] == "/" and topic.startswith(name))


def covered(names: Container[str], topic: str) -> bool:
    """Tell whether a subscription to one of `names` covers `topic`."""
    return topic in names or any(prefix in names for prefix in reaching(topic))


def prefixes_of(topic: str) -> list[str]:
    """List every prefix that covers `topic` in a store, the widest first."""
    found = [ALL]
    at = topic.find("/")
    while at >= 0:
        found.append(topic[: at + 1])
        at = topic.find("/", at + 1)
    return found


def reaching(topic: str) -> list[str]:
    """List every prefix of which a subscription covers `topic`, the widest first."""
    found = prefixes_of(topic)
    return found[1:] if topic[:1] == SPELT else found
