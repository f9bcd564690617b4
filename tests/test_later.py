"""Names that are imported when they are first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import softstate
from softstate.later import later
from tests.kit.code_map import ROOT


@pytest.mark.parametrize("module", ["softstate", "softstate.server"])
def test_a_node_starts_without_the_client(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in sys.modules if name.startswith('softstate.client')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_a_name_is_imported_once() -> None:
    vars(softstate).pop("connect", None)
    first = softstate.connect
    assert vars(softstate)["connect"] is first
    assert softstate.connect is first


def test_a_name_that_is_not_there_is_told_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'softstate' has no attribute 'conect'"):
        _ = getattr(softstate, "conect")  # noqa: B009 - a name that mypy would find
    assert not hasattr(softstate, "conect")


def test_a_place_that_is_wrong_is_told() -> None:
    of = later("softstate", {"connect": "client.api.receipt", "nowhere": "client.nowhere"})
    with pytest.raises(AttributeError, match=r"softstate\.client\.api\.receipt"):
        of("connect")
    with pytest.raises(ModuleNotFoundError):
        of("nowhere")
