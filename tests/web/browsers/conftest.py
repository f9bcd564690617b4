"""A browser of each kind for all tests of a module, with one tab that keeps it open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.browsers import EXECUTABLES, Browser
from tests.kit.npm import npm_folder


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npm_folder(tmp_path_factory, "puppeteer-core@24")


@pytest.fixture(scope="module", params=sorted(EXECUTABLES))
def browser(request: pytest.FixtureRequest, npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(request.param, npm, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def chromium(npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser("chromium", npm, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
