"""`open_store`: which store a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from softstate.errors import ConfigError
from softstate.model import Durability
from softstate.store import MemoryStore, check_url, open_store


async def test_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/a:b?c.db"
    store = await open_store(url, keys_max=5)
    assert (store.name, store.durability, store.keys_max) == (url, Durability.DURABLE, 5)
    await store.aclose()
    assert (tmp_path / "a:b?c.db").is_file()


async def test_sqlite_relative_paths_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite::memory:")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    await store.head()
    await store.aclose()
    assert (tmp_path / ":memory:").is_file(), "a path is a path, even if it looks like a scheme"


async def test_memory() -> None:
    store = await open_store("memory:", keys_max=5)
    assert isinstance(store, MemoryStore)
    assert (store.name, store.durability, store.keys_max) == ("memory:", Durability.NONE, 5)


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "sqlite", "softstate.db", "memory:x", "memory", "mysql://x", "redis:x", "SQLITE:a"]
)
async def test_anything_else_is_refused_with_the_choices(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:PATH.*memory:"):
        await open_store(url)


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
async def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite: its file .* can be no file's name"):
        check_url(f"sqlite:{path}")
    with pytest.raises(ConfigError, match=r"sqlite: its file .* can be no file's name"):
        await open_store(f"sqlite:{path}")
