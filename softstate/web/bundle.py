"""Files made from the modules, as nodes serve them: each entry and all that it imports, in one file without comments.

``python -m softstate.web FOLDER`` writes the package for npm: these files, and what goes with them. Nothing is renamed
or rewritten, so a name may be defined once only at the top of all modules of a file.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

WEB = Path(__file__).parent

BUNDLES = {"softstate.js": "client/softstate.js", "softstate-worker.js": "client/worker.js"}
"""Each served file, and the module that it is made from."""

BESIDE = ("softstate-react.js", "softstate.d.ts", "package.json", "README.md")
"""Files of the package that are as they are here."""

_HEAD = "/* softstate, Apache-2.0. Made from the modules of softstate/web/, which are for reading. */\n"

_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<template>`(?:[^`\\]|\\.)*`)
      | (?P<word>[\w$]+)
      | (?P<space>\s+)
      | (?P<slash>/)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_BEFORE_REGEX = frozenset("(,=:[!&|?{};>+-") | {"return", "typeof", ""}
_IMPORT = re.compile(r'^import [^;]*?from "([^"]+)";\n', re.MULTILINE)
_EXPORT_FROM = re.compile(r'^export (\{[^}]*\}) from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|class|function|async)", re.MULTILINE)
_EXPORT_NAMES = re.compile(r"^export (\{[^}]*\});\n", re.MULTILINE)
_TOP = re.compile(r"^(?:async )?(?:const|let|class|function) ([\w$]+)", re.MULTILINE)


def stripped(source: str) -> str:
    """Return JavaScript without comments, indentation and empty lines; it does the same.

    Templates that hold templates are not understood: ``ValueError`` is raised for a backtick that is left over.
    """
    kept = "".join(_tokens(source))
    lines = [re.sub(r"[ \t]+$", "", line) for line in kept.split("\n")]
    return "\n".join(line for line in lines if line) + "\n"


def _tokens(source: str) -> Iterator[str]:
    at, before, begins = 0, "", True
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None or (found.lastgroup == "mark" and found[0] == "`"):
            raise ValueError(f"not understood: {source[at : at + 40]!r}")
        piece, kind = found[0], found.lastgroup
        if kind == "slash" and before in _BEFORE_REGEX and (regex := _REGEX.match(source, at)):
            piece = regex[0]
        at += len(piece)
        if kind in ("space", "comment"):
            breaks = "\n" in piece  # one in a comment ends a statement, too
            if breaks or (kind == "space" and not begins):  # what follows a line break is indentation
                yield "\n" if breaks else " "
            begins = begins or breaks
        else:
            before, begins = piece if kind == "word" else piece[-1], False
            yield piece


def bundle(entry: str) -> str:
    """Return the content of one served file. Raises ``ValueError`` if a name is defined twice."""
    modules = _ordered(WEB / entry)
    source = modules[WEB / entry.removeprefix("./")]
    exported = [*_EXPORT_NAMES.findall(source), *(names for names, _ in _EXPORT_FROM.findall(source))]
    parts = [_HEAD]
    defined: dict[str, Path] = {}
    for path, module in modules.items():
        body = stripped(_EXPORT_FROM.sub("", _EXPORT_NAMES.sub("", _IMPORT.sub("", module))))
        for name in _TOP.findall(_EXPORT.sub("", module)):
            if name in defined:
                raise ValueError(f"{name} is defined in {defined[name].name} and {path.name}: rename one")
            defined[name] = path
        parts.append(_EXPORT.sub("", body))
    names = [name.strip() for group in exported for name in group[1:-1].split(",")]
    return "".join(parts) + f"export {{ {', '.join(filter(None, names))} }};\n"


def documented(entry: str) -> str:
    """Return the modules of one file with their comments, for the TypeScript compiler to write declarations of.

    Types that one module takes from another are in the same file then.
    """
    alias = re.compile(r"^ \* @typedef \{import\([^)]*\)\.\w+\} \w+\n", re.MULTILINE)
    of_module = re.compile(r'import\("\.[^"]*"\)\.')
    modules = _ordered(WEB / entry)
    parts = [of_module.sub("", alias.sub("", _EXPORT.sub("", _IMPORT.sub("", each)))) for each in modules.values()]
    return "".join(parts)


def _ordered(entry: Path) -> dict[Path, str]:
    """Return the modules that an entry needs, with their sources: each behind those that it imports."""
    found: dict[Path, str] = {}

    def visit(path: Path) -> None:
        if path in found:
            return
        source = path.read_text("utf-8")
        for other in [*_IMPORT.findall(source), *(each for _, each in _EXPORT_FROM.findall(source))]:
            visit((path.parent / other).resolve())
        found[path] = source

    visit(entry)
    return found


def write(folder: Path) -> None:
    """Write the package into a folder that exists."""
    for name, entry in BUNDLES.items():
        (folder / name).write_text(bundle(entry), "utf-8")
    for name in BESIDE:
        shutil.copy(WEB / name, folder)
