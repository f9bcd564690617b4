"""Node.js as tests use it: its absence skips a test, and one process runs machines by the lines of traces."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import softstate.web
from softstate.testing.conformance.client.form import Json
from tests.kit.engines import left_out

WEB = Path(softstate.web.__file__).parent

VERSION_MIN = 20


def node_js() -> str:
    """Return the path of Node.js; skip the test if there is none, or an old one."""
    path = shutil.which("node")
    if path is None:
        left_out("Node.js is not installed")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < VERSION_MIN:
        left_out(f"Node.js {VERSION_MIN} or newer is wanted, this is {version.strip()}")
    return path


class JsMachine:
    """A process that runs the machine in JavaScript, one at a time; a header begins another."""

    def __init__(self, folder: Path = WEB) -> None:
        command = [node_js(), str(folder / "machine" / "stdio.js"), "--stdio"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)

    def ask(self, *lines: Json) -> list[Any]:
        """Send lines; return the answer to each. Raises `AssertionError` if the process ends, or a line fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        answers = []
        for line in lines:
            stdin.write(json.dumps(line) + "\n")
            stdin.flush()
            answer = stdout.readline()
            assert answer, "the process has ended: its output says why"
            answers.append(json.loads(answer))
            assert "failed" not in answers[-1], answers[-1]["failed"]
        return answers


def evaluate(folder: Path, imports: str, function: str, argument: Any, flags: Sequence[str] = ()) -> Any:
    """Call a function in Node.js, with modules of a folder; return what it returns. Both are as JSON has them."""
    text = f"{imports}\nconst made = await ({function})({json.dumps(argument)});\nconsole.log(JSON.stringify(made));"
    text = text.replace('from "./', f'from "{folder.as_uri()}/')
    command = [node_js(), *flags, "--no-warnings", "--input-type=module", "--eval", text]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
