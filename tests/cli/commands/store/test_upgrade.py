"""A store of the November release, from its own statements to a backup and back: each step says the next."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from softstate.store import Store
from softstate.store.base import LAYOUT, Write
from softstate.testing.conformance.stage import state
from tests.kit.store_files import names, within

NOVEMBER = """
CREATE TABLE topic (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, value BLOB);
CREATE UNIQUE INDEX topic_name ON topic (topic);
CREATE INDEX topic_tombstone ON topic (version) WHERE value IS NULL;
CREATE TABLE lineage (start INTEGER PRIMARY KEY, nonce TEXT NOT NULL);
CREATE TABLE idempotency (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, digest BLOB);
CREATE UNIQUE INDEX idempotency_key ON idempotency (topic, key);
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, floor INTEGER, keys INTEGER);
PRAGMA application_id = 1936680564;
PRAGMA user_version = 1;
INSERT INTO meta VALUES (1, '864e9bce8834ec5bc1b56e652bac9e63', 0, 0);
INSERT INTO lineage VALUES (1, 'efc277c44fd98c73');
INSERT INTO topic VALUES (2, 'orders/42', x'6470616964'), (4, 'prices/eur', x'182a'), (5, 'gone', NULL);
"""
"""The statements of its schema, and three rows: two values and a tombstone."""


@pytest.fixture
def november(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "softstate.db")) as connection:
        connection.executescript(NOVEMBER)
    return folder / "softstate.db"


def test_a_store_of_november_is_carried_over_backed_up_and_restored(
    november: Path, output: Callable[..., list[str]], refusal: Callable[..., str]
) -> None:
    for command in (("info",), ("backup", "b.db"), ("copy", "sqlite:softstate.db", "sqlite:other.db")):
        assert "softstate store migrate sqlite:" in refusal(*command), "who only reads does not change it"
    output("migrate", "sqlite:softstate.db")
    assert names(november.parent) == ["softstate.db", "softstate.db.layout-1"]
    output("backup", "b.db")
    before = within("sqlite:softstate.db", state)
    assert before.keys() == {"orders/42", "prices/eur"}

    async def go_on(store: Store) -> None:
        await store.publish([Write("orders/42", b"\x01"), Write("new", b"\x01")])

    within("sqlite:softstate.db", go_on)
    output("restore", "b.db", "--yes")
    assert within("sqlite:softstate.db", state) == before
    shutil.copy(november.with_name("softstate.db.layout-1"), november.with_name("old.db"))
    assert "softstate store migrate sqlite:" in refusal("restore", "old.db", "--yes")


def test_a_node_carries_it_over_by_itself_and_a_later_one_is_refused(
    november: Path, refusal: Callable[..., str]
) -> None:
    assert within("sqlite:softstate.db", state).keys() == {"orders/42", "prices/eur"}
    with closing(sqlite3.connect(november)) as connection:
        connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    told = refusal("info")
    assert f"has layout {LAYOUT + 1}, this softstate knows {LAYOUT}" in told
    assert "install" in told
