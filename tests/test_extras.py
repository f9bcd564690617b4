"""Without the extra `server` there is a client; a program that asks for more is told what to install.

A finder ahead of all others stands for an environment in which the extra's modules are not installed;
`.ci/run` installs such an environment, and runs README's client in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from softstate.extras import SERVER_MODULES, without_server
from tests.kit.code_map import ROOT

BLOCKED = f"""
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {set(SERVER_MODULES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where the extra is not installed."""
    command = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_every_public_name_of_the_client_is_there() -> None:
    done = run("import softstate\nfor name in softstate.__all__: getattr(softstate, name)\nprint('all')")
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


@pytest.mark.parametrize("arguments", ["['softstate']", "['softstate', 'serve']", "['softstate', '--help']"])
def test_the_command_says_what_to_install(arguments: str) -> None:
    done = run(f"sys.argv = {arguments}\nfrom softstate.__main__ import main\nmain()")
    assert (done.returncode, done.stdout) == (2, "")
    expected = r"softstate: the command line needs \w+, which is not installed: pip install '\.\[server\]', .*\n"
    assert re.fullmatch(expected, done.stderr)


def test_a_node_in_memory_says_what_to_install() -> None:
    done = run("from softstate.testing import memory_node")
    assert done.returncode == 1
    expected = (
        r"ModuleNotFoundError: softstate\.testing\.memory_node needs \w+, .*pip install '\.\[server\]', in a clone"
    )
    assert re.match(expected, done.stderr.splitlines()[-1])


def test_another_module_that_is_missing_is_told_as_it_is() -> None:
    elsewhere = ModuleNotFoundError("No module named 'softstate.nowhere'", name="softstate.nowhere")
    assert without_server("x", elsewhere) is None
    assert without_server("x", ModuleNotFoundError("nothing is known")) is None
    assert without_server("x", ModuleNotFoundError("no", name="rich.console")) is not None


def test_the_modules_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = project["optional-dependencies"]["server"]
    names = {re.split(r"[<>=]", each)[0].replace("-", "_") for each in required}
    distributions = packages_distributions()
    assert {distributions[module][0].replace("-", "_") for module in SERVER_MODULES} == names


WITHOUT_SPANS = """
import trio
from softstate.server.observe import spans
from softstate.testing import memory_node

async def main():
    async with memory_node() as node, node.connect() as client:
        print(await client.publish("a", 1))

trio.run(main)
print(spans.tracing(), [name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_a_node_without_opentelemetry_works_and_asks_for_it_once() -> None:
    code = BLOCKED.replace(repr(set(SERVER_MODULES)), repr({"opentelemetry"})) + WITHOUT_SPANS
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False []"


def test_a_client_imports_no_opentelemetry() -> None:
    names = "for name in softstate.__all__: getattr(softstate, name)"
    done = run(f"import softstate\n{names}\nprint('opentelemetry' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
