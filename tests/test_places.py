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
from tests.places import GROUPS, MARKERS, NAMED, PLACES, THOROUGH, group_of, markers_of

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


def test_the_tests_of_a_group_share_a_process(tmp_path: Path) -> None:
    """In a small tree of tests that note their process."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler\n", encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    for number, place in enumerate(["tests/processes", "tests/cli/processes", "tests/wire"]):
        (tmp_path / place).mkdir(parents=True)
        source = f"""
            import os, pathlib, pytest
            @pytest.mark.parametrize("number", range(12))
            def test_it(number):
                open(pathlib.Path({str(tmp_path)!r}) / "seen", "a").write(f"{place} {{os.getpid()}}\\n")
        """
        (tmp_path / place / f"test_{number}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider", str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    seen = [line.split() for line in (tmp_path / "seen").read_text(encoding="utf-8").splitlines()]
    assert len(seen) == 36
    assert len({process for place, process in seen if place != "tests/wire"}) == 1
    assert len({process for place, process in seen if place == "tests/wire"}) > 1


def test_every_place_and_every_named_test_is_there() -> None:
    for place in [*PLACES, *GROUPS]:
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


@pytest.mark.parametrize(
    ("test", "markers", "group"),
    [
        ("tests/wire/test_value.py::test_it[1]", ("fast",), ""),
        ("tests/store/engines/test_outages.py::test_it[redis]", ("engines",), "redis"),
        ("tests/store/engines/test_outages.py::test_it[engine0-etcd-x]", ("engines",), "etcd"),
        ("tests/store/engines/test_postgres_open.py::test_it", ("engines",), "postgres"),
        ("tests/processes/test_crash.py::test_it", ("processes",), "processes"),
        ("tests/store/sqlite/test_store.py::test_it", (), ""),
        (
            "tests/exhaustive/test_copies.py::test_what_freezes_to_the_same_does_the_same[True]",
            ("slow", "thorough"),
            "",
        ),
        ("tests/exhaustive/test_exhaustive.py::test_walks_at_random_converge[True-0.0]", ("thorough",), ""),
        ("tests/exhaustive/test_exhaustive.py::test_walks_at_random_converge[True-0.5]", (), ""),
    ],
)
def test_a_place_gives_markers_and_a_group(test: str, markers: tuple[str, ...], group: str) -> None:
    assert markers_of(test) == markers
    assert group_of(test) == group


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
