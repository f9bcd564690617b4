"""``softstate store check``: it runs every check in a scratch store beside, and names rows that are damaged."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from softstate.cli import exit_codes, run
from softstate.cli.commands.store.scratch import scratch, with_namespace
from softstate.errors import ConfigError
from softstate.store.sqlite.store import SqliteStore
from softstate.testing import STORE_CHECKS
from tests.kit.store_files import damage, fill, names, within


@pytest.mark.parametrize("url", ["memory:", "sqlite:softstate.db"])
def test_check_runs_every_check_beside_the_store(url: str, folder: Path, output: Callable[..., list[str]]) -> None:
    within("sqlite:softstate.db", fill)
    before = (folder / "softstate.db").read_bytes()
    lines = output("check", "--store", url)
    rows = [] if url == "memory:" else ["ok      rows"]
    assert [line for line in lines if line.startswith("ok ")] == rows + [
        f"ok      {getattr(check, '__name__', '?').replace('_', ' ')}" for check in STORE_CHECKS
    ]
    count = len(STORE_CHECKS) + len(rows)
    assert lines[-1] == f"{count} of {count} checks passed"
    assert any(line.startswith("warning: ") for line in lines) == (url == "memory:")
    assert (folder / "softstate.db").read_bytes() == before
    assert names(folder) == ["softstate.db"]


def test_check_says_which_rule_is_broken(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reads_nothing(_self: SqliteStore, revisions: Sequence[int]) -> list[None]:
        return [None for _ in revisions]

    monkeypatch.setattr(SqliteStore, "lineage_at", reads_nothing)
    assert run(["store", "check"]) == exit_codes.BROKEN
    lines = capsys.readouterr().out.splitlines()
    broken = [line for line in lines if line.startswith("BROKEN")]
    assert any(line.startswith("BROKEN  feed resumes where it ended: `upto` is on the history:") for line in broken)
    assert lines[-1] == f"{len(STORE_CHECKS) - len(broken)} of {len(STORE_CHECKS)} checks passed"
    assert names(folder) == []


def test_check_names_rows_that_are_damaged_or_gone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    within("sqlite:softstate.db", fill)
    damage(
        folder / "softstate.db",
        "UPDATE record SET value = x'00' WHERE topic = 'a'",
        "DELETE FROM record WHERE topic = 'c'",
    )
    assert run(["store", "check"]) == exit_codes.BROKEN
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "BROKEN  rows: the record of 'a' is unreadable: publish it without expect, or restore a backup",
        "BROKEN  rows: 1 records have vanished, of 3: restore a backup, since nothing tells which",
    ]
    assert lines[-1] == f"{len(STORE_CHECKS)} of {len(STORE_CHECKS) + 1} checks passed"
    damage(folder / "softstate.db", "DELETE FROM state")
    assert run(["store", "check"]) == exit_codes.BROKEN
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert "the row with its state is gone: it is damaged: stop every node, move it away, and restore a backup" in line


async def test_a_scratch_store_goes_away_with_its_block(tmp_path: Path) -> None:
    async with scratch(f"sqlite:{tmp_path / 'softstate.db'}") as backend:
        store = await backend.open()
        (folder,) = names(tmp_path)
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
        await store.aclose()
    assert names(tmp_path) == []
    with pytest.raises(ConfigError, match="neither"):
        async with scratch("mysql:x"):
            raise AssertionError("there is no such place")


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("redis://h", "redis://h?namespace=x"),
        ("etcd://h:1,i:2?cacert=a%2Fb&namespace=mine", "etcd://h:1,i:2?cacert=a%2Fb&namespace=x"),
        ("postgresql://u:p%40@h/db?schema=mine&sslmode=require", "postgresql://u:p%40@h/db?sslmode=require&schema=x"),
        ("rediss://h/3?password_env=P", "rediss://h/3?password_env=P&namespace=x"),
    ],
)
def test_a_namespace_is_set_in_a_url(url: str, other: str) -> None:
    assert with_namespace(url, "x") == other
