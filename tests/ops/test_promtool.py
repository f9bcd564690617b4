"""Prometheus's own tool finds nothing to complain of, neither in the alerts nor in the metrics of a node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.kit.engines import missing
from tests.ops.test_monitoring import ALERTS, metrics


def promtool(*words: str, told: str = "") -> str:
    """Run promtool, and return what it prints; skip the test where there is none."""
    if shutil.which("promtool") is None:
        missing("promtool is not installed (Debian: prometheus)")
    command = ["promtool", *words]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, check=False, cwd=Path("/"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_alerts_are_accepted() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS))


async def test_the_metrics_are_accepted() -> None:
    assert promtool("check", "metrics", told=await metrics()).strip() == ""
