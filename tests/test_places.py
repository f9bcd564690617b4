"""Every test has the markers of its place, every place is there, and the table of places can fail."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.kit.engines import REQUIRED, missing
from tests.places import MARKERS, NAMED, PLACES, THOROUGH, UNITS, markers_of, order_of, unit_of

ROOT = Path(__file__).parents[1]
TESTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py"))


def test_every_test_has_exactly_the_markers_of_its_place(request: pytest.FixtureRequest) -> None:
    wrong = {
        item.nodeid: sorted(given)
        for item in request.session.items
        if (given := {marker.name for marker in item.iter_markers() if marker.name in MARKERS})
        != set(markers_of(item.nodeid))
    }
    assert wrong == {}


def test_the_tests_of_a_unit_share_a_process(tmp_path: Path) -> None:
    """In a small tree of tests that note their process; those of a place without units wait for another process."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler\n", encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    together = ["tests/cli/commands", "tests/cli/processes", "tests/wire"]
    for number, place in enumerate([*together, "tests/simulation"]):
        (tmp_path / place).mkdir(parents=True)
        source = f"""
            import os, pathlib, pytest
            seen = pathlib.Path({str(tmp_path)!r}) / "{number}"
            @pytest.mark.parametrize("number", range(12))
            def test_it(number):
                open(seen, "a").write(f"{{os.getpid()}}\\n")
                while {place not in together} and len(set(seen.read_text().split())) < 2:
                    os.sched_yield()
        """
        (tmp_path / place / f"test_{number}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    seen = [(tmp_path / str(number)).read_text(encoding="utf-8").split() for number in range(4)]
    assert [len(processes) for processes in seen] == [12, 12, 12, 12]
    assert len({*seen[0], *seen[1]}) == len({*seen[2]}) == 1
    assert len({*seen[3]}) == 2


def test_every_place_and_every_named_test_is_there() -> None:
    for place in [*PLACES, *UNITS]:
        assert (ROOT / place).exists(), place
    for name in [*NAMED, *(name.partition("[")[0] for name in THOROUGH)]:
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {getattr(node, "name", "") for node in tree.body}, name


def test_every_place_says_something() -> None:
    given = {marker for markers in [*PLACES.values(), *NAMED.values()] for marker in markers}
    assert {*given, "thorough"} == set(MARKERS)
    needless = [place for place in PLACES if "/" in place and PLACES[place] == markers_of(place.rpartition("/")[0])]
    assert needless == []
    assert [name for name in NAMED if NAMED[name] == markers_of(name.partition("::")[0])] == []


@pytest.mark.parametrize("path", TESTS)
def test_no_test_is_marked_by_hand(path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert [marker for marker in MARKERS if f"pytest.mark.{marker}" in source] == []


_COPIES = "tests/exhaustive/test_copies.py::test_what_freezes_to_the_same_does_the_same[True]"
_WALKS = "tests/exhaustive/test_exhaustive.py::test_a_small_world_is_visited_whole[1]"


@pytest.mark.parametrize(
    ("test", "markers", "unit"),
    [
        ("tests/wire/test_value.py::test_it[1]", ("fast",), "tests/wire/test_value.py"),
        ("tests/store/engines/test_outages.py::test_it[redis]", ("engines",), "redis"),
        ("tests/store/engines/test_outages.py::test_it[engine0-etcd-x]", ("engines",), "etcd"),
        ("tests/store/engines/test_postgres_open.py::test_it", ("engines",), "postgres"),
        ("tests/store/engines/test_shared_engine.py::test_it", ("engines",), "engines"),
        ("tests/processes/test_crash.py::test_it", ("processes",), "nodes"),
        ("tests/store/sqlite/test_store.py::test_it", (), "tests/store/sqlite/test_store.py"),
        (_COPIES, ("slow", "thorough"), _COPIES),
        (_WALKS, ("slow",), _WALKS),
    ],
)
def test_a_place_gives_markers_and_a_unit(test: str, markers: tuple[str, ...], unit: str) -> None:
    assert markers_of(test) == markers
    assert unit_of(test) == unit


def test_groups_come_first_and_files_last() -> None:
    tests = ["tests/processes/test_crash.py::test_it", _WALKS, "tests/wire/test_value.py::test_it[1]"]
    assert [order_of(test) for test in tests] == [0, 1, 2]


def test_a_test_that_is_not_marked_so_cannot_start_a_process() -> None:
    with pytest.raises(AssertionError, match="marker `processes`"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_missing_engine_skips_a_test_and_fails_it_where_engines_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no engine"):
        missing("no engine")
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="no engine"):
        missing("no engine")
