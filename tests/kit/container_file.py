"""The instructions of a Containerfile, and its RUN steps carried out in a folder that stands for the image."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RUN_S_MAX = 300


@dataclass(frozen=True)
class Instruction:
    """One instruction, its line continuations joined; flags such as ``--from=build`` are in `flags`."""

    name: str
    text: str
    flags: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        """The words of the exec form. Raises `ValueError` if it is in the form for a shell."""
        words = json.loads(self.text)
        assert isinstance(words, list)
        return words


def instructions(content: str) -> Iterator[Instruction]:
    """List the instructions of a file."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", content, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        name, _, text = line.partition(" ")
        flags = {}
        while found := re.match(r"\s*--([\w-]+)=(\S+)\s+", text):
            flags[found[1]] = found[2]
            text = text[found.end() :]
        yield Instruction(name, text.strip(), flags)


def last(content: str, name: str) -> Instruction:
    """Return the last instruction of a name: that of the image that is made."""
    return [each for each in instructions(content) if each.name == name][-1]


def run_steps(content: str, places: Mapping[str, Path]) -> None:
    """Carry out every RUN, with the paths of the image in the places given, and without a package index."""
    for each in instructions(content):
        if each.name == "RUN":
            command = each.text
            for path, place in places.items():
                command = re.sub(rf"(?<![\w/]){re.escape(path)}\b", str(place), command)
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            environment["PATH"] = f"{places['/usr/local/bin']}:{environment['PATH']}"
            subprocess.run(["/bin/sh", "-ec", command], env=environment, timeout=RUN_S_MAX, check=True)
