"""The clauses of PROTOCOL.md: the tests of each, and that code and tests cite only clauses that exist.

`tests/wire/clauses/` is the index of the tests.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from softstate.errors import ERRORS_BY_CODE
from softstate.server.http.routes import methods_of
from softstate.wire import CloseCode
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
    assert len(routes) == 11
