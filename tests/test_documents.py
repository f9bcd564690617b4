"""Every path, link, class, function and constant that the pages for contributors name exists."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_promises import PROMISES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "softstate"
ARCHITECTURE = PACKAGE / "ARCHITECTURE.md"
PAGES = [
    ARCHITECTURE,
    PACKAGE / "DECISIONS.md",
    PACKAGE / "CHANGELOG.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / ".github" / "SECURITY.md",
    PACKAGE / "ops" / "README.md",
]

QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
PATH = re.compile(r"([\w.-]+/)*[\w.-]*(/|\.(py|md|toml|sql|lua|yaml|json))")
NAME = re.compile(r"[A-Z]\w*[a-z]\w*(\.\w+)?")
"""A class, or an attribute of one; what is in upper case throughout may be a word of SQL."""


class Quote(NamedTuple):
    """A path in back quotes, perhaps with a name of that file behind ``::``; or such a name alone."""

    path: str
    name: str


def quotes(page: str) -> list[Quote]:
    """List what a page quotes of the code; blocks of code are passed over."""
    found = []
    for text in QUOTED.findall(re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
        path, _, name = text.partition("::")
        if PATH.fullmatch(path) and not path.startswith("/"):
            found.append(Quote(path, name))
        elif NAME.fullmatch(text):
            found.append(Quote("", text))
    return found


@cache
def names_of(path: Path) -> frozenset[str]:
    """List what a module defines at its top level, and ``Class.attribute`` for what its classes define or annotate."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names |= defined(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for inner in node.body for name in defined(inner)}
    return frozenset(names)


def defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


def found_at(path: str) -> Path | None:
    """Return the file or folder that a page calls so: below softstate/, at the root, or by a name without a folder."""
    for base in (PACKAGE, ROOT):
        if (base / path).exists():
            return base / path
    if "/" not in path:
        return next(PACKAGE.rglob(path), None)
    return None


def exists(quote: Quote) -> bool:
    if not quote.path:
        return any(quote.name in names_of(path) for path in PACKAGE.rglob("*.py"))
    path = found_at(quote.path)
    return path is not None and (not quote.name or quote.name in names_of(path))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_exists(page: Path) -> None:
    quoted = quotes(page.read_text(encoding="utf-8"))
    assert [quote for quote in quoted if not exists(quote)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_table_of_promises_names_all_of_them_and_their_tests() -> None:
    lines = ARCHITECTURE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    named = {cells[0]: cells for cells in rows if re.fullmatch(r"S\d+|B|L", cells[0])}
    tests = {promise.partition(" ")[0]: tests for promise, tests in PROMISES.items()}
    assert named.keys() == tests.keys()
    for promise, (_, what, _, test) in named.items():
        (title,) = (name.partition(" ")[2] for name in PROMISES if name.partition(" ")[0] == promise)
        assert what.startswith(title), what
        assert test.strip("`").removeprefix("tests/") in {name.partition("::")[0] for name in tests[promise]}, promise


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`wire/codec.py` and `softstate/`", [Quote("wire/codec.py", ""), Quote("softstate/", "")]),
        ("`lease/table.py::LeaseTable.extend`", [Quote("lease/table.py", "LeaseTable.extend")]),
        ("`.dev/check`, `orders/42`, `/v1/ws`, `NOTIFY`, `ttl_ms`", []),
        ("`LeaseTable` `Store.wait`", [Quote("", "LeaseTable"), Quote("", "Store.wait")]),
        ("```\n`wire/codec.py`\n```", []),
    ],
)
def test_quotes_are_found(text: str, found: list[Quote]) -> None:
    assert quotes(text) == found


@pytest.mark.parametrize(
    "quote",
    [Quote("wire/no.py", ""), Quote("lease/table.py", "LeaseTable.no"), Quote("", "NoSuchClass"), Quote("no.py", "")],
)
def test_what_is_not_there_is_missed(quote: Quote) -> None:
    assert not exists(quote)
    assert exists(Quote("lease/table.py", "LeaseTable.extend"))
    assert exists(Quote("", "Store.name"))
