"""Packages of npm that tests use: the TypeScript compiler, and the driver of browsers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.engines import REQUIRED, left_out

PACKAGES = "NPM_FOLDER"
"""An environment variable that names a folder in which npm has installed the packages already."""


def npm_folder(tmp: pytest.TempPathFactory, *packages: str) -> Path:
    """Return a folder whose ``node_modules`` has these packages; skip the test where they cannot be installed."""
    if (given := os.environ.get(PACKAGES)) is not None:
        return Path(given)
    npm = shutil.which("npm")
    if npm is None:
        left_out("npm is not installed")
    if not os.environ.get(REQUIRED):
        left_out(f"packages of npm are installed where {REQUIRED} is set, or named by {PACKAGES}")
    folder = tmp.mktemp("npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if ended.returncode != 0:
        left_out(f"npm could not install {', '.join(packages)}: {ended.stderr[-500:]}")
    return folder
