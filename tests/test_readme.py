"""Every block of code in the README runs as pasted, and prints what the README says it prints.

Only the port differs: 8700 may be taken. Ages depend on the machine, so they are compared as "some seconds".
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.processes import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES_MAX = 150
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FOLLOW, IN_MEMORY = (text for language, text in BLOCKS if language == "python")
(CONSOLE,) = (text for language, text in BLOCKS if language == "console")
(SET_UP,) = (text for language, text in BLOCKS if language == "sh")

RUN_S_MAX = 30.0
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)[^)]*\)")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environment(tmp_path: Path, port: int) -> dict[str, str]:
    """A shell in which `softstate` runs this checkout, on a free port."""
    command = tmp_path / "bin" / "softstate"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m softstate "$@"\n')
    command.chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SOFTSTATE_")},
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SOFTSTATE_URL": f"ws://127.0.0.1:{port}",
    }


@contextmanager
def serving(tmp_path: Path, port: int, environment: dict[str, str]) -> Iterator[str]:
    """Run ``softstate serve`` and yield the line that it prints once it listens."""
    command = [sys.executable, "-m", "softstate", "serve"]
    own = {**environment, "SOFTSTATE_LISTEN": f"127.0.0.1:{port}"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.kill()


def run(command: list[str], tmp_path: Path, environment: dict[str, str], *, succeeds: bool = True) -> str:
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=RUN_S_MAX, check=False,
    )  # fmt: skip
    assert not succeeds or done.returncode == 0, done.stdout
    return done.stdout


def without_ages(text: str) -> str:
    return re.sub(r"age \d+\.\d s", "age N s", text).strip()


def steps(console: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what each prints."""
    return [(step.partition("\n")[0], step.partition("\n")[2]) for step in console.split("$ ")[1:]]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LINES_MAX


def test_it_has_no_other_blocks() -> None:
    assert sorted(language for language, _ in BLOCKS) == ["", "console", "python", "python", "sh"]


def test_set_up_takes_one_line_each_which_ci_runs() -> None:
    lines = SET_UP.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv ") for line in lines)
    assert re.findall(r"^python3 -m venv .*$", README, re.MULTILINE) == lines, "what .ci/run takes from the README"


def test_the_console_block(tmp_path: Path, port: int, environment: dict[str, str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (serve, announcement), *commands = steps(CONSOLE.replace("8700", str(port)))
    assert serve == "softstate serve &"
    with serving(tmp_path, port, environment) as line:
        assert line == announcement
        for command, printed in commands:
            output = run(["sh", "-c", command], tmp_path, environment, succeeds=False)
            assert without_ages(output) == without_ages(printed), command


def test_the_python_block(tmp_path: Path, port: int, environment: dict[str, str]) -> None:
    with serving(tmp_path, port, environment):
        output = run([sys.executable, "-c", FOLLOW.replace("8700", str(port))], tmp_path, environment)
    first, second = output.splitlines()
    assert re.fullmatch(r"orders/42 \{'state': 'shipped'\} \d+\.\d+", first)
    assert "version=2" in second


def test_the_block_with_a_node_in_memory(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "test_prices.py").write_text(IN_MEMORY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", "--rootdir", "."]
    assert "1 passed" in run([*command, "test_prices.py"], tmp_path, environment)


def test_every_link_leads_to_a_file() -> None:
    targets = {match[1] for match in LINK.finditer(README)}
    assert len(targets) > 5
    assert {target for target in targets if not (ROOT / target).exists()} == set()
