"""The Containerfile: its instructions, its commands against a real node, and its steps in a clean folder.

No image is built here: that takes an engine. `.ci/run` has hadolint read the file.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from softstate.cli.processes.node_process import END_S_EXTRA
from softstate.server.config import ServerConfig
from tests.kit.code_map import ROOT
from tests.kit.container_file import RUN_S_MAX, instructions, last, run_steps
from tests.kit.processes import WAIT_S, environment, running

TEXT = (ROOT / "softstate" / "ops" / "Containerfile").read_text(encoding="utf-8")
CONFIG = "/etc/softstate/softstate.toml"


def test_it_runs_as_nobody_else_and_ends_by_a_drain() -> None:
    assert last(TEXT, "STOPSIGNAL").text == "SIGTERM"
    user = last(TEXT, "USER").text
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert "-o {} -g {}".format(*user.split(":")) in last(TEXT, "RUN").text, "it owns its folder"
    stages = [each.text.split()[-1] for each in instructions(TEXT) if each.name == "FROM"]
    assert stages[0] == "build" == last(TEXT, "COPY").flags["from"]
    config = ServerConfig()
    limit = re.search(r"--time (\d+)", TEXT)
    assert limit is not None
    assert float(limit[1]) > config.drain_s + config.store_s_max + END_S_EXTRA


def test_its_extras_are_those_of_the_wheels() -> None:
    assert len(set(re.findall(r"\[[a-z,]+\]", TEXT))) == 1


def test_its_command_is_accepted_and_its_probe_tells_a_node_from_none(tmp_path: Path) -> None:
    config = tmp_path / "softstate.toml"
    config.write_text('listen = "127.0.0.1:0"\n')
    words = [str(config) if word == CONFIG else word for word in last(TEXT, "CMD").words]
    assert last(TEXT, "ENTRYPOINT").words == ["softstate"]
    command = [sys.executable, "-m", "softstate", *words, "--check"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True)
    probe = last(TEXT, "HEALTHCHECK")
    name, _, text = probe.text.partition(" ")
    assert name == "CMD"
    python, *rest = type(probe)(name, text, {}).words
    assert python == "python"
    with running(tmp_path, store="memory:") as node:
        asked = [sys.executable, *(word.replace("8700", str(node.port)) for word in rest)]
        assert subprocess.run(asked, timeout=WAIT_S, check=False).returncode == 0
        node.kill()
        assert subprocess.run(asked, stderr=subprocess.DEVNULL, timeout=WAIT_S, check=False).returncode != 0


@pytest.mark.timeout(RUN_S_MAX)
def test_its_steps_make_an_environment_that_serves(tmp_path: Path) -> None:
    """The wheels come from the index, or pip's cache; the steps themselves take nothing from there."""
    if os.geteuid() != 0:
        pytest.skip("its folder belongs to a user of its own: only root can make it")
    (command,) = re.findall(r"^#\s+python3\.\d+ -m pip (wheel .*)$", TEXT, re.MULTILINE)
    wheels, source = tmp_path / "wheelhouse", tmp_path / "source"
    shutil.copytree(ROOT / "softstate", source / "softstate", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    words = [word.strip("'").replace("wheelhouse", str(wheels)) for word in command.split()]
    subprocess.run([sys.executable, "-m", "pip", "-q", *words], cwd=source, timeout=RUN_S_MAX, check=True)
    python = tmp_path / "bin"
    python.mkdir()
    (python / "python").symlink_to(Path(sys.executable).resolve())
    places = {
        "/wheelhouse": wheels,
        "/opt/softstate": tmp_path / "opt",
        "/var/lib/softstate": tmp_path / "state",
        "/usr/local/bin": python,
    }
    run_steps(TEXT, places)
    status = (tmp_path / "state").stat()
    assert f"{status.st_uid}:{status.st_gid}" == last(TEXT, "USER").text
    assert stat.S_IMODE(status.st_mode) == 0o700
    program = tmp_path / "opt" / "bin" / "softstate"
    (tmp_path / "etc.toml").write_text('listen = "127.0.0.1:0"\n')
    serve = [str(program), "serve", "--config", str(tmp_path / "etc.toml"), "--check"]
    done = subprocess.run(serve, cwd=tmp_path / "state", env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("The configuration is valid")
    modules = "import coredis, psycopg, joserfc, softstate.server; print(softstate.__file__)"
    asked = [str(program.with_name("python")), "-c", modules]
    where = subprocess.run(asked, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(tmp_path / "opt")), "it is the wheel that was installed"
