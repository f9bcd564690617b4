"""The client for browsers as nodes serve it, and npm gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from softstate.web import bundle


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that are made from the modules, and those beside them."""
    folder = tmp_path_factory.mktemp("package")
    bundle.write(folder)
    return folder
