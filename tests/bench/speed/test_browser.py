"""A few changes to one client in Node.js, with a real server; what is not installed is named, with how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure.servers import NotInstalled
from bench.speed import browser
from tests.kit.node_js import node_js


def test_changes_are_delivered_and_one_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "WARM_UP", 100)
    monkeypatch.setattr(browser, "DOWN_S", 0.0)
    system, node = browser.ours(tmp_path), node_js()
    assert browser.delivered(node, system, 200)["cpu_s"] > 0
    figures = browser.killed(node, system)
    assert 0 < figures["fresh_s"] < figures["away_s"]


def test_what_is_missing_is_told_with_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "centrifugo").touch(0o755)
    with pytest.raises(NotInstalled, match="npm install --prefix FOLDER centrifuge; then --npm FOLDER"):
        browser.theirs(tmp_path, tmp_path)
