"""Files made from the modules, as nodes serve them: each entry and all that it imports, in one file without comments.

``python -m softstate.web FOLDER`` writes the package for npm: these files, and what goes with them. Private members
(``_name``) get short names and spaces go; nothing else is rewritten, so a name may be defined once only at the top of
all modules of a file. The worker imports from the page's file the modules that both need.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import count, islice
from pathlib import Path

WEB = Path(__file__).parent

PAGE = "softstate.js"
"""The file that a page imports, and the worker too."""

BUNDLES = {PAGE: "client/softstate.js", "softstate-worker.js": "client/worker.js"}
"""Each served file, and the module that it is made from."""

BESIDE = ("softstate-react.js", "softstate.d.ts", "package.json", "README.md")
"""Files of the package that are as they are here."""

_HEAD = "/* softstate, Apache-2.0. Made from the modules of softstate/web/, which are for reading. */\n"

_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<template>`(?:[^`\\$]|\\.|\$(?!\{)|\$\{[^{}`]*\})*`)
      | (?P<word>[\w$]+)
      | (?P<space>\s+)
      | (?P<slash>/)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_BEFORE_REGEX = frozenset("(,=:[!&|?{};>+-") | {"return", "typeof", ""}
_IMPORT = re.compile(r'^import [^;]*?from "([^"]+)";\n', re.MULTILINE)
_IMPORTED = re.compile(r'^import \{([^;]*?)\} from "([^"]+)";\n', re.MULTILINE)
_EXPORT_FROM = re.compile(r'^export (\{[^}]*\}) from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|class|function|async)", re.MULTILINE)
_EXPORT_NAMES = re.compile(r"^export (\{[^}]*\});\n", re.MULTILINE)
_TOP = re.compile(r"^(?:async )?(?:const|let|class|function) ([\w$]+)", re.MULTILINE)
_PRIVATE = re.compile(r"(?<![\w$])_[A-Za-z]\w*")
_CODE_IN_TEMPLATE = re.compile(r"\$\{[^}]*\}")

_TIGHT = frozenset("{}()[]=<>!&|?:;,*")
_BREAK_GOES_AFTER = frozenset(";{,([=&|?:")
_BREAK_GOES_BEFORE = frozenset("}).,]?:&|")
"""Between such signs a line break never ends a statement; after ``}`` and ``)``, say, it might."""


def stripped(source: str, short: Mapping[str, str] | None = None) -> str:
    """Return JavaScript without comments and needless spaces; it does the same. ``short`` has new names of members.

    Templates that hold templates or braces are not understood: ``ValueError`` is raised for them.
    """
    names = {} if short is None else short
    kept: list[str] = []
    gap = ""
    for piece, kind in _tokens(source):
        if kind in ("space", "comment"):
            gap = "\n" if "\n" in piece + gap else gap or (" " if kind == "space" else "")
            continue  # a break in a comment ends a statement, too
        kept += (_between(kept[-1][-1] if kept else "\n", gap, piece[0]), _renamed(piece, kind, names))
        gap = ""
    return "".join(kept) + "\n"


def _between(before: str, gap: str, after: str) -> str:
    if gap == "\n":
        return "" if before in _BREAK_GOES_AFTER or before == "\n" or after in _BREAK_GOES_BEFORE else gap
    return "" if before in _TIGHT or after in _TIGHT else gap


def _renamed(piece: str, kind: str, short: Mapping[str, str]) -> str:
    if kind == "word":
        return short.get(piece, piece)
    if kind == "template":
        return _CODE_IN_TEMPLATE.sub(
            lambda code: _PRIVATE.sub(lambda name: short.get(name[0], name[0]), code[0]), piece
        )
    return piece


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    at, before = 0, ""
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None or (found.lastgroup == "mark" and found[0] == "`"):
            raise ValueError(f"not understood: {source[at : at + 40]!r}")
        piece, kind = found[0], found.lastgroup or ""
        if kind == "slash" and before in _BEFORE_REGEX and (regex := _REGEX.match(source, at)):
            piece = regex[0]
        at += len(piece)
        if kind not in ("space", "comment"):
            before = piece if kind == "word" else piece[-1]
        yield piece, kind


def bundle(name: str) -> str:
    """Return the content of one served file. Raises ``ValueError`` if a name is defined twice."""
    modules = _ordered(WEB / BUNDLES[name])
    exports = _exported(modules[WEB / BUNDLES[name]])
    parts = [_HEAD]
    if name == PAGE:
        exports += _shared()
    else:
        for path in _ordered(WEB / BUNDLES[PAGE]):
            modules.pop(path, None)
        parts.append(f'import{{{",".join(_shared())}}}from"./{PAGE}";\n')
    defined: dict[str, Path] = {}
    for path, module in modules.items():
        for top in _TOP.findall(_EXPORT.sub("", module)):
            if top in defined:
                raise ValueError(f"{top} is defined in {defined[top].name} and {path.name}: rename one")
            defined[top] = path
        bare = _EXPORT.sub("", _EXPORT_FROM.sub("", _EXPORT_NAMES.sub("", _IMPORT.sub("", module))))
        parts.append(stripped(bare, _short_names()))
    return "".join(parts) + f"export{{{','.join(dict.fromkeys(exports))}}};\n"


def _exported(source: str) -> list[str]:
    groups = [*_EXPORT_NAMES.findall(source), *(names for names, _ in _EXPORT_FROM.findall(source))]
    return [name.strip() for group in groups for name in group[1:-1].split(",") if name.strip()]


@lru_cache(1)
def _shared() -> tuple[str, ...]:
    """Return what other files import from modules that the page's file has."""
    pages = _ordered(WEB / BUNDLES[PAGE])
    names = {
        name.strip()
        for entry in BUNDLES.values()
        for path, source in _ordered(WEB / entry).items()
        if path not in pages
        for group, other in _IMPORTED.findall(source)
        if (path.parent / other).resolve() in pages
        for name in group.split(",")
        if name.strip()
    }
    return tuple(sorted(names))


@lru_cache(1)
def _short_names() -> Mapping[str, str]:
    """Return a short name for each private member, the same in all files: frequent ones get the shortest."""
    sources = {path: source for entry in BUNDLES.values() for path, source in _ordered(WEB / entry).items()}
    words = Counter(
        word for source in sources.values() for piece, _ in _tokens(source) for word in _PRIVATE.findall(piece)
    )
    ranked = sorted(words, key=lambda word: (-words[word], word))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    one, two = [f"_{a}" for a in letters], (f"_{letters[i // 52]}{letters[i % 52]}" for i in count())
    return dict(zip(ranked, [*one, *islice(two, len(ranked))], strict=False))


_ALIAS = re.compile(r'^ \* @typedef \{import\("(\.[^"]*)"\)\.(\w+)\} \w+\n', re.MULTILINE)
_OF_MODULE = re.compile(r'import\("\.[^"]*"\)\.')


def documented(entry: str) -> str:
    """Return the modules of one file with their comments, for the TypeScript compiler to write declarations of.

    Types that one module takes from another are in the same file then, also those of modules that it does not import.
    """
    modules = _ordered(WEB / entry)
    parts = [_OF_MODULE.sub("", _ALIAS.sub("", _EXPORT.sub("", _IMPORT.sub("", each)))) for each in modules.values()]
    elsewhere = {
        ((path.parent / other).resolve(), name)
        for path, source in modules.items()
        for other, name in _ALIAS.findall(source)
        if (path.parent / other).resolve() not in modules
    }
    return "".join(_definition(path, name) for path, name in sorted(elsewhere)) + "".join(parts)


def _definition(path: Path, name: str) -> str:
    """Return the comment that defines a type in a module, in one line there."""
    found = re.search(rf"@typedef \{{(?!import).*\}} {name}\b.*?(?= \*/|$)", path.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path.name} does not define the type {name} in one line")
    return f"/** {found[0]} */\n"


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
    for name in BUNDLES:
        (folder / name).write_text(bundle(name), "utf-8")
    for name in BESIDE:
        shutil.copy(WEB / name, folder)
