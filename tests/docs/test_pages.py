"""Every block of code in the guides (softstate/docs/) runs as pasted, and prints what the page says it prints.

Only the port differs: 8700 may be taken. Links lead to files, and to headings that exist.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, Shell, blocks, pattern_of, run_python, steps
from tests.kit.engines import left_out, missing

FOLDER = ROOT / "softstate" / "docs"
PAGES = sorted(FOLDER.glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
COLUMNS_MAX = 150


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.timeout(280)  # twenty commands, on a machine that is busy
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_works(page: Path, shell: Shell) -> None:
    found = blocks(page.read_text(encoding="utf-8"))
    commands = " ".join(block.text for block in found if block.language == "console")
    if "curl" in commands and shutil.which("curl") is None:
        missing("curl is not installed")
    if "$ node " in commands and shutil.which("node") is None:
        left_out("Node.js is not installed")
    for block in found:
        try:
            shell.run(block)
        except Exception as error:
            error.add_note(f"in the block at line {block.line} of {page.name}")
            raise


def heading_links(path: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith("https://")]
    for link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in heading_links(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_are_not_too_long(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > COLUMNS_MAX and not line.startswith("|")] == []


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+[.,]\d+", text))


def test_what_is_compared_was_measured() -> None:
    section = (FOLDER / "comparison.md").read_text(encoding="utf-8").partition("## Measured beside them")[2]
    measured = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "bench/README.md"))
    told = numbers(section.partition("## Sources")[0])
    assert len(told) > 10
    assert told - numbers(measured) == set()


def test_every_metric_exists() -> None:
    named = set(re.findall(r"`softstate_(\w+?)(?:_total)?`", (FOLDER / "operations.md").read_text(encoding="utf-8")))
    observed = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "softstate" / "server").rglob("*.py"))
    assert len(named) > 10
    assert [name for name in named if f'"{name}"' not in observed and f'"softstate_{name}"' not in observed] == []


def test_sizes_were_measured() -> None:
    section = (FOLDER / "operations.md").read_text(encoding="utf-8").partition("## Sizing")[2].partition("\nSo ")[0]
    measured = numbers((ROOT / "bench" / "README.md").read_text(encoding="utf-8"))
    assert numbers(section) - measured == set()


def test_every_source_is_named_and_every_name_has_a_source() -> None:
    text, _, sources = (FOLDER / "comparison.md").read_text(encoding="utf-8").partition("## Sources")
    listed = re.findall(r"^(\d+)\. .*?https://", sources, re.MULTILINE | re.DOTALL)
    assert sorted(set(re.findall(r"\[(\d+)\](?!\()", text)), key=int) == listed


# The runner can fail -------------------------------------------------------------------------------------------------


def test_blocks_and_steps_are_found() -> None:
    assert blocks("a\n```js\nx\n```\nb\n```\ny\n```\n") == [Block(2, "js", "x\n"), Block(6, "", "y\n")]
    assert steps("$ a b\n1\n2\n$ c\n") == [("a b", "1\n2"), ("c", "")]


@pytest.mark.parametrize(
    ("printed", "found", "fits"),
    [("a", "a", True), ("a", "b", False), ("a … c", "a b c", True), ("1.5 s", "0.2 s", True), ("1.5", "0.2", False)],
)
def test_what_is_printed_is_compared(printed: str, found: str, fits: bool) -> None:
    assert (pattern_of(printed).fullmatch(found) is not None) == fits


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ echo a\nb\n"),
        ("console", "$ false\n"),
        ("python", "assert False\n"),
        ("python", "async def test_it(autojump_clock):\n    assert False\n"),
        ("perl", "1\n"),
        ("js", "1\n"),
    ],
)
def test_a_block_that_does_not_work_fails(shell: Shell, language: str, text: str) -> None:
    with pytest.raises(AssertionError):
        shell.run(Block(1, language, text))


def test_a_module_of_tests_runs_under_a_virtual_clock() -> None:
    run_python("import trio\nasync def test_it(autojump_clock):\n    await trio.sleep(10_000)\n")
