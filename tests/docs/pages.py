"""Blocks of code in a page, and how they are run: commands in a shell, Python in this process, files by their name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import trio
from trio.testing import MockClock

from tests.kit.processes import WAIT_S, environment, free_port

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|//) (\S+\.(?:js|toml|json|py))\n")
"""The first line of a block that is a file of this name."""


COMMAND_S_MAX = 60.0


class Block(NamedTuple):
    """A block of code, with the line of the page on which it begins."""

    line: int
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(page[: match.start()].count("\n") + 1, match[1], match[2]) for match in FENCE.finditer(page)]


def steps(console: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what each prints."""
    return [(step.partition("\n")[0], step.partition("\n")[2]) for step in f"\n{console}".split("\n$ ")[1:]]


def pattern_of(printed: str) -> re.Pattern[str]:
    """Return a pattern of what a page says is printed: ``…`` stands for anything, and so do seconds and versions."""
    text = re.escape(printed.strip()).replace("…", ".*?")
    return re.compile(re.sub(r"\d+\\\.\d+(?=\\ (?:s|days)\b)", r"\\d+\\.\\d+", text), re.DOTALL)


class Shell:
    """Runs the blocks of one page in a folder: `softstate` is this checkout's, on a free port in place of 8700."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.servers: list[subprocess.Popen[str]] = []
        command = folder / "bin" / "softstate"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m softstate "$@"\n')
        command.chmod(0o755)
        own = {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        urls = {"SOFTSTATE_URL": f"ws://127.0.0.1:{self.port}", "SOFTSTATE_LISTEN": f"127.0.0.1:{self.port}"}
        self.environment = environment() | own | urls

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.communicate(timeout=WAIT_S)

    def run(self, block: Block) -> None:
        """Run a block as its language says. Raises `AssertionError` if it does not do what the page says."""
        text = block.text.replace("8700", str(self.port))
        named = NAMED.match(text)
        if named is not None:
            (self.folder / named[1]).write_text(text)
        match block.language:
            case "console":
                for command, printed in steps(text):
                    self.command(command, printed)
            case "python":
                run_python(text)
            case "toml":
                tomllib.loads(text)
            case "js":
                assert named is not None, "a block of JavaScript begins with the name of its file, to be run later"
            case other:
                raise AssertionError(f"no way to run a block of {other!r}")

    def command(self, command: str, printed: str) -> None:
        """Run one line; ``softstate serve … &`` goes on, and ``kill %1`` ends the one that was started last."""
        if command.endswith(" &"):
            found = self.serve(command.removesuffix(" &"))
        elif command.startswith("kill "):
            assert command.endswith(" %1")
            self.kill(command)
            return
        else:
            done = subprocess.run(
                ["sh", "-c", command], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=COMMAND_S_MAX, check=False,
            )  # fmt: skip
            assert printed or done.returncode == 0, (command, done.stdout)
            found = done.stdout
        assert not printed or pattern_of(printed).fullmatch(found.strip()), f"$ {command}\n{found}"

    def serve(self, command: str) -> str:
        """Start a server; return what it prints once it listens."""
        server = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.servers.append(server)
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, server.communicate(timeout=WAIT_S)[1]
        return line

    def kill(self, command: str) -> None:
        server = self.servers.pop()
        server.kill() if " -9 " in command else server.terminate()
        server.communicate(timeout=WAIT_S)


def run_python(text: str) -> None:
    """Run a program; of a module of tests, each test, under a virtual clock."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "a block of the page", "exec"), names)
    for name, test in names.items():
        if name.startswith("test_"):
            clock = MockClock(autojump_threshold=0)
            trio.run(test, clock, clock=clock)
