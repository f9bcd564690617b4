"""The served files: made from the modules, without comments, and no larger than they were."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from softstate.web import bundle
from tests.kit.node_js import evaluate

GZIP_BYTES_MAX = 41_800
"""Bytes of `softstate.js` and its worker together, as gzip sends them."""


def test_the_package_has_the_files_that_it_names(package: Path) -> None:
    told = json.loads((package / "package.json").read_text("utf-8"))
    assert {*told["files"], "package.json"} == {path.name for path in package.iterdir()}
    named = [entry if isinstance(entry, str) else entry["default"] for entry in told["exports"].values()]
    assert {name.removeprefix("./") for name in named} <= set(told["files"])


def test_both_files_together_keep_to_the_budget(package: Path) -> None:
    sizes = [len(gzip.compress((package / name).read_bytes(), 9, mtime=0)) for name in bundle.BUNDLES]
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
    assert bundle.stripped(source) == (
        'const a="// no";'
        r"const b='it\'s /* no */';"
        "const c=`// ${a} /* no */`;"
        r"""const d=/["'`/]\/\/[/*]+/g;"""
        "const e=4 / 2 / 1;"
        "const f=(a)=>/x\\/\\*/.test(a);\n"
    )


def test_line_breaks_stay_where_they_may_end_a_statement() -> None:
    source = "let a = b\n  + c\nlet d = {\n  e,\n}\nlet f = -  -1\nd\n  .e()\n"
    assert bundle.stripped(source) == "let a=b\n+ c\nlet d={e,}\nlet f=- -1\nd.e()\n"


def test_private_members_get_short_names_and_texts_stay() -> None:
    source = 'this._long = `_long ${this._long} _long`; call("_long", _long, a_long, { _: 1 });'
    short = {"_long": "_a"}
    assert bundle.stripped(source, short) == 'this._a=`_long ${this._a} _long`;call("_long",_a,a_long,{_:1});\n'


@pytest.mark.parametrize("source", ["const a = `${`${1}`} `;`", "const a = `${{}}`", "const a = `"])
def test_what_is_not_understood_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        bundle.stripped(source)


def test_the_worker_takes_from_the_page_s_file_what_both_need() -> None:
    page, worker = (bundle.bundle(name) for name in bundle.BUNDLES)
    assert "class Inbox" in page
    assert "class Inbox" not in worker
    assert "class Machine" not in page


def test_no_line_of_a_served_file_is_a_comment(package: Path) -> None:
    for name in bundle.BUNDLES:
        lines = (package / name).read_text("utf-8").splitlines()[1:]
        assert [line for line in lines if re.match(r"\s|//|/\*|\*", line)] == []


def test_the_machine_of_the_worker_runs(package: Path) -> None:
    text = """([urls]) => {
      const machine = new Machine({ urls }, new Random(() => 0.5, () => "ab"));
      return machine.handle({ event: "opened" }, 1).map((action) => action.do);
    }"""
    imports = 'import { Machine, Random } from "./softstate-worker.js";'
    assert evaluate(package, imports, text, [["ws://a"]]) == ["mode_changed", "connect"]
