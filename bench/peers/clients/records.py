"""Notes of applications, read from the lines of their drivers; and publishes meanwhile. Without I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Held(NamedTuple):
    """From a time on, an application held a number."""

    at: float
    number: int


class Told(NamedTuple):
    """One thing that an application was told. `current`: whether it may take what it holds for current from now on.

    None if that says nothing of it. `topic`: of which topic alone, "" for all.
    """

    at: float
    text: str
    current: bool | None
    topic: str = ""


class Age(NamedTuple):
    """The age that a client stated, in seconds; infinite if nothing bounds it."""

    at: float
    age_s: float


class Published(NamedTuple):
    """One publish, from its request, the last one of several, to its acknowledgement."""

    topic: str
    number: int
    asked_at: float
    acknowledged_at: float


@dataclass(frozen=True, slots=True)
class Application:
    """All that one application noted, in order. `ages` is empty if its library states none."""

    values: Mapping[str, Sequence[Held]]
    told: Sequence[Told]
    ages: Sequence[Age] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """The answer of a driver to ``tell``: its applications, and the times at which any of them dialled."""

    applications: Sequence[Application]
    dials: Sequence[float]


def noted_of(answer: Mapping[str, Any]) -> Noted:
    """Read the answer of a driver. Raises `ValueError` if it is none."""
    try:
        return Noted([_application_of(each) for each in answer["applications"]], list(map(float, answer["dials"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the driver did not answer with what its applications noted: {error!r}") from None


def _application_of(each: Mapping[str, Any]) -> Application:
    values = {topic: [Held(at, number) for at, number in held] for topic, held in each["values"].items()}
    told = [Told(at, text, current, topic or "") for at, text, current, topic in each["told"]]
    return Application(values, told, list(_ages_of(each["ages"])))


def _ages_of(ages: Iterable[tuple[float, float | None]]) -> Iterable[Age]:
    """Read ages; JavaScript writes null for an infinite number."""
    return (Age(at, math.inf if age_s is None else age_s) for at, age_s in ages)
