"""The import rules of the packages and the rules for files, read from the source.

Rules apply to every module that is there. So that they cannot hold merely because nothing is there, the packages must
be there.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_MAX = 500
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

IO = {
    "trio", "trio_websocket", "asyncio", "anyio", "socket", "ssl", "select", "selectors", "threading", "subprocess",
    "concurrent", "multiprocessing", "signal", "sqlite3", "http", "urllib",
}  # fmt: skip
CLOCKS = {"time", "datetime", "sched"}
CHANCE = {"secrets", "uuid", "os", "os.urandom"}
SANS_IO_FORBIDS = IO | CLOCKS | CHANCE
RANDOM_ALLOWED = {"Random"}
"""Of the module `random` a sans-I/O room may name the type of a generator that it is given, and nothing else."""

EXCEPTIONS = {"softstate.wire.codec.cbor": {"os", "os.urandom"}}
"""The one exception: the CBOR codec ends a message by bytes that its sender cannot know. They decide nothing else."""

SANS_IO = (
    "softstate.position",
    "softstate.names",
    "softstate.model",
    "softstate.errors",
    "softstate.wire",
    "softstate.lease",
    "softstate.session",
    "softstate.client.machine",
)

ROOMS = ("wire", "lease", "session", "store", "server", "client", "cli", "testing")
MAY_NOT_IMPORT = {
    "softstate.wire": {"softstate.lease", "softstate.store", "softstate.server", "softstate.client"},
    "softstate.lease": {"softstate.session", "softstate.store", "softstate.server", "softstate.client"},
    "softstate.session": {"softstate.store", "softstate.server", "softstate.client"},
    "softstate.store": {"softstate.lease", "softstate.server", "softstate.client"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for room in ("softstate", "bench") for path in sorted((ROOT / room).rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"), str(FILES[module]))


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """List the dotted names that a tree imports anywhere, for types alone as well; ``from a import b`` is a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("__import__", "import_module"):
            yield f"{ast.unparse(node)}"


def imports_of(module: str) -> set[str]:
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    return set(imports(tree_of(module), package))


def within(name: str, roots: Iterable[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def below(package: str) -> list[str]:
    return [module for module in FILES if within(module, [package])]


def impurities(tree: ast.AST, allowed: Iterable[str] = ()) -> set[str]:
    """Find what a sans-I/O module may not have: imports of I/O, clocks and chance, and randomness of its own."""
    found = {name for name in imports(tree, "") if within(name, SANS_IO_FORBIDS) and name not in allowed}
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
            if random_of_its_own or (node.value.id == "os" and name not in allowed):
                found.add(name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "Random",
            "random.Random",
            "SystemRandom",
            "open",
        ):
            found.add(ast.unparse(node))
    return found


def sans_io_modules() -> list[str]:
    return sorted(module for root in SANS_IO for module in below(root))


# The rules -----------------------------------------------------------------------------------------------------------


def test_the_rooms_are_there() -> None:
    for room in ROOMS:
        assert [module for module in below(f"softstate.{room}") if module.count(".") >= 2], room
    assert {"softstate.wire.codec", "softstate.lease.table", "softstate.store.base"} <= FILES.keys()
    assert {"softstate.client.machine.machine", "softstate.client.machine.table"} <= FILES.keys()
    assert len(sans_io_modules()) > 15


@pytest.mark.parametrize("module", sans_io_modules())
def test_a_sans_io_room_reads_no_clock_draws_no_number_and_does_no_io(module: str) -> None:
    assert impurities(tree_of(module), EXCEPTIONS.get(module, ())) == set()


def test_the_exceptions_are_still_needed() -> None:
    for module, allowed in EXCEPTIONS.items():
        assert impurities(tree_of(module)) == allowed


@pytest.mark.parametrize("room", MAY_NOT_IMPORT)
def test_a_room_imports_no_room_that_it_must_not_know(room: str) -> None:
    wrong = {
        f"{module}: {name}"
        for module in below(room)
        for name in imports_of(module)
        if within(name, MAY_NOT_IMPORT[room])
    }
    assert wrong == set()


@pytest.mark.parametrize("room", [*MAY_NOT_IMPORT, "softstate.server", "softstate.client"])
def test_a_room_imports_other_rooms_by_name_and_not_the_public_names(room: str) -> None:
    # `from softstate import x` would run whatever the package's __init__ imports, the Trio shells included.
    rooms = {module for module in FILES if module.count(".") == 1}
    wrong = {
        f"{module}: {name}"
        for module in below(room)
        for name in imports_of(module)
        if name.startswith("softstate.") and name.count(".") == 1 and name not in rooms
    }
    assert wrong == set()


@pytest.mark.parametrize("side", ["softstate.server", "softstate.client"])
def test_one_module_on_each_side_imports_trio_websocket(side: str) -> None:
    importers = [
        module for module in below(side) if any(within(name, ["trio_websocket"]) for name in imports_of(module))
    ]
    assert len(importers) == 1


def test_no_other_room_imports_trio_websocket() -> None:
    sides = [*below("softstate.server"), *below("softstate.client"), *below("bench")]
    others = [module for module in FILES if module not in sides]
    assert [module for module in others if any(within(name, ["trio_websocket"]) for name in imports_of(module))] == []


def test_the_package_only_re_exports() -> None:
    docstring, *rest = tree_of("softstate").body
    assert isinstance(docstring, ast.Expr)
    for node in rest:
        match node:
            case ast.ImportFrom(module=str(source)):
                assert source == "__future__" or within(source, ["softstate"])
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                assert name in ("__all__", "__version__")
            case _:
                pytest.fail(f"line {node.lineno} of softstate/__init__.py does more than re-export")


def test_no_file_is_too_long() -> None:
    sizes = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: size for module, size in sizes.items() if size > LINES_MAX} == {}


def test_no_module_has_a_vague_name() -> None:
    assert [module for module in FILES if VAGUE_NAMES & set(module.split("."))] == []


IMPORT_WITHOUT_SHELLS = """
import importlib, pathlib, sys, types
root, *modules = sys.argv[1:]
for name in ("softstate", "softstate.client"):
    package = types.ModuleType(name)
    package.__path__ = [str(pathlib.Path(root, *name.split(".")))]
    sys.modules[name] = package
for module in modules:
    importlib.import_module(module)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
"""Imports modules without the ``__init__`` of softstate and softstate.client, whose re-exported shells use Trio."""


def loaded_by(modules: list[str]) -> set[str]:
    command = [sys.executable, "-W", "error", "-c", IMPORT_WITHOUT_SHELLS, str(ROOT), *modules]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_sans_io_rooms_does_not_import_trio() -> None:
    loaded = loaded_by([module for module in sans_io_modules() if module in FILES])
    assert {"softstate", "msgspec", "cbor2"} <= loaded
    assert loaded & {"trio", "trio_websocket", "wsproto", "h11", "asyncio", "sqlite3"} == set()


# The rules can fail --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from softstate.store import base", {"softstate.store", "softstate.store.base"}),
        ("from ..store.base import Store", {"softstate.store.base", "softstate.store.base.Store"}),
        ("from .. import store", {"softstate", "softstate.store"}),
        ("from . import timer_wheel", {"softstate.lease", "softstate.lease.timer_wheel"}),
        ("import softstate.store", {"softstate.store"}),
    ],
)
def test_an_import_is_found_however_it_is_written(source: str, found: set[str]) -> None:
    assert set(imports(ast.parse(source), "softstate.lease")) == found


def test_an_import_of_trio_is_seen_in_the_fresh_interpreter() -> None:
    assert "trio" in loaded_by(["softstate.wire", "trio"])
