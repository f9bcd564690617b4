"""Libraries that are found, and the lines about others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure import servers
from bench.peers.clients.candidates import DRIVERS, LIBRARIES, candidates
from bench.peers.systems import Places
from softstate.errors import ConfigError


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "SYSTEM_PATHS", "")
    found, notes = candidates(Places(tmp_path, tmp_path), tmp_path)
    assert list(found) == ["softstate, Python"]
    assert any("nats-server is not installed (go install" in note for note in notes)
    assert any(note.startswith("softstate.js was left out: node is not installed") for note in notes)
    assert all("\n" not in note for note in notes)


def test_each_program_is_there_and_another_name_is_refused(tmp_path: Path) -> None:
    assert all((DRIVERS / words[0]).is_file() for _, _, words in LIBRARIES.values() if words)
    with pytest.raises(ConfigError, match=r"there is no nonsense: --only takes softstate, Python; softstate\.js; "):
        candidates(Places(), tmp_path, ["nonsense"])
