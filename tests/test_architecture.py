"""The rules of `softstate/ARCHITECTURE.md` for imports and files, read from that page and held against the source.

The table of its code map is the rule: every package that may be imported where, every library, and which packages do no
I/O. It is closed in both directions: an import that no row allows fails, and so does an allowance that no import uses.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "softstate" / "ARCHITECTURE.md"
LINES_MAX = 500
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

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
    "softstate.wire.codec.cbor": {"os", "os.urandom"},
    "softstate.store.rules.nonce": {"random.SystemRandom", "SystemRandom()"},
}
"""The exceptions: the CBOR codec ends a message by bytes that its sender cannot know, which decide nothing else; and
the generator that names epochs and lineages where no caller gives another has a default."""

VOCABULARY = {"position.py", "errors.py", "names.py", "model.py"}
"""The rows that the word *vocabulary* stands for in the table."""

IMPORT_BY_NAME = {"softstate.store", "softstate.testing"}
"""The modules that import others by a name that they make up. Names of modules in text count as imports everywhere."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for root in ("softstate", "bench") for path in sorted((ROOT / root).rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"), str(FILES[module]))


def import_statements(tree: ast.AST, package: str) -> Iterator[tuple[str, list[str]]]:
    """List the imports anywhere in a tree, for types alone as well: a module, and the names that are taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base, [alias.name for alias in node.names]


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """List the dotted names that a tree imports; ``from a import b`` is a and a.b; a call that imports is itself."""
    for base, names in import_statements(tree, package):
        yield base
        yield from (f"{base}.{name}" for name in names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("__import__", "import_module"):
            yield ast.unparse(node)


def package_of(module: str) -> str:
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


@cache
def imports_of(module: str) -> set[str]:
    return set(imports(tree_of(module), package_of(module)))


def within(name: str, roots: Iterable[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def below(package: str) -> list[str]:
    return [module for module in FILES if within(module, [package])]


# The table -----------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One package of the code map: where it is, whether it does no I/O, and what it may import."""

    name: str
    sans_io: bool
    vocabulary: bool
    packages: frozenset[str]
    libraries: frozenset[str]


def quoted(cell: str) -> list[str]:
    """List what stands in back quotes in a cell."""
    return cell.split("`")[1::2]


def rows_of(page: str) -> list[Row]:
    """Read the table whose header begins with ``| package | I/O |``."""
    lines = iter(page.splitlines())
    for line in lines:
        if line.startswith("| package | I/O |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        name, sans_io, packages, libraries = (cell.strip() for cell in line.strip("|").split("|"))
        assert sans_io in ("none", ""), line
        (own,) = quoted(name)
        vocabulary = packages.startswith("vocabulary")
        rows.append(Row(own, sans_io == "none", vocabulary, frozenset(quoted(packages)), frozenset(quoted(libraries))))
    return rows


ROWS = {row.name: row for row in rows_of(PAGE.read_text(encoding="utf-8"))}


def row_of(module: str) -> str:
    """Name the row of a module: its own file's, else that of the innermost folder that has one."""
    path = FILES[module].relative_to(ROOT / "softstate")
    folders = [f"{folder}/" for folder in path.parents]
    return next((name for name in (str(path), *folders) if name in ROWS), folders[0])


def module_at(name: str) -> str | None:
    """Return the module of softstate that a dotted name is, or is in."""
    while name not in FILES:
        name = name.rpartition(".")[0]
        if not name:
            return None
    return name if within(name, ["softstate"]) else None


def named_in_text(tree: ast.AST) -> Iterator[str]:
    """List the modules that text in the code names, as ``importlib`` and Cyclopts are given them; loggers are none."""
    loggers = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "structlog.get_logger"
        for argument in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in loggers:
            name = node.value.partition(":")[0].rstrip(".")
            if name in FILES and name.startswith("softstate."):
                yield name


@cache
def used_by(module: str) -> set[str]:
    """List the modules of softstate that a module imports. Of ``from package import module`` it is only the latter."""
    found = set(named_in_text(tree_of(module)))
    for base, names in import_statements(tree_of(module), package_of(module)):
        found |= {used for name in names or [""] if (used := module_at(f"{base}.{name}"))}
    return found - {module}


def libraries_of(module: str) -> set[str]:
    roots = {name.partition(".")[0] for name in imports_of(module) if "(" not in name}
    return roots - sys.stdlib_module_names - {"softstate"}


PACKAGE = [module for module in FILES if within(module, ["softstate"])]


@cache
def used() -> dict[str, set[str]]:
    """Return which rows each row's modules import, its own left out."""
    found: dict[str, set[str]] = {}
    for module in PACKAGE:
        own = row_of(module)
        found.setdefault(own, set()).update({row_of(other) for other in used_by(module)} - {own})
    return found


@cache
def used_libraries() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module in PACKAGE:
        found.setdefault(row_of(module), set()).update(libraries_of(module))
    return found


def sans_io_modules() -> list[str]:
    return sorted(module for module in PACKAGE if (row := ROWS.get(row_of(module))) and row.sans_io)


def has_code(module: str) -> bool:
    return len(tree_of(module).body) > 1


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    needed = {row_of(module) for module in PACKAGE if has_code(module)}
    assert needed == ROWS.keys(), "the code map of softstate/ARCHITECTURE.md lists other packages than there are"


@pytest.mark.parametrize("name", ROWS)
def test_a_package_imports_what_its_row_allows_and_all_of_that(name: str) -> None:
    row, found = ROWS[name], used().get(name, set())
    shared = found & VOCABULARY if row.vocabulary else set()
    where = f"by the row `{name}` of the code map in softstate/ARCHITECTURE.md"
    assert found - shared - row.packages == set(), f"not allowed {where}"
    assert row.packages - found == set(), f"allowed {where}, and imported by no module"
    assert bool(shared) == row.vocabulary, f"the vocabulary is allowed {where}, and imported by no module"


@pytest.mark.parametrize("name", ROWS)
def test_a_package_imports_the_libraries_that_its_row_names(name: str) -> None:
    assert used_libraries().get(name, set()) == ROWS[name].libraries


def test_a_row_allows_only_rows_above_it() -> None:
    above: set[str] = set()
    for row in ROWS.values():
        assert row.packages <= above, f"`{row.name}`: a package uses only those above it"
        assert not row.vocabulary or above >= VOCABULARY
        above.add(row.name)


def test_a_sans_io_package_imports_sans_io_packages_only() -> None:
    wrong = [
        f"{row.name}: {other}"
        for row in ROWS.values()
        if row.sans_io
        for other in row.packages
        if not ROWS[other].sans_io
    ]
    assert wrong == []


def reached_from(module: str) -> set[str]:
    found: set[str] = set()
    waiting = {module}
    while waiting:
        uses = used_by(waiting.pop())
        waiting |= uses - found
        found |= uses
    return found


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert {module for module in PACKAGE if module in reached_from(module)} == set()


def test_modules_are_imported_by_name_in_known_places_only() -> None:
    by_name = {module for module in PACKAGE if any("import_module(" in name for name in imports_of(module))}
    assert by_name == IMPORT_BY_NAME


# Sans-I/O ------------------------------------------------------------------------------------------------------------


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


# Other rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["softstate.server", "softstate.client"])
def test_one_module_on_each_side_imports_trio_websocket(side: str) -> None:
    importers = [
        module for module in below(side) if any(within(name, ["trio_websocket"]) for name in imports_of(module))
    ]
    assert len(importers) == 1


def broad_handlers(tree: ast.AST) -> list[int]:
    """List the lines that catch, or suppress, every error; to clean up and raise again is allowed."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {ast.unparse(kind).split(".")[-1] if kind is not None else "BaseException" for kind in kinds}
            raises = bool(node.body) and isinstance(node.body[-1], ast.Raise)
            if "Exception" in names or ("BaseException" in names and not raises):
                found.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            names = {ast.unparse(argument).split(".")[-1] for argument in node.args}
            if names & {"Exception", "BaseException"}:
                found.append(node.lineno)
    return found


BULKHEAD = "softstate.server.bulkhead"

CATCH_ALL = {
    BULKHEAD,
    "softstate.testing.simulation.schedule",  # any error in a world is a finding
    "softstate.cli",  # reports errors, and raises those that are bugs
    "softstate.cli.processes.worker",  # the same
    "softstate.store.etcd.notifications",  # hands the error on to the task that waits
}
"""The modules that may catch every error. Of the server, the bulkhead alone."""


def test_every_error_is_caught_in_the_bulkhead_only() -> None:
    assert {module for module in PACKAGE if broad_handlers(tree_of(module))} <= CATCH_ALL
    assert {module for module in below("softstate.server") if broad_handlers(tree_of(module))} == {BULKHEAD}


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


# The rules can fail --------------------------------------------------------------------------------------------------

TABLE = """
| package | I/O | may import | libraries |
|---|---|---|---|
| `a.py` | none | | |
| `b/` | | vocabulary `a.py` `c/d.py` | `trio` `h11` |

| another | table |
"""


def test_the_table_is_read() -> None:
    first, second = rows_of(TABLE)
    assert first == Row("a.py", sans_io=True, vocabulary=False, packages=frozenset(), libraries=frozenset())
    assert (second.name, second.sans_io, second.vocabulary) == ("b/", False, True)
    assert second.packages == {"a.py", "c/d.py"}
    assert second.libraries == {"trio", "h11"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 'softstate.store.redis.store'", ["softstate.store.redis.store"]),
        ("add('softstate.cli.commands.get:command')", ["softstate.cli.commands.get"]),
        ("add(f'softstate.cli.commands.{name}:command')", ["softstate.cli.commands"]),
        ("log = structlog.get_logger('softstate.store')", []),
        ("x = 'softstate.node', 'softstate'", []),
    ],
)
def test_a_module_that_text_names_is_an_import(source: str, found: list[str]) -> None:
    assert list(named_in_text(ast.parse(source))) == found


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
    ("handler", "found"),
    [
        ("except OSError: pass", []),
        ("except Exception: pass", [3]),
        ("except* Exception: pass", [3]),
        ("except (OSError, Exception) as e: raise e", [3]),
        ("except: pass", [3]),
        ("except BaseException: raise", []),
        ("except BaseException: f()", [3]),
        ("except builtins.Exception: pass", [3]),
        ("finally:\n with contextlib.suppress(Exception): f()", [4]),
    ],
)
def test_a_broad_handler_is_found(handler: str, found: list[int]) -> None:
    assert broad_handlers(ast.parse(f"try:\n f()\n{handler}")) == found


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
