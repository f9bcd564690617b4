"""Docstrings and comments are plain English: subject first, and none of the words that only this project used to use.

CONTRIBUTING has the rules; this checks what a machine can. A question may begin with "What"; a sentence may not. Pages
and scripts are searched for the words alone.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("softstate", "tests", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]

PAGES = [
    path
    for folder in (".github", "softstate", "bench")
    for kind in ("*.md", "*.js", "*.html", "*.css", "*.yaml")
    for path in sorted((ROOT / folder).rglob(kind))
]

WORDS = re.compile(
    r"\b(in vain|anew|be it|were it|whoever|whatever|for ever|the truth|riders?|soil(ed)?)\b", re.IGNORECASE
)
NOUN_CLAUSE = re.compile(r"(What|Who|Whoever|Whatever|Whom|Whose)\b[^?]*$")

CANDIDATE = re.compile(rf"(?i:{WORDS.pattern})|[#\"']\s*(What|Who)")
"""Found in every source with a finding, and in few others: 19 of 1,415. To tokenize all took 7 s."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """List the comments and the strings that stand alone (docstrings, also of constants), each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def findings(source: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    if CANDIDATE.search(source) is None:
        return found
    for line, text in texts(source):
        if (match := WORDS.search(text)) is not None:
            found.append((line, match[0]))
        first = text.strip().split("\n\n")[0].replace("\n", " ")
        if NOUN_CLAUSE.match(first.partition(". ")[0]):
            found.append((line, first))
    return found


SCRIPT_COMMENT = re.compile(r"/\*\*?(.*?)\*/|(?<!:)//([^\n]*)", re.DOTALL)


def findings_of_script(source: str) -> list[tuple[int, str]]:
    """List what is found in the comments of a script, each of which is taken for a docstring."""
    found = []
    for match in SCRIPT_COMMENT.finditer(source):
        text = re.sub(r"\n\s*\*\s?", "\n", match[1] or match[2] or "").strip()
        line = source.count("\n", 0, match.start()) + 1
        found += [(line, words) for _, words in findings(repr(text))]
    return found


def test_comments_of_scripts_do_too() -> None:
    scripts = sorted((ROOT / "softstate" / "web").rglob("*.js"))
    assert len(scripts) > 20
    found = {str(path.relative_to(ROOT)): findings_of_script(path.read_text("utf-8")) for path in scripts}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("folder", ["softstate", "tests", "bench"])
def test_sentences_begin_with_their_subject_in_common_words(folder: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == folder]
    assert len(files) > 20
    found = {str(path.relative_to(ROOT)): findings(path.read_text("utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_pages_and_scripts_use_common_words() -> None:
    assert len(PAGES) > 50
    quoted = re.compile(r"`[^`\n]*`|\*[a-z]+\*")  # code, and the words that a rule is about
    found = {path: WORDS.findall(quoted.sub("", path.read_text("utf-8"))) for path in [ROOT / "README.md", *PAGES]}
    assert {str(path.relative_to(ROOT)): words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""What a node holds, counted."""', ["What a node holds, counted."]),
        ('"""What does a node hold? Leases."""', []),
        ("A = 1\n'''Whoever waits.'''", ["Whoever", "Whoever waits."]),
        ("# tried in vain", ["in vain"]),
        ("x = 'in vain'", []),
        ('"""Whether the node drains."""', []),
        ('"""The number of leases."""', []),
    ],
)
def test_findings(source: str, words: list[str]) -> None:
    assert [text for _, text in findings(source)] == words


def test_findings_of_a_script() -> None:
    script = (
        "const u = 'http://a';\n/** What it holds,\n * counted. */\nlet a; // for whoever asks\n/** Why it waits. */"
    )
    assert findings_of_script(script) == [(2, "What it holds, counted."), (4, "whoever")]
