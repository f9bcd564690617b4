"""Tables of a TOML file, and the line of each key, which the parser does not tell."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, cast

from softstate.auth.patterns import check_pattern
from softstate.errors import ConfigError, Invalid

_HEADER = re.compile(r"^[ \t]*\[(\[?)[ \t]*([^\[\]#]+?)[ \t]*\]", re.MULTILINE)


class TomlFile:
    """The text of the file, for the lines in which things are written."""

    def __init__(self, name: str, content: str) -> None:
        self.name = name
        self._content = content
        self._headers = [
            (tuple(part.strip(" \t\"'") for part in found[2].split(".")), bool(found[1]), found.start())
            for found in _HEADER.finditer(content)
        ]

    def line(self, path: Sequence[str | int], key: str | None) -> str:
        """Return the line of a key of a table in words, or of the table's own; nothing if it is written otherwise."""
        names = tuple(part for part in path if isinstance(part, str))
        number = next((part for part in reversed(path) if isinstance(part, int)), 0)
        tables = [at for at, header in enumerate(self._headers) if header[0] == names]
        if names and number >= len(tables):
            return self._at(self._key(key, 0, len(self._content)) if key and not names else None)
        first = tables[number] if names else -1
        begin = self._headers[first][2] if names else 0
        end = self._headers[first + 1][2] if first + 1 < len(self._headers) else len(self._content)
        found = self._key(key, begin, end) if key else None
        if found is None and not names and key:
            found = next((start for header, _, start in self._headers if header[0] == key), None)
        return self._at(found if found is not None else begin if names else None)

    def _key(self, key: str, begin: int, end: int) -> int | None:
        pattern = re.compile(rf"""^[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.]""", re.MULTILINE)
        found = pattern.search(self._content, begin, end)
        return None if found is None else found.start()

    def _at(self, position: int | None) -> str:
        return "" if position is None else f", line {self._content.count(chr(10), 0, position) + 1}"


class TomlTable:
    """One table of the file; each method takes a key, and `end` refuses what none has taken."""

    def __init__(self, file: TomlFile, data: dict[str, Any], path: tuple[str | int, ...]) -> None:
        self.file = file
        self.data = data
        self.known: set[str] = set()
        self._path = path

    def place(self, key: str | None = None) -> str:
        """Return where a key, or this table, is written, in words."""
        names = ".".join(part for part in self._path if isinstance(part, str))
        number = next((part + 1 for part in self._path if isinstance(part, int)), None)
        table = f"[[{names}]] {number}" if number is not None else f"[{names}]" if names else ""
        what = " of ".join(part for part in (key, table) if part)
        return f"{what} in {self.file.name}{self.file.line(self._path, key)}"

    def wrong(self, key: str, what: str) -> ConfigError:
        """Return the error that says what a key must be."""
        return ConfigError(f"{self.place(key)} {what}")

    def text(self, key: str, default: str | None = None, maximum: int = 2_048) -> str:
        """Return text that is not empty."""
        value = self._value(key, default)
        if not isinstance(value, str) or not 1 <= len(value) <= maximum or not value.isprintable():
            raise self.wrong(key, f"must be text of 1 to {maximum} printable characters")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return a list of texts, which is not empty unless it may be left out."""
        value = self._value(key, default)
        if value == () and default is not None:
            return default
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(item, str) and item for item in items):
            raise self.wrong(key, "must be a list of one or more texts")
        return tuple(cast("list[str]", items))

    def patterns(self, key: str) -> tuple[str, ...]:
        """Return a list of patterns, empty if it is left out."""
        value = self._value(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, 'must be a list of patterns, such as ["orders/", "users/{sub}/"]')
        try:
            return tuple(check_pattern(text, f"{key}[{number + 1}]") for number, text in enumerate(value))
        except Invalid as error:
            raise ConfigError(f"{self.place(key)}: {error.message}") from None

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.wrong(key, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def table(self, key: str) -> TomlTable:
        """Return a table that may be left out."""
        value = self._value(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table: [{key}]")
        return TomlTable(self.file, value, (*self._path, key))

    def tables(self, key: str) -> list[TomlTable]:
        """Return the tables of a list that may be left out."""
        value = self._value(key, [])
        path = (*self._path, key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"must be a list of tables: [[{'.'.join(map(str, path))}]]")
        return [TomlTable(self.file, item, (*path, number)) for number, item in enumerate(value)]

    def end(self, beside: Collection[str] = ()) -> None:
        """Raise `ConfigError` if there is a key that nothing has asked for, and that is none of those `beside`."""
        for key in self.data:
            if key in beside:
                continue
            if key not in self.known:
                raise ConfigError(f"unknown key {self.place(key)}{guess(key, self.known)}")

    def _value(self, key: str, default: object) -> object:
        self.known.add(key)
        if key not in self.data and default is None:
            raise ConfigError(f"{self.place()} must have {key!r}")
        return self.data.get(key, default)


def guess(name: str, allowed: Iterable[str]) -> str:
    """Return what a name that is not known was perhaps meant to be, in words that follow it."""
    close = difflib.get_close_matches(name, list(allowed), 1, 0.7)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(sorted(allowed))}"


def repeated(values: Sequence[Hashable]) -> tuple[int, int] | None:
    """Return where a value is for the second time, and where it is for the first; None if each is there once."""
    seen: dict[Hashable, int] = {}
    for number, value in enumerate(values):
        first = seen.setdefault(value, number)
        if first != number:
            return number, first
    return None
