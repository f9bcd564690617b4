"""Checkouts of softstate to compare: this one, and another with an environment of its own (``--against PATH``).

The other checkout may be of any age and layout, so the bench only uses its command lines, ``python -m softstate`` and
``python -m bench``, run by its interpreter in its folder. Load generators are always those of this checkout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softstate.errors import ConfigError

ENVIRONMENT = Path(".venv", "bin", "python")
"""The interpreter of another checkout, below its folder."""
PACKAGES = ("trio", "trio-websocket", "wsproto", "h11", "httptools", "cbor2", "msgspec")
"""Packages on softstate's hot paths; a report notes versions that differ."""
PROBE_S_MAX = 60.0

_THIS = ", this"
_AGAINST = ", against"
_PROBE = f"""
import importlib.metadata, json, platform
import softstate
versions = {{"python": platform.python_version()}}
for name in {PACKAGES!r}:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        versions[name] = "none"
print(json.dumps({{"file": softstate.__file__, "versions": versions}}))
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with softstate's source, and the interpreter that runs it."""

    folder: Path
    python: Path
    versions: dict[str, str] = field(default_factory=dict, compare=False)
    """Of Python and `PACKAGES`."""

    def softstate(self, *words: str) -> list[str]:
        """Return the command line of this checkout's ``softstate``, to be run in `folder`."""
        return [str(self.python), "-m", "softstate", *words]

    def bench(self, *words: str) -> list[str]:
        """Return the command line of this checkout's own benches, to be run in `folder`."""
        return [str(self.python), "-m", "bench", *words]

    def commit(self) -> str:
        """Return the short commit id, and whether files differ from it; "unknown commit" outside of git."""
        head = self._git("rev-parse", "--short", "HEAD")
        if not head:
            return "unknown commit"
        return f"{head} with changes" if self._git("status", "--porcelain", "--untracked-files=no") else head

    def _git(self, *words: str) -> str:
        command = ["git", "-C", str(self.folder), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROBE_S_MAX)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""


THIS = Checkout(Path(__file__).parents[2], Path(sys.executable))
"""The checkout that this bench belongs to."""


@dataclass(frozen=True, slots=True)
class Checkouts:
    """The checkouts that one run measures: `this`, and `against` if there is one to compare with."""

    this: Checkout = THIS
    against: Checkout | None = None

    def named(self, name: str) -> dict[str, Checkout]:
        """Return the candidates that a candidate `name` becomes: one for each checkout."""
        if self.against is None:
            return {name: self.this}
        return {name + _THIS: self.this, name + _AGAINST: self.against}

    def commits(self) -> dict[str, str]:
        """Return the commit of each checkout, by "this" and "against"."""
        sides = {"this": self.this, "against": self.against}
        return {side: checkout.commit() for side, checkout in sides.items() if checkout is not None}

    def differences(self) -> list[str]:
        """List the versions of Python and packages in which the two environments differ."""
        if self.against is None:
            return []
        mine, theirs = probe(self.this)["versions"], self.against.versions
        return [f"{name} {mine[name]} / {theirs[name]}" for name in mine if mine[name] != theirs[name]]


def pairs_of(names: list[str]) -> dict[str, tuple[str, str]]:
    """Map each name that `Checkouts.named` was given to its two candidates, this checkout's first."""
    found = [name.removesuffix(_THIS) for name in names if name.endswith(_THIS)]
    return {name: (name + _THIS, name + _AGAINST) for name in found if name + _AGAINST in names}


def checkout_at(path: Path) -> Checkout:
    """Return the checkout in a folder, run by the environment in its `.venv`.

    Raises `ConfigError` if the folder, the environment or softstate in it is missing, and says how to make it.
    """
    folder = path.resolve()
    if not (folder / "softstate" / "__main__.py").is_file():
        raise ConfigError(
            f"--against {path}: no checkout of softstate is there. Name the folder of one;"
            " `git worktree add PATH COMMIT` makes one of another commit"
        )
    python = folder / ENVIRONMENT
    advice = f"python3 -m venv {path / '.venv'} && {path / '.venv/bin/pip'} install -e '{path}[redis,postgres,etcd]'"
    if not python.is_file():
        raise ConfigError(f"--against {path}: this checkout has no environment of its own. Make it: {advice}")
    found = probe(Checkout(folder, python), advice)
    if not Path(found["file"]).is_relative_to(folder):
        raise ConfigError(
            f"--against {path}: its environment runs the softstate in {Path(found['file']).parent} instead. Unset"
            f" PYTHONPATH and PYTHONSAFEPATH, or make the environment again: {advice}"
        )
    return Checkout(folder, python, found["versions"])


def probe(checkout: Checkout, advice: str = "") -> dict[str, Any]:
    """Import softstate in a checkout; return the file that was imported, and `Checkout.versions`.

    Raises `ConfigError`, which ends with the advice, if that fails.
    """
    command = [str(checkout.python), "-c", _PROBE]
    try:
        done = subprocess.run(
            command, cwd=checkout.folder, capture_output=True, text=True, check=False, timeout=PROBE_S_MAX
        )
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    raise ConfigError(f"{checkout.python} cannot import softstate ({said}). Install it there: {advice}")
