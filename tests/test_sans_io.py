"""A sans-I/O package does no I/O, reads no clock and draws no random number; the code map says which are."""

import ast
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.kit.code_map import FILES, PACKAGE, ROOT, imports, sans_io_modules, tree_of, within

IO = {
    "trio", "trio_websocket", "asyncio", "anyio", "socket", "ssl", "select", "selectors", "threading", "subprocess",
    "concurrent", "multiprocessing", "signal", "sqlite3", "http", "urllib.request", "urllib.error",
}  # fmt: skip
CLOCKS = {"time", "datetime", "sched"}
CHANCE = {"secrets", "uuid", "os", "os.urandom"}
SANS_IO_FORBIDS = IO | CLOCKS | CHANCE
RANDOM_ALLOWED = {"Random"}
"""Of the module `random` a sans-I/O package may name the type of a generator that it is given, and nothing else."""

GENERATORS_AND_FILES = {"Random", "random.Random", "SystemRandom", "random.SystemRandom", "open"}

EXCEPTIONS = {
    "softstate.auth.policy_file": {"datetime", "datetime.datetime"},
    "softstate.wire.codec.cbor": {"os", "os.urandom"},
    "softstate.store.rules.nonce": {"random.SystemRandom", "SystemRandom()"},
}
"""The exceptions: the CBOR codec ends a message by bytes that its sender cannot know, which decide nothing else;
the generator that names epochs and lineages where no caller gives another has a default; and a time that is written in
TOML is of a type of the module that also has a clock."""


def impurities(tree: ast.AST, allowed: Iterable[str] = ()) -> set[str]:
    """Find what a sans-I/O module may not have: imports of I/O, clocks and chance, and randomness of its own."""
    found = {name for name in imports(tree, "") if within(name, SANS_IO_FORBIDS)}
    found |= {name for name in imports(tree, "") if "import_module" in name or "__import__" in name}
    has_random = any(  # else `random` is the name of an argument
        isinstance(node, ast.Import) and "random" in [alias.name for alias in node.names] for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            found |= {f"random.{alias.name}" for alias in node.names if alias.name not in RANDOM_ALLOWED}
            found |= {f"{alias.name} as" for alias in node.names if alias.asname}
        elif isinstance(node, ast.Import):
            found |= {f"{alias.name} as" for alias in node.names if alias.name in ("random", "os") and alias.asname}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = ast.unparse(node)
            random_of_its_own = has_random and node.value.id == "random" and node.attr not in RANDOM_ALLOWED
            if random_of_its_own or node.value.id == "os":
                found.add(name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in GENERATORS_AND_FILES:
            found.add(ast.unparse(node))
    return found - set(allowed)


@pytest.mark.parametrize("module", sans_io_modules())
def test_a_sans_io_module_reads_no_clock_draws_no_number_and_does_no_io(module: str) -> None:
    assert impurities(tree_of(module), EXCEPTIONS.get(module, ())) == set()


def test_the_exceptions_are_still_needed() -> None:
    for module, allowed in EXCEPTIONS.items():
        assert impurities(tree_of(module)) == allowed


IMPORT_WITHOUT_SHELLS = """
import importlib, pathlib, sys, types
root, shells, *modules = sys.argv[1:]
for name in shells.split():
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(root, *name.split(".")))]
    sys.modules[name] = package
for module in modules:
    importlib.import_module(module)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
"""Imports modules without the ``__init__`` of the packages around them that do I/O."""


def shells() -> list[str]:
    """List the packages that do I/O, the outer ones first."""
    sans_io = set(sans_io_modules())
    return [module for module in PACKAGE if FILES[module].name == "__init__.py" and module not in sans_io]


def loaded_by(modules: list[str]) -> set[str]:
    command = [sys.executable, "-W", "error", "-c", IMPORT_WITHOUT_SHELLS, str(ROOT), " ".join(shells()), *modules]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_sans_io_packages_does_not_import_trio() -> None:
    assert len(sans_io_modules()) > 15
    loaded = loaded_by(sans_io_modules())
    assert {"softstate", "msgspec", "cbor2"} <= loaded
    assert loaded & {"trio", "trio_websocket", "wsproto", "asyncio", "sqlite3"} == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import math, re\nfrom random import Random\ndef f(r: Random) -> float: return r.random()", set()),
        ("import random\ndef f(r: random.Random) -> float: return r.uniform(0, 1)", set()),
        ("from random import Random\ndef f(random: Random) -> float: return random.uniform(0, 1)", set()),
        ("import random\nrandom.random()", {"random.random"}),
        ("import random\nf = random.choice", {"random.choice"}),
        ("import random\nr = random.Random()", {"random.Random()"}),
        ("import random as chance", {"random as"}),
        ("from random import uniform", {"random.uniform"}),
        ("from random import Random\nr = Random(1)", {"Random(1)"}),
        ("import trio", {"trio"}),
        ("import trio.lowlevel as low", {"trio.lowlevel"}),
        ("from trio import sleep", {"trio", "trio.sleep"}),
        ("def f():\n    import time", {"time"}),
        ("if TYPE_CHECKING:\n    import socket", {"socket"}),
        ("from os import urandom", {"os", "os.urandom"}),
        ("import os\nos.urandom(8)", {"os", "os.urandom"}),
        ("import timeit2, trio2, ossify", set()),
        ("f = open('x')", {"open('x')"}),
        ("import importlib\nimportlib.import_module('trio')", {"importlib.import_module('trio')"}),
    ],
)
def test_an_impurity_is_found(source: str, found: set[str]) -> None:
    assert impurities(ast.parse(source)) == found


def test_an_import_of_trio_is_seen_in_the_fresh_interpreter() -> None:
    assert "trio" in loaded_by(["softstate.wire", "trio"])
