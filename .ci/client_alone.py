"""Run README's client with an interpreter that has no node: ``client_alone.py PYTHON``.

PYTHON is of an environment in which softstate was installed without extras; the node is run by the interpreter of this
script. Exits with 1 if the client's example fails there, or if `softstate` does not say what to install.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FOLLOW = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[0]
RUN_S_MAX = 60


def main() -> None:
    """Check both, in an empty folder."""
    python = sys.argv[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SOFTSTATE_", "PYTHON"))}
    with tempfile.TemporaryDirectory() as folder:
        serve = [sys.executable, "-m", "softstate", "serve", "--listen", f"127.0.0.1:{port}"]
        with subprocess.Popen(serve, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as node:
            try:
                assert node.stdout is not None
                node.stdout.readline()  # it listens
                for line in run([python, "-c", FOLLOW.replace("8700", str(port))], folder, environment, 0):
                    print(line)
            finally:
                node.kill()
        (told,) = run([python, "-m", "softstate", "serve"], folder, environment, 2)
        assert "pip install '.[server]', in a clone of softstate" in told, told
        print(told)


def run(command: list[str], folder: str, environment: dict[str, str], code: int) -> list[str]:
    """Run a command and return the lines that it prints; it is to end with this exit code."""
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=RUN_S_MAX, check=False,
    )  # fmt: skip
    if done.returncode != code:
        sys.exit(f"{done.stdout}\n{command[0]} ended with {done.returncode}, not {code}")
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
