"""The served files: made from the modules, without comments, and no larger than they were."""

from __future__ import annotations

import gzip
import re

import pytest

from softstate.web import bundle
from tests.kit.node_js import WEB, evaluate

GZIP_BYTES_MAX = 44_000
"""Bytes of `softstate.js` and its worker together, as gzip sends them."""


@pytest.mark.parametrize("name", bundle.BUNDLES)
def test_a_served_file_is_what_its_modules_make(name: str) -> None:
    again = "run: python -m softstate.web.bundle"
    assert (WEB / name).read_text("utf-8") == bundle.bundle(bundle.BUNDLES[name]), again


def test_both_files_together_keep_to_the_budget() -> None:
    sizes = [len(gzip.compress((WEB / name).read_bytes(), 9, mtime=0)) for name in bundle.BUNDLES]
    assert sum(sizes) <= GZIP_BYTES_MAX, sizes


def test_comments_go_and_texts_that_look_like_them_stay() -> None:
    source = r"""/** Doc. */
const a = "// no"; // yes
  const b = 'it\'s /* no */';
const c = `// ${a} /* no */`;
const d = /["'`/]\/\/[/*]+/g; /* yes
*/ const e = 4 / 2 / 1; // yes
const f = (a) => /x\/\*/.test(a);

"""
    assert bundle.stripped(source).splitlines() == [
        'const a = "// no";',
        r"const b = 'it\'s /* no */';",
        "const c = `// ${a} /* no */`;",
        r"""const d = /["'`/]\/\/[/*]+/g;""",
        "const e = 4 / 2 / 1;",
        r"const f = (a) => /x\/\*/.test(a);",
    ]


def test_what_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="not understood"):
        bundle.stripped("const a = `${`${1}`} `;`")


def test_no_line_of_a_served_file_is_a_comment() -> None:
    for name in bundle.BUNDLES:
        lines = (WEB / name).read_text("utf-8").splitlines()[1:]
        assert [line for line in lines if re.match(r"\s|//|/\*|\*", line)] == []


def test_the_machine_of_the_worker_runs() -> None:
    text = """([urls]) => {
      const machine = new Machine({ urls }, new Random(() => 0.5, () => "ab"));
      return machine.handle({ event: "opened" }, 1).map((action) => action.do);
    }"""
    imports = 'import { Machine, Random } from "./softstate-worker.js";'
    assert evaluate(WEB, imports, text, [["ws://a"]]) == ["mode_changed", "connect"]
