"""The code map of `softstate/ARCHITECTURE.md` as read from that page, and what the modules of softstate import."""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "softstate" / "ARCHITECTURE.md"

VOCABULARY = {"position.py", "errors.py", "names.py", "model.py"}
"""The rows that the word *vocabulary* stands for in the table."""


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
