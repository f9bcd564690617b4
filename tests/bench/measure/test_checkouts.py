"""Another checkout: its server is its own, and an error says how to mend one that cannot be run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure.checkouts import ENVIRONMENT, PACKAGES, THIS, Checkout, Checkouts, checkout_at, pairs_of, probe
from bench.measure.options import Measuring
from bench.measure.rounds import ROUNDS, ROUNDS_AGAINST, ROUNDS_QUICK
from bench.measure.servers import softstate_server
from softstate.errors import ConfigError


def test_another_checkout_runs_its_own_softstate(another: Path) -> None:
    other = checkout_at(another)
    assert other.versions.keys() == {"python", *PACKAGES}
    assert other.commit() == "unknown commit"
    for checkout in (other, THIS):
        with softstate_server(store="memory:", checkout=checkout) as server:
            assert Path(f"/proc/{server.pid}/cwd").readlink() == checkout.folder


def test_each_thing_that_is_missing_is_named_with_what_to_do(another: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkout of softstate is there.*git worktree add"):
        checkout_at(tmp_path)
    python = another / ENVIRONMENT
    (another / "softstate" / "__init__.py").write_text("import no_such_package\n")
    with pytest.raises(ConfigError, match=r"cannot import softstate \(ModuleNotFoundError: .*no_such.*pip install -e"):
        checkout_at(another)
    python.write_text("no program\n")
    with pytest.raises(ConfigError, match=r"cannot import softstate \(.*Exec format error.*pip install -e"):
        checkout_at(another)
    python.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ConfigError, match=r"cannot import softstate \(exit code 3\).*pip install -e"):
        checkout_at(another)
    python.unlink()
    with pytest.raises(ConfigError, match=r"has no environment of its own. Make it: python3 -m venv .*pip install -e"):
        checkout_at(another)


def test_an_environment_that_runs_another_softstate_is_refused(another: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # so that Python does not look into the folder itself
    monkeypatch.setenv("PYTHONPATH", str(THIS.folder))
    with pytest.raises(ConfigError, match=r"runs the softstate in .* instead. Unset PYTHONPATH"):
        checkout_at(another)


def test_candidates_have_one_name_for_each_checkout() -> None:
    assert Checkouts().named("a") == {"a": THIS}
    other = Checkout(Path("/other"), Path("/other/python"))
    assert Checkouts(against=other).named("a") == {"a, this": THIS, "a, against": other}
    assert pairs_of(["a, this", "b, this", "a, against", "c"]) == {"a": ("a, this", "a, against")}


def test_versions_that_differ_are_listed() -> None:
    versions = probe(THIS)["versions"]
    same = replace(THIS, versions=versions)
    assert Checkouts(against=same).differences() == []
    older = replace(THIS, versions={**versions, "trio": "0.1"})
    assert Checkouts(against=older).differences() == [f"trio {versions['trio']} / 0.1"]


def test_seven_rounds_against_another_unless_told_otherwise(tmp_path: Path) -> None:
    assert [Measuring(quick=quick).rounds for quick in (False, True)] == [ROUNDS, ROUNDS_QUICK]
    assert [Measuring(quick=quick, against=tmp_path).rounds for quick in (False, True)] == [ROUNDS_AGAINST] * 2
    assert Measuring(rounds_wanted=2, against=tmp_path).rounds == 2


def test_plots_are_refused_beside_against(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--plots does not go with --against"):
        Measuring(plots=tmp_path, against=tmp_path).report("b", "about")
