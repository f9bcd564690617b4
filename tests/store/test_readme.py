"""The example of an engine of one's own in the package's page runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import softstate.store

PAGE = Path(softstate.store.__file__).with_name("README.md")


async def test_the_example_passes_the_contract() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    await names["test_contract"]()


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)?\.(?:py|sql))`", PAGE.read_text(encoding="utf-8")))
    there = {path.relative_to(PAGE.parent) for path in PAGE.parent.rglob("*.*")}
    assert named
    assert [name for name in sorted(named) if not any(str(path).endswith(name) for path in there)] == []
