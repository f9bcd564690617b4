"""The unit of systemd, by the checks of systemd itself, and by what a node takes and needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from softstate.cli.processes.node_process import END_S_EXTRA
from softstate.server.config import ServerConfig
from tests.kit.code_map import ROOT

UNIT = ROOT / "softstate" / "ops" / "softstate.service"
TEXT = UNIT.read_text(encoding="utf-8")
EXPOSURE_MAX = 2.0
"""By `systemd-analyze security`, of 10."""


def analyze(*words: str) -> str:
    """Run systemd-analyze, and return what it prints."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing(tmp_path: Path) -> None:
    command = tmp_path / "softstate"
    command.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -m softstate\n")
    command.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace("/opt/softstate/.venv/bin/softstate", str(command)))
    said = analyze("verify", str(unit))
    assert UNIT.name not in said
    overall = re.search(r"exposure level for \S+: (\d+\.\d)", analyze("security", "--offline=true", str(unit)))
    assert overall is not None
    assert float(overall[1]) <= EXPOSURE_MAX


def test_the_manager_waits_longer_than_a_node_may_take_to_end() -> None:
    config = ServerConfig()
    limit = re.search(r"^TimeoutStopSec=(\d+)s$", TEXT, re.MULTILINE)
    assert limit is not None
    assert float(limit[1]) > config.drain_s + config.store_s_max + END_S_EXTRA


@pytest.mark.parametrize("words", re.findall(r"^Exec\w+=\S+/softstate (serve .*)$", TEXT, re.MULTILINE))
def test_its_commands_are_accepted(tmp_path: Path, words: str) -> None:
    config = tmp_path / "softstate.toml"
    config.write_text('listen = "127.0.0.1:0"\n')
    arguments = words.replace("/etc/softstate/softstate.toml", shlex.quote(str(config)))
    command = [sys.executable, "-m", "softstate", *shlex.split(arguments)]
    command += [] if "--check" in command else ["--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
