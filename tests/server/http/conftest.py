"""A node that checks credentials, by rules that a test sets, and who asks it."""

from __future__ import annotations

import pytest

from tests.kit.fake_node import FakeNode
from tests.kit.rules_gate import RulesGate

U1 = {"Authorization": "Bearer token"}
ADMIN = {"Authorization": "bearer root"}


@pytest.fixture
def rules() -> RulesGate:
    rules = RulesGate()
    rules.may("u1", read=["a", "b/", "c/d"], write=["a", "w"])
    rules.may("root", admin=True)
    rules.issue("token", "u1")
    rules.issue("root", "root")
    return rules


@pytest.fixture
async def node(rules: RulesGate) -> FakeNode:
    return FakeNode(authority=rules)
