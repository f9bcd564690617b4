"""Sessions of a node with rules."""

from __future__ import annotations

import pytest

from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import SessionRig


@pytest.fixture
def gate() -> RulesGate:
    gate = RulesGate()
    gate.may("u1", read=["a", "b/", "c/d"], write=["a", "w"])
    gate.issue("token", "u1")
    return gate


@pytest.fixture
def rig(gate: RulesGate) -> SessionRig:
    rig = SessionRig(names_max=100)
    rig.gate = gate
    return rig
