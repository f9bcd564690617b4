"""The oracle's checks of permissions, on traces made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.testing.oracle.oracle import Oracle
from softstate.testing.trace import ClientEnded, KeyReplaced, MessageWritten, RightsChanged, TokenIssued, TraceEvent


def broken(*events: TraceEvent) -> list[str]:
    oracle = Oracle()
    for event in (RightsChanged(0.0, "a", ("t/",)), TokenIssued(0.0, "a", "T", 100.0), *events):
        oracle.see(event)
    return [violation.promise for violation in oracle.violations if violation.promise in PERMISSIONS]


PERMISSIONS = ("S12", "S13", "S14", "S15", "S16")


def said(at_s: float, op: str, **fields: Any) -> MessageWritten:
    """Make a message of the client."""
    return MessageWritten(at_s, 1, "a", "n", op, fields)


def told(at_s: float, op: str, **fields: Any) -> MessageWritten:
    """Make a message of the node."""
    return MessageWritten(at_s, 1, "n", "a", op, fields)


HELLO = said(1.0, "hello", token="T")
WELCOME = told(1.0, "welcome", session="s", resumed=False)


def push(at_s: float, topic: str = "t/1") -> MessageWritten:
    return told(at_s, "notify", topic=topic, version=1)


@pytest.mark.parametrize(
    ("events", "promises"),
    [
        ((HELLO, WELCOME, push(50.0)), []),
        ((HELLO, WELCOME, push(50.0, "u")), ["S13"]),
        ((HELLO, WELCOME, push(120.0)), ["S12"]),  # its token has ended
        ((HELLO, WELCOME, RightsChanged(10.0, "a", ()), push(60.0)), []),  # it has not renewed since
        ((HELLO, WELCOME, RightsChanged(10.0, "a", ()), said(11.0, "renew", id=1), push(11.1)), []),
        (
            (
                HELLO,
                WELCOME,
                RightsChanged(10.0, "a", ()),
                said(11.0, "renew", id=1),
                told(11.1, "renewed", id=1),
                push(11.2),
            ),
            ["S12"],
        ),
        ((HELLO, WELCOME, RightsChanged(10.0, "a", ()), told(40.0, "denied", names=["t/"]), push(40.1)), ["S12"]),
        ((said(1.0, "hello"), WELCOME), ["S15"]),
        ((said(1.0, "hello", token="forged"), WELCOME), ["S15"]),
        ((said(120.0, "hello", token="T"), told(120.0, "welcome", session="s", resumed=False)), ["S15"]),
        ((KeyReplaced(1.0, ("T",)), said(30.0, "hello", token="T"), told(30.0, "welcome", session="s")), ["S15"]),
        (
            (
                HELLO,
                WELCOME,
                TokenIssued(2.0, "b", "B", 100.0),
                said(3.0, "hello", token="B", session="s"),
                told(3.0, "welcome", session="s", resumed=True),
            ),
            ["S16"],
        ),
        ((ClientEnded(5.0, "a", "stopped", ()),), ["S14"]),
    ],
)
def test_what_breaks_a_promise_is_found(events: tuple[TraceEvent, ...], promises: list[str]) -> None:
    assert broken(*events) == promises


def test_a_world_without_rules_is_not_looked_at() -> None:
    oracle = Oracle()
    for event in (said(1.0, "hello"), WELCOME, push(500.0)):
        oracle.see(event)
    assert not [each for each in oracle.violations if each.promise in PERMISSIONS]
