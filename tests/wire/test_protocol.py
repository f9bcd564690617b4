"""The clauses of PROTOCOL.md: the tests of each, and that code and tests cite only clauses that exist.

`tests/wire/clauses.py` is the index of the tests.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.wire.clauses import CLAUSES
from tests.wire.example_files import FOLDER, load

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
INDEX = TESTS / "wire" / "clauses.py"
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
        if path != INDEX:
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
    assert list(CLAUSES) == clauses()


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
