"""Knowledge with its age: what `Client.known` and `Client.read` return, and how `Stale` is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from softstate.errors import Stale
from softstate.model import Change, Value


@final
@dataclass(frozen=True, slots=True)
class Known:
    """A topic's `value` at `version`, as it was at most `age` seconds ago."""

    topic: str
    value: Value
    version: int
    age: float


def known_of(topic: str, change: Change | None, age: float) -> Known | None:
    """Return what is known of a topic; None if it has no value."""
    if change is None or change.deleted:
        return None
    return Known(topic, change.value, change.version, age)


def check_age(topic: str, age: float, max_age: float, what_next: str) -> None:
    """Raise `Stale` if an age is above what was asked for; `what_next` says how to get at something younger."""
    if age <= max_age and age < math.inf:
        return
    if age == math.inf:
        text = f"nothing proves how old the state of {topic!r} is"
        raise Stale(f"{text}: subscribe to it and wait until that is `synced`, or use `Client.read`", age)
    raise Stale(f"the state of {topic!r} may be {age:.1f} s old, and max_age is {max_age:g} s: {what_next}", age)
