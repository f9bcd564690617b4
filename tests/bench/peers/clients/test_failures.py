"""A server of softstate that is killed, and one whose packets are lost, with three real clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.clients import failures
from bench.peers.clients.candidates import Candidate, candidates
from bench.peers.systems import Places


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """Return softstate's client for Python; failures take no longer than they must."""
    for name in ("CALM_S", "DOWN_S", "QUIET_S"):
        monkeypatch.setattr(failures, name, 0.0)
    found, _ = candidates(Places(), tmp_path, ["softstate, Python"])
    return found["softstate, Python"]


def test_after_a_kill_all_know_everything_and_no_age_was_too_low(ours: Candidate) -> None:
    outcome = failures.kill(ours, 3, 30.0)
    assert 0 <= outcome.figures["told_all_s"] < outcome.figures["stated_s"]
    assert outcome.figures["still_share"] == outcome.figures["kept_share"] == outcome.figures["newcomer_share"] == 1.0
    assert outcome.figures["unwarned_s"] == 0.0
    assert "“mode " in outcome.story


def test_lost_packets_make_no_age_too_low(ours: Candidate) -> None:
    outcome = failures.partition(ours, 3, 0.5, 30.0, spread_s=0.1)
    assert outcome.figures["still_share"] == 1.0
    assert outcome.figures["stated_s"] > 0.5
    assert outcome.figures["unwarned_s"] == 0.0
