"""The rules of `softstate/ARCHITECTURE.md` for imports and files, read from that page and held against the source.

The table of its code map is the rule: every package that may be imported where, every library, and which packages do no
I/O. It is closed in both directions: an import that no row allows fails, and so does an allowance that no import uses.
"""

import ast

import pytest

from tests.kit.code_map import (
    FILES,
    PACKAGE,
    ROWS,
    VOCABULARY,
    Row,
    below,
    has_code,
    imports,
    imports_of,
    named_in_text,
    row_of,
    rows_of,
    tree_of,
    used,
    used_by,
    used_libraries,
    within,
)

LINES_MAX = 500
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

IMPORT_BY_NAME = {"softstate.later", "softstate.store"}
"""The modules that import others by a name that they make up. Imports for types alone count as imports everywhere."""


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


# Other rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "module"),
    [("trio_websocket", "trio_websockets"), ("wsproto", "trio_websockets"), ("websockets", "asyncio_websockets")],
)
def test_one_module_imports_a_websocket_library_and_it_is_the_clients(library: str, module: str) -> None:
    """A node reads and writes frames with code of its own, so that the two ends of a test share no implementation."""
    importers = [each for each in below("softstate") if any(within(name, [library]) for name in imports_of(each))]
    assert importers == [f"softstate.client.shell.{module}"]


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
    "softstate.client.shell.token_provider",  # an application's function
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
    parts = [part for node in rest for part in (node.body if isinstance(node, ast.If) else [node])]
    for node in parts:
        match node:
            case ast.ImportFrom(module=str(source)):
                assert source in ("__future__", "typing") or within(source, ["softstate"])
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                assert name in ("__all__", "__version__", "__getattr__")
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
