"""Another checkout of softstate, as ``--against`` takes it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench.measure.checkouts import ENVIRONMENT, THIS


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """Make a checkout with a copy of softstate, and an environment that has this one's packages."""
    folder = tmp_path / "another"
    shutil.copytree(THIS.folder / "softstate", folder / "softstate")
    python = folder / ENVIRONMENT
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder
