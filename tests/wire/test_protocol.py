"""The clauses of PROTOCOL.md: the tests of each, and that code and tests cite only clauses that exist.

`tests/wire/clauses/` is the index of the tests.
"""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from msgspec import NODEFAULT
from msgspec.inspect import (
    BoolType,
    DictType,
    EnumType,
    IntType,
    ListType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

from softstate.errors import ERRORS_BY_CODE
from softstate.position import REVISION_MAX
from softstate.server.http.routes import ROUTES, methods_of
from softstate.wire import CloseCode
from softstate.wire.messages import DURATION_MS_MAX
from tests.wire.clauses.index import CLAUSES, SECTIONS
from tests.wire.example_files import FOLDER, KINDS, load

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
INDEX = TESTS / "wire" / "clauses"
PROTOCOL = FOLDER.with_name("PROTOCOL.md")

ID = re.compile(r"\bP-[A-Z]+-[0-9]+\b")
CLAUSE = re.compile(r"- \*\*(P-[A-Z]+-[0-9]+)\*\* ")


def clauses() -> list[str]:
    """List the ids of the clauses, in the order of the page."""
    return CLAUSE.findall(PROTOCOL.read_text(encoding="utf-8"))


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def cited(folder: str) -> dict[str, list[str]]:
    """List which Python files of a folder cite which clause, the index left out."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.parent != INDEX:
            for clause in ID.findall(path.read_text(encoding="utf-8")):
                found.setdefault(clause, []).append(str(path.relative_to(ROOT)))
    return found


def test_every_clause_has_one_place_and_a_number_that_follows_the_one_before() -> None:
    last: dict[str, int] = {}
    for clause in clauses():
        area, _, number = clause.rpartition("-")
        assert int(number) == last.get(area, 0) + 1, clause
        last[area] = int(number)
    assert len(clauses()) > 80


def test_every_clause_says_why() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    bodies = re.split(r"\n(?=- \*\*P-|## |\n)", text)
    without = [body[:80] for body in bodies if CLAUSE.match(body) and "*Why:*" not in body]
    assert without == []


def test_the_page_cites_only_its_own_clauses() -> None:
    assert set(ID.findall(PROTOCOL.read_text(encoding="utf-8"))) == set(clauses())


def test_the_index_names_every_clause_in_the_order_of_the_page() -> None:
    assert [clause for section in SECTIONS for clause in section] == clauses()


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_test_named_for_a_clause_exists(clause: str) -> None:
    for name in CLAUSES[clause]:
        path, _, function = name.partition("::")
        if not function:
            assert clause in load(path)["clauses"], f"{clause}: {name} does not say that it shows it"
        else:
            assert function in functions_of(path), f"{clause}: {name} is gone; name the test that took its place"


def test_every_transcript_shows_clauses_that_exist() -> None:
    for path in FOLDER.glob("transcripts/*.json"):
        assert set(load(f"transcripts/{path.name}")["clauses"]) <= set(clauses()), path.name


@pytest.mark.parametrize("folder", ["softstate", "tests", "bench"])
def test_every_clause_that_is_cited_exists(folder: str) -> None:
    unknown = {clause: places for clause, places in cited(folder).items() if clause not in CLAUSES}
    assert unknown == {}


def test_the_code_cites_every_clause() -> None:
    assert set(CLAUSES) - set(cited("softstate")) == set()


def test_only_durations_cross_the_wire() -> None:
    for path in FOLDER.glob("messages/*.json"):
        times = re.findall(r'"(\w*(?:time|date|_at|expires|deadline)\w*)":', path.read_text(encoding="utf-8"))
        assert set(times) <= {"timeout_ms"}, path.name


# The tables ----------------------------------------------------------------------------------------------------------


def rows(section: int) -> list[list[str]]:
    """List the cells of every table row of a section, heads and rules left out."""
    text = PROTOCOL.read_text(encoding="utf-8")
    body = text.partition(f"\n## {section}. ")[2].partition("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("| ") and not re.search(r"\|\s*-+:?\|", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize(("section", "sender"), [(3, "client"), (4, "node")])
def test_the_tables_of_messages_have_every_field_and_no_other(section: int, sender: str) -> None:
    fields: dict[str, set[str]] = {}
    op = ""
    for first, second, *_ in rows(section)[1:]:
        op = first.strip("`") or op
        fields.setdefault(op, set()).update(re.findall(r"`([a-z_]+)(?:: true)?`", second))
    expected = {op: set(kind.__struct_fields__) for (side, op), kind in KINDS.items() if side == sender}
    assert fields == expected


def test_the_table_of_errors_has_every_code_with_its_status() -> None:
    found = {row[0].strip("`"): int(row[1]) for row in rows(5) if row[1].isdigit() and row[0].startswith("`")}
    assert found == {code: error.http_status for code, error in ERRORS_BY_CODE.items()}


def test_the_table_of_close_codes_has_every_code() -> None:
    found = {int(cell) for row in rows(5) for cell in (row[0], row[2]) if re.fullmatch("[14][0-9]{3}", cell)}
    assert found == set(CloseCode)


def test_the_table_of_requests_has_every_route_with_its_methods() -> None:
    routes: dict[str, set[str]] = {}
    for row in rows(6):
        for methods, paths in re.findall(r"`((?:GET|PUT|POST|DELETE)) ?(/[^`]*)?`", row[0]):
            routes.setdefault(paths, set()).add(methods)
    assert routes.pop("/v1/ws") == {"GET"}
    assert routes.pop("") == {"PUT"}  # which shares the path of DELETE
    routes["/v1/topics/{topic}"].add("PUT")
    for path in re.findall(r"`(/[a-z]+)`", " ".join(row[0] for row in rows(6))):
        routes[path] = {"GET"}
    assert routes == {path: set(methods_of(path)) - {"HEAD", "OPTIONS"} for path in routes}
    assert len(routes) == 13


def test_the_table_of_requests_has_every_parameter_and_header() -> None:
    named: dict[str, set[str]] = {}
    for row in rows(6):
        for path in re.findall(r"`[A-Z]+ (/[^`]*)`", row[0]):
            # An explanation stands behind its name in parentheses.
            words = re.sub(r" \([^)]*\)", "", row[1])
            for listed in re.findall(r"(?:Parameters?|Headers?): (`[^`]+`(?:, `[^`]+`)*)", words):
                named.setdefault(path, set()).update(re.findall(r"`([\w-]+)", listed))
    taken = {
        path: {name for each in methods.values() if each.about for name in (*each.parameters, *each.about.headers)}
        for path, methods in ROUTES.items()
    }
    assert named == {path: names for path, names in taken.items() if names}


def type_of(words: str) -> Callable[[Type], bool] | None:
    """Return what tells whether a class has the type that a table names; None for a type in words."""
    if words in ("revision", "count"):
        return lambda kind: kind == IntType(ge=0, le=REVISION_MAX)
    if words == "ms":
        return lambda kind: kind == IntType(ge=0, le=DURATION_MS_MAX)
    if words == "text":  # one of some words, perhaps
        return lambda kind: kind == StrType() or isinstance(kind, EnumType | LiteralType)
    if match := re.fullmatch(r"text(?:≤([0-9]+)|, ([0-9]+) to ([0-9]+) characters)", words):
        at_most, low, high = (None if text is None else int(text) for text in match.groups())
        return lambda kind: kind == StrType(min_length=low, max_length=at_most or high)
    kinds = {
        "boolean": BoolType, "position": StructType, "id": UnionType, "name→revision": DictType,
        "name→[name]": DictType, "[name]": ListType, "[text]": ListType, "[topic]": ListType, "[prefix]": ListType,
        "[change]": ListType,
    }  # fmt: skip
    return (lambda kind: isinstance(kind, kinds[words])) if words in kinds else None


DEFAULTS: dict[str, object] = {"none": None, "`{}`": {}, "`[]`": [], "false": False, "0": 0, '`""`': ""}


@pytest.mark.parametrize(("section", "sender", "least"), [(3, "client", 30), (4, "node", 55)])
def test_the_tables_of_messages_have_the_types_and_defaults_of_the_classes(
    section: int, sender: str, least: int
) -> None:
    compared, op = 0, ""
    for first, second, types, default, *_ in rows(section)[1:]:
        op = first.strip("`") or op
        fields = {field.name: field for field in type_info(KINDS[sender, op]).fields}  # type: ignore[attr-defined]
        names = re.findall(r"`([a-z_]+)`", second)
        kinds = [types] * len(names) if type_of(types) is not None else types.split(", ")
        defaults = [default] * len(names) if default in ("", *DEFAULTS) else default.split(", ")
        if len(kinds) != len(names):
            continue  # in words
        for name, words, value in zip(names, kinds, defaults, strict=True):
            is_kind, field = type_of(words), fields[name]
            if is_kind is None:
                continue
            kind = field.type.type if isinstance(field.type, Metadata) else field.type
            if isinstance(kind, UnionType) and NoneType() in kind.types:
                (kind, *more) = (each for each in kind.types if each != NoneType())
                kind = UnionType((kind, *more)) if more else kind
            assert is_kind(kind), f"{op}.{name} is {kind}, not {words}"
            assert field.required == (value == ""), f"{op}.{name}"
            made = field.default if field.default_factory is NODEFAULT else field.default_factory()
            if value and made is not NODEFAULT:  # else it is unset
                assert made == DEFAULTS[value], f"{op}.{name} is {made!r} by default, not {value}"
            compared += 1
    assert compared >= least
