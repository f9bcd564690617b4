"""The oracle's checks of revocations through the store, on traces made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.testing.oracle.oracle import Oracle
from softstate.testing.oracle.revocations import HEARD_S
from softstate.testing.trace import (
    ChangeCommitted,
    FaultInjected,
    HistoryReplaced,
    LineageCommitted,
    MessageWritten,
    RevocationNamed,
    TokenIssued,
    TraceEvent,
)

REVOKED = "$softstate/revoked/a"


def commit(at_s: float, revision: int, topic: str, value: Any = 1, *, deleted: bool = False) -> ChangeCommitted:
    return ChangeCommitted(at_s, revision, topic, value, deleted, None)


def said(at_s: float, op: str, **fields: Any) -> MessageWritten:
    """Make a message of the client."""
    return MessageWritten(at_s, 1, "a", "n", op, fields)


def told(at_s: float, op: str, revision: int = 0, **fields: Any) -> MessageWritten:
    """Make a message of the node, with a position."""
    fields["position"] = {"epoch": "e", "lineage": "l", "revision": revision}
    return MessageWritten(at_s, 1, "n", "a", op, fields)


def push(at_s: float, version: int) -> MessageWritten:
    return told(at_s, "notify", topic="t", version=version)


def page(at_s: float, version: int, op: str = "polled") -> MessageWritten:
    return told(at_s, op, id=1, changes=[{"topic": "t", "version": version}])


BEFORE = (
    LineageCommitted(0.0, 1, "e", "l"),
    TokenIssued(0.0, "a", "T", 1_000.0),
    RevocationNamed(10.0, REVOKED, "a", None),
    commit(5.0, 2, "t"),
)
HELLO = said(1.0, "hello", token="T")
WELCOME = told(1.0, "welcome", 1, session="s", resumed=False)
REVOKE = (commit(10.0, 3, REVOKED, {"before": 10.0}), commit(10.0, 4, "t"))
NEW = TokenIssued(11.0, "a", "U", 1_000.0)
UNDO = commit(20.0, 5, REVOKED, None, deleted=True)
AT_ONCE, IN_TIME, LATE = 10.0, 10.0 + HEARD_S, 12.0 + HEARD_S


def broken(*events: TraceEvent) -> list[str]:
    oracle = Oracle()
    for event in (*BEFORE, HELLO, WELCOME, *events):
        oracle.see(event)
    return [each.promise for each in oracle.violations if each.promise in ("S12", "S15")]


@pytest.mark.parametrize(
    ("events", "promises"),
    [
        ((push(5.0, 2), *REVOKE), []),
        ((*REVOKE, push(LATE, 2)), []),  # it has waited
        ((*REVOKE, push(AT_ONCE, 4)), ["S12"]),
        ((*REVOKE, NEW, said(11.0, "auth", id=1, token="U"), push(12.0, 4)), []),
        ((*REVOKE, TokenIssued(9.9, "a", "U", 99.0), said(11.0, "auth", id=1, token="U"), push(12.0, 4)), ["S12"]),
        ((*REVOKE, TokenIssued(9.9, "b", "U", 99.0), said(11.0, "hello", token="U"), push(12.0, 4)), []),
        ((*REVOKE, UNDO, push(21.0, 4)), []),
        ((*REVOKE, page(IN_TIME, 4)), []),
        ((*REVOKE, page(LATE, 4)), ["S12"]),
        ((*REVOKE, page(LATE, 2)), []),
        ((*REVOKE, FaultInjected(9.0, "read_slowly", "a 1 s"), page(LATE, 4)), []),
        ((*REVOKE, FaultInjected(9.0, "clock_rate", "n 0.5"), page(LATE, 4)), []),
        ((*REVOKE, FaultInjected(LATE, "thaw", "n"), page(LATE, 4)), []),
        ((*REVOKE, told(11.0, "renewed", 3, id=1), page(11.5, 4)), []),
        ((*REVOKE, told(11.0, "renewed", 3, id=1), page(12.5, 4)), ["S12"]),
        ((*REVOKE, told(11.0, "beat", 4), page(12.5, 4, "subscribed")), ["S12"]),
        ((*REVOKE, told(11.0, "renewed", 2, id=1), page(12.5, 4)), []),
        ((*REVOKE, told(11.0, "renewed", 3, id=1, store="down"), page(12.5, 4)), []),
        ((*REVOKE, said(11.0, "request", token="T"), page(LATE, 4, "answer")), ["S12"]),
        ((*REVOKE, NEW, said(11.0, "request", token="U"), page(LATE, 4, "answer")), []),
        ((*REVOKE, told(11.0, "welcome", 4, session="s", resumed=True), push(IN_TIME, 4)), []),  # a replay
        ((*REVOKE, told(11.0, "welcome", 4, session="s", resumed=True), push(LATE, 4)), ["S12"]),
        ((*REVOKE, told(11.0, "beat", 4), HELLO, WELCOME), []),
        (
            (*REVOKE, told(11.0, "beat", 4), said(13.0, "hello", token="T"), told(13.1, "welcome", 4, session="r")),
            ["S15"],
        ),
    ],
)
def test_what_breaks_a_promise_is_found(events: tuple[TraceEvent, ...], promises: list[str]) -> None:
    assert broken(*events) == promises


def test_one_token_is_revoked_and_no_other() -> None:
    named = RevocationNamed(10.0, "$softstate/revoked/T", "a", "T")
    revoke = (commit(10.0, 3, named.topic, {}), commit(10.0, 4, "t"))
    assert broken(named, *revoke, push(11.0, 4)) == ["S12"]
    assert broken(named, *revoke, TokenIssued(0.0, "a", "U", 99.0), said(11.0, "hello", token="U"), push(11.0, 4)) == []


def test_a_revocation_ends_with_its_history() -> None:
    gone = HistoryReplaced(15.0, "restored", "e", 2, ((1, "l"),), (("t", 2, False),))
    again = (LineageCommitted(15.0, 3, "e", "m"), commit(15.0, 4, "t"))
    assert broken(*REVOKE, gone, *again, push(16.0, 4)) == []


def test_one_that_comes_back_with_a_backup_is_new_to_nodes() -> None:
    back = HistoryReplaced(30.0, "restored", "e", 4, ((1, "l"),), (("t", 4, False), (REVOKED, 3, False)))
    assert broken(*REVOKE, UNDO, back, push(31.0, 4)) == []
    assert broken(*REVOKE, UNDO, back, push(32.0 + HEARD_S, 4)) == ["S12"]


def test_a_change_of_another_history_is_none_that_came_later() -> None:
    lost = commit(6.0, 4, "t", "lost")
    replaced = HistoryReplaced(8.0, "restored", "e", 2, ((1, "l"),), (("t", 2, False),))
    events = (lost, replaced, LineageCommitted(8.0, 3, "e", "m"), commit(10.0, 5, REVOKED, {}), commit(10.0, 6, "t"))
    assert broken(*events, push(11.0, 4)) == []
    assert broken(*events, push(11.0, 6)) == ["S12"]
