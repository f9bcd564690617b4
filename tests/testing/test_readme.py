"""The examples of `softstate/testing/README.md` run, and the functions that it quotes are the real ones."""

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from softstate.testing import STORE_CHECKS
from tests.simulation import mutants

PAGE = Path(__file__).parents[2] / "softstate" / "testing" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(block: str, **names: Any) -> dict[str, Any]:
    exec(block, names)
    return names


def block_with(text: str) -> str:
    (block,) = (block for block in BLOCKS if text in block)
    return str(block)


def test_the_node_in_memory() -> None:
    test = run(block_with("memory_node"))["test_prices_survive_a_crash"]
    trio.run(test, None, clock=MockClock(autojump_threshold=0))


def test_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(block_with("run_checked"))["oracle"].publishes.acknowledged == 1
    assert re.fullmatch(r"\d+ [0-9a-f]{64}\n", capsys.readouterr().out)


def test_the_schedule_of_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    run(block_with("run_schedule"))
    assert capsys.readouterr().out.startswith("every promise held in ")


async def test_the_backend() -> None:
    test = run(block_with("MyBackend"))["test_my_store"]
    for check in STORE_CHECKS:
        await test(check)


def test_the_mutant() -> None:
    source = Path(mutants.__file__).read_text(encoding="utf-8")
    assert block_with("hub_not_awaited").replace("pytest.MonkeyPatch", "Patch").strip() in source
