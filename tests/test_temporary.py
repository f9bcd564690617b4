"""Temporary folders of tests are in memory where that is possible and nobody chose others."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.kit.temporary import put_in_memory


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.delenv("TMPDIR")


def test_folders_and_those_of_other_processes_are_in_memory_with_room(tmp_path: Path) -> None:
    put_in_memory(tmp_path, bytes_min=0)
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)


@pytest.mark.parametrize(("memory", "bytes_min"), [("", 2**62), ("missing", 0)])
def test_nothing_changes_without_room_for_files(tmp_path: Path, memory: str, bytes_min: int) -> None:
    before = tempfile.gettempdir()
    put_in_memory(tmp_path / memory, bytes_min=bytes_min)
    assert ("TMPDIR" in os.environ, tempfile.gettempdir()) == (False, before)


def test_a_folder_that_somebody_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/chosen")
    put_in_memory(tmp_path, bytes_min=0)
    assert os.environ["TMPDIR"] == "/chosen"
