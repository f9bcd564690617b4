"""Every block of Python for users of the client runs as pasted, under each loop that it is for, against one node.

`test_pages.py` runs the guides from top to bottom, with the commands between the blocks and under the loop that they
name; here a block stands for itself, and another loop takes the place of the one that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import softstate
from tests.docs.pages import ROOT, blocks, run_python
from tests.kit.loops import node_thread

PAGES = [
    ROOT / "README.md",
    ROOT / "softstate" / "client" / "CLIENT.md",
    *sorted((ROOT / "softstate/docs").glob("*.md")),
]
RUNS = {"trio": "trio.run(main)", "asyncio": "asyncio.run(main())"}
CALL = re.compile("|".join(f"^{re.escape(run)}" for run in RUNS.values()), re.MULTILINE)
PRESENT = {"orders/42": {"state": "new"}, "prices/eur": 1.5}
"""The examples take these topics to be there."""


def programs(page: Path) -> Iterator[tuple[str, str]]:
    """List the blocks of a page by line and loop."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language != "python":
            continue
        place = f"{page.name}:{block.line}"
        if CALL.search(block.text) is None:
            yield place, block.text
            continue
        for loop, run in RUNS.items():
            yield f"{place}-{loop}", f"import {loop}\n{CALL.sub(run, block.text)}"


PROGRAMS = {name: text for page in PAGES for name, text in programs(page)}


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    with node_thread() as node:
        with softstate.sync.connect(node.url) as soft:
            for topic, value in PRESENT.items():
                soft.publish(topic, value)
        yield node.url.rpartition(":")[2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs(name: str, port: str) -> None:
    run_python(PROGRAMS[name].replace("8700", port))


def test_each_loop_has_programs_and_so_have_threads() -> None:
    assert sum(name.endswith("-trio") for name in PROGRAMS) == sum(name.endswith("-asyncio") for name in PROGRAMS) >= 4
    assert any("softstate.sync.connect" in text for text in PROGRAMS.values())
    assert any("memory_node" in text for text in PROGRAMS.values())


def test_a_block_that_does_not_run_fails(tmp_path: Path, port: str) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nasync def main():\n    undefined\n\n\ntrio.run(main)  # or\n```\n")
    found = dict(programs(page))
    assert list(found) == ["page.md:1-trio", "page.md:1-asyncio"]
    for text in found.values():
        with pytest.raises(NameError, match="undefined"):
            run_python(text)
