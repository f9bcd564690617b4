"""Memory as the system tells it, from files as they are on machines and in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from softstate.server.memory.system import SHARE, available_bytes, default_max, resident_bytes

MEMINFO = "MemTotal:       8000000 kB\nMemFree: 1 kB\n"
MACHINE = 8_000_000 * 1024


def written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 0),
        ({"proc/meminfo": "nonsense"}, 0),
        ({"proc/meminfo": MEMINFO}, MACHINE),
        # Version 2, on the host: a limit of a parent holds as well.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/system.slice/softstate.service\n",
                "sys/fs/cgroup/system.slice/softstate.service/memory.max": "max\n",
                "sys/fs/cgroup/system.slice/memory.max": "2000000000\n",
            },
            2_000_000_000,
        ),
        # Version 2, in a container.
        (
            {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000000\n"},
            1_000_000_000,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0),
        # Version 1, whose path is the host's.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "500000000\n",
            },
            500_000_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            MACHINE,
        ),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert available_bytes(written(tmp_path, files)) == expected


def test_this_process_and_this_machine_have_memory() -> None:
    assert 1_000_000 < resident_bytes() < available_bytes()
    assert default_max() == int(available_bytes() * SHARE)
    assert default_max(4) == default_max() // 4
