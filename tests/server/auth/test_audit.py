"""The audit log: what it names, and how few lines anybody can cause."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from softstate.auth.identity import NOTHING, Identity, Why, refused
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.auth.remembering import FORGOTTEN_FRACTION
from softstate.errors import Unauthenticated
from softstate.server.auth.audit import DIGEST_SHOWN, EVERY_S, KINDS_KEPT, LINES_AT_ONCE, LINES_PER_S, Audit
from softstate.server.auth.gate import NodeGate
from tests.kit.fake_node import FakeNode
from tests.kit.rules_gate import RulesGate

U1 = Identity("https://id", "u1", NOTHING)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_names_the_check_and_no_token() -> None:
    token = "a.secret.token"
    with capture_logs() as lines:
        Audit(Clock()).refused(refused(Why.SIGNATURE, "the signature is wrong"), token, "192.0.2.1")
    (line,) = lines
    assert line["peer"] == "192.0.2.1"
    assert (line["event"], line["why"]) == ("credentials refused", "signature")
    assert line["because"] == "the signature is wrong"
    assert len(line["token"]) == DIGEST_SHOWN
    assert "secret" not in repr(line)


def test_a_principal_is_named_or_hashed() -> None:
    for hashed, shown in ((False, "u1 of https://id"), (True, U1.digest)):
        with capture_logs() as lines:
            Audit(Clock(), hashed=hashed).denied(U1, "read", ["orders/", "b"])
        assert [(line["who"], line["action"], line["name"], line["names"]) for line in lines] == [
            (shown, "read", "orders/", 2)
        ]
    with capture_logs() as lines:
        Audit(Clock(), hashed=True).denied(Identity("", "", NOTHING), "write", ["a"])
    assert lines[0]["who"] == "anyone"


def test_there_is_one_line_a_second_which_tells_how_many_were_left_out() -> None:
    clock = Clock()
    audit = Audit(clock)
    with capture_logs() as lines:
        for _ in range(5):
            audit.denied(U1, "read", ["a"])
        audit.denied(Identity("https://id", "u2", NOTHING), "read", ["a"])
        audit.refused(refused(Why.EXPIRED, "over"), None)
        clock.now = EVERY_S
        audit.denied(U1, "read", ["b"])
        clock.now = 2 * EVERY_S
        audit.denied(U1, "read", ["c"])
    assert [(line["event"], line.get("name"), line.get("left_out", "untold")) for line in lines] == [
        ("denied", "a", "untold"), ("denied", "a", "untold"), ("credentials refused", None, "untold"),
        ("denied", "b", 4), ("denied", "c", "untold"),
    ]  # fmt: skip


def test_few_principals_are_remembered() -> None:
    audit = Audit(clock := Clock())
    with capture_logs() as lines:
        for number in range(KINDS_KEPT + 1):
            clock.now += 1 / LINES_PER_S
            audit.denied(Identity("i", str(number), NOTHING), "read", ["a"])
        audit.denied(Identity("i", str(KINDS_KEPT), NOTHING), "read", ["a"])
        clock.now += 1 / LINES_PER_S
        audit.denied(Identity("i", "0", NOTHING), "read", ["a"])
    assert KINDS_KEPT - KINDS_KEPT // FORGOTTEN_FRACTION < len(audit._last) <= KINDS_KEPT
    assert len(lines) == KINDS_KEPT + 2


def test_lines_about_many_principals_are_limited_together_and_the_next_line_counts_the_others() -> None:
    audit = Audit(clock := Clock())
    with capture_logs() as lines:
        for number in range(1_000):
            audit.denied(Identity("i", str(number), NOTHING), "read", ["a"])
        assert len(lines) == LINES_AT_ONCE
        audit.refused(refused(Why.EXPIRED, "over"), None)
        clock.now = 1 / LINES_PER_S
        for number in (998, 999):
            audit.denied(Identity("i", str(number), NOTHING), "read", ["a"])
        clock.now = 3 / LINES_PER_S
        audit.denied(Identity("i", "999", NOTHING), "read", ["a"])
    told = [(line["event"], line.get("who"), line.get("others_left_out")) for line in lines[LINES_AT_ONCE:]]
    assert told == [
        ("credentials refused", None, 1_000 - LINES_AT_ONCE), ("denied", "998 of i", None), ("denied", "999 of i", 1),
    ]  # fmt: skip


def test_a_gate_tells_each_refusal() -> None:
    rules = RulesGate()
    rules.issue("t", "u1")
    gate = NodeGate(rules, lambda: 0.0, lambda: 0.0)
    with capture_logs() as lines:
        with pytest.raises(Unauthenticated):
            gate.identify("bad", 0.0)
        identity = gate.identify("t", 0.0)
        rules.revoke("t")
        with pytest.raises(Unauthenticated):
            gate.again(identity, 5.0)
    assert [line["why"] for line in lines] == ["signature"]
    assert gate.refusals == {"signature": 2}


@pytest.mark.parametrize(
    ("method", "path", "body", "action", "name"),
    [
        ("GET", "/v1/topics/b", None, "read", "b"),
        ("GET", "/v1/topics", None, "read", "/"),
        ("PUT", "/v1/topics/b", 1, "write", "b"),
        ("DELETE", "/v1/topics/b", None, "write", "b"),
        ("POST", "/v1/poll", {"topics": {"a": 0, "b": 0}}, "read", "b"),
        ("POST", "/v1/publish", {"changes": [{"topic": "b", "value": 1}]}, "write", "b"),
        ("GET", "/v1/status", None, "admin", "/v1/status"),
    ],
)
async def test_whatever_is_denied_over_http_is_told(
    method: str, path: str, body: object, action: str, name: str
) -> None:
    rules = RulesGate()
    rules.issue("t", "u1")
    rules.may("u1", read=["a"])
    node = FakeNode(authority=rules)
    with capture_logs() as lines:
        await node.ask(method, path, body, Authorization="Bearer t")
    denied = [line for line in lines if line["event"] == "denied"]
    assert [(line["who"], line["action"], line["name"]) for line in denied] == [("u1 of issuer", action, name)]


def test_a_handshake_that_failed_is_told_with_its_reason_and_address_once_a_second_for_each_reason() -> None:
    clock = Clock()
    gate = NodeGate(EVERYBODY_MAY_ALL, clock, clock)
    with capture_logs() as lines:
        for host in range(300):
            gate.note_tls_failed("handshake refused", "it was not TLS", f"192.0.2.{host % 200}:4711")
        gate.note_tls_failed("broken off", "something else", "[2001:db8::1]:4711")
        clock.now = EVERY_S
        gate.note_tls_failed("handshake refused", "it was not TLS", "192.0.2.9:4711")
    assert lines == [
        {"event": "TLS handshake refused", "because": "it was not TLS", "peer": "192.0.2.0", "log_level": "info"},
        {"event": "TLS broken off", "because": "something else", "peer": "2001:db8::1", "log_level": "info"},
        {
            "event": "TLS handshake refused", "because": "it was not TLS", "peer": "192.0.2.9", "left_out": 299,
            "log_level": "info",
        },
    ]  # fmt: skip
