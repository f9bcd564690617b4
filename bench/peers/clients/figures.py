"""Figures of one failure, from what applications noted and what was published. Without I/O.

An application is *unwarned* while it holds a value although a newer one was acknowledged, and what it was told does not
allow for that: its library told last that it is connected, or subscribed, or told nothing; or states an age that is
less than the time since that acknowledgement. The figure is the longest such time of one application and topic.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from bench.peers.clients.records import Application, Noted, Published, Told


class Span(NamedTuple):
    """A stretch of time."""

    begins_at: float
    ends_at: float


class Outdated(NamedTuple):
    """A stretch of time in which an application held a value of a topic, and a newer one had been acknowledged."""

    topic: str
    span: Span
    newer_at: float
    """The acknowledgement of the oldest one that it had not."""


def holds_at(application: Application, topic: str, number: int, since: float) -> float:
    """Return when, at or after a time, an application holds this number of a topic or a greater one; else infinity."""
    held = application.values.get(topic, ())
    if any(each.number >= number for each in held if each.at <= since):
        return since
    return next((each.at for each in held if each.number >= number), math.inf)


def told_at(application: Application, since: float) -> float:
    """Return when, after a time, an application was told first that what it holds may be old; else infinity."""
    return next((each.at for each in application.told if each.at >= since and each.current is False), math.inf)


def shares(times: Sequence[float], name: str) -> dict[str, float]:
    """Return the median and the greatest of some times; a time that is infinite counts."""
    ordered = sorted(times)
    return {f"{name}_p50_s": ordered[(len(ordered) - 1) // 2], f"{name}_all_s": ordered[-1]}


def outdated(application: Application, published: Sequence[Published], ends_at: float) -> Iterator[Outdated]:
    """Yield when an application held values that were not the newest, until the end of the observation."""
    topics: defaultdict[str, list[Published]] = defaultdict(list)
    for each in published:
        topics[each.topic].append(each)
    for topic, publishes in topics.items():
        numbers = [each.number for each in publishes]
        held = application.values.get(topic, ())
        for index, (at, number) in enumerate(held):
            until = held[index + 1].at if index + 1 < len(held) else ends_at
            missed = bisect_right(numbers, number)
            if missed < len(publishes) and publishes[missed].acknowledged_at < until:
                newer_at = publishes[missed].acknowledged_at
                yield Outdated(topic, Span(max(newer_at, at), until), newer_at)


def assured(told: Sequence[Told], topic: str, span: Span) -> Iterator[Span]:
    """Yield the stretches of a span in which an application was told last that a topic is current, or nothing."""
    current, begins_at = True, span.begins_at
    for each in told:
        if each.current is None or each.topic not in ("", topic) or each.at >= span.ends_at:
            continue
        if current and not each.current and each.at > begins_at:
            yield Span(begins_at, each.at)
        if each.current and not current:
            begins_at = max(each.at, span.begins_at)
        current = each.current
    if current and span.ends_at > begins_at:
        yield Span(begins_at, span.ends_at)


def unwarned_s(application: Application, published: Sequence[Published], ends_at: float) -> float:
    """Return the longest time for which an application was unwarned: see the module."""
    longest = 0.0
    for old in outdated(application, published, ends_at):
        if application.ages:
            longest = max(longest, too_low_s(application, old))
        else:
            longest = max([longest, *(end - begin for begin, end in assured(application.told, old.topic, old.span))])
    return longest


def too_low_s(application: Application, old: Outdated) -> float:
    """Return by how much, at most, an age that was stated while a value was old was less than it should be."""
    ages = application.ages
    first = bisect_right(ages, old.span.begins_at, key=lambda each: each.at)
    last = bisect_right(ages, old.span.ends_at, key=lambda each: each.at)
    return max((at - old.newer_at - age_s for at, age_s in ages[first:last] if at < old.span.ends_at), default=0.0)


def greatest_age(noted: Noted, since: float) -> dict[str, float]:
    """Return the greatest finite age that was stated after a time; nothing if none was."""
    ages = [age_s for each in noted.applications for at, age_s in each.ages if at >= since and age_s < math.inf]
    return {"stated_s": max(ages)} if ages else {}


def story(applications: Sequence[Application], since: float, most: int = 6) -> str:
    """Tell what applications were told after a time: each text, when it came first (median), and to how many."""
    first: defaultdict[str, list[float]] = defaultdict(list)
    for application in applications:
        texts: dict[str, float] = {}
        for each in application.told:
            if each.at >= since:
                texts.setdefault(each.text, each.at - since)
        for text, at in texts.items():
            first[text].append(at)
    told = sorted(first.items(), key=lambda each: median(each[1]))
    parts = [f"“{text}” at {median(at):.1f} s{_of(len(at), len(applications))}" for text, at in told[:most]]
    parts += [f"and {len(told) - most} more"] if len(told) > most else []
    return ", ".join(parts) or "nothing"


def _of(some: int, all_: int) -> str:
    return "" if some == all_ else f" ({some / all_:.0%})"


class Failure(NamedTuple):
    """One failure as it went. Times are of the monotonic clock.

    `began_at`: the kill, or the first lost packet; `over_at`: the server listens again, or packets pass. `ticks_from`
    is the first number of ``ticking`` that was published after that. `first` was published to ``still`` behind
    `over_at` (a kill), or behind `began_at` (a partition), and nothing after it.
    """

    began_at: float
    over_at: float
    ends_at: float
    ticks_from: int
    first: int
    published: Sequence[Published]


def figures_of(noted: Noted, failure: Failure) -> dict[str, float]:
    """Return the figures of a failure; times count from its begin (``told``), or from when it was over."""
    applications = noted.applications
    over = failure.over_at

    def after(topic: str, number: int) -> list[float]:
        return [holds_at(each, topic, number, over) - over for each in applications]

    dials = sum(failure.began_at <= at <= failure.ends_at for at in noted.dials)
    still = after("still", failure.first)
    return {
        **shares([told_at(each, failure.began_at) - failure.began_at for each in applications], "told"),
        **shares(after("ticking", failure.ticks_from), "tick"),
        **shares(still, "still"),
        "still_share": sum(at < math.inf for at in still) / len(still),
        "dials": dials / len(applications),
        "unwarned_s": max(unwarned_s(each, failure.published, failure.ends_at) for each in applications),
        **greatest_age(noted, failure.began_at),
    }


def known(applications: Sequence[Application], topic: str, number: int) -> float:
    """Return the share of applications whose newest number of a topic is at least this."""
    held = [each.values.get(topic, ()) for each in applications]
    return sum(bool(values) and values[-1].number >= number for values in held) / len(applications)
