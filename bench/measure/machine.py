"""The kind of machine that a result was measured on, without its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import trio


def describe() -> dict[str, str]:
    """Return the kind of this machine, its software and its load, in the order to print; unknown fields say so."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "ram": _ram(),
        "kernel": f"{platform.system()} {platform.release()}",
        "tcp": _tcp(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": trio.__version__,
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _tcp() -> str:
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown"


def _ram() -> str:
    kib, _, _ = _field(Path("/proc/meminfo"), "MemTotal").partition(" ")
    return f"{int(kib) / 1024**2:.1f} GiB" if kib.isdecimal() else "unknown"


def _field(path: Path, name: str) -> str:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    except OSError:
        pass
    return "unknown"
