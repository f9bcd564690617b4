"""The source of an option's value: flag, else environment, else TOML file, else default.

One function, given to cyclopts as its `config`, so that a value from any layer goes through the same conversion and
the same checks. Unlike cyclopts's own `Env` and `Toml`, it refuses names that it does not know: a misspelt setting
that is silently ignored is found in production.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App, Token
from cyclopts.argument import ArgumentCollection

from softstate.errors import ConfigError

PREFIX = "SOFTSTATE_"
ELSEWHERE = frozenset({"SOFTSTATE_URL", "SOFTSTATE_TOKEN", "SOFTSTATE_TLS_CA"})
"""Variables of other commands, which `serve` accepts and ignores."""
FILE_CHARS_MAX = 1_000_000
"""Longest configuration file: anything above it is another file, or a device that never ends."""
POLICY_TABLES = frozenset({"auth", "allow", "limit"})
"""Tables of a policy, which the file may hold beside the options."""
FLAGS_ONLY = frozenset({"config", "check"})
"""Options that the file may not set."""


def layer(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what the flags left open from the environment, then from the file that ``--config`` names.

    Raises `ConfigError` for an unknown name, or a file that cannot be read, is no TOML or holds the wrong kind of
    value. Values themselves are checked later, where they are converted.
    """
    # Classes of options are arguments as well, of the name "*".
    flags = [argument for argument in arguments if argument.parse and argument.name.startswith("--")]
    known = {argument.name.removeprefix("--").replace("-", "_"): argument for argument in flags}
    for name, text in _environment(os.environ, known).items():
        argument = known[name]
        if not argument.has_tokens:
            for index, part in enumerate(argument.env_var_split(text)):
                argument.append(Token(keyword=variable(name), value=part, source="the environment", index=index))
    config = known.get("config")
    if config is None or not config.tokens:
        return
    path = Path(config.tokens[0].value)
    for name, (texts, place) in _file(path, known).items():
        argument = known[name]
        takes_many = argument.token_count()[1]
        if len(texts) != 1 and not takes_many:
            raise ConfigError(f"{name} in {place} takes one value, not a list of {len(texts)}")
        if not argument.has_tokens:
            for index, text in enumerate(texts):
                argument.append(Token(keyword=name, value=text, source=place, index=index))


def variable(name: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + name.upper()


def _environment(environ: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    variables = {variable(name): name for name in known}
    found = {}
    for key, text in environ.items():
        if not key.startswith(PREFIX) or key in ELSEWHERE:
            continue
        if key not in variables:
            name = key if key.isprintable() else repr(key)
            raise ConfigError(f"unknown environment variable {name}{_guess(key, variables)}")
        found[variables[key]] = text
    return found


def _file(path: Path, known: Iterable[str]) -> dict[str, tuple[list[str], str]]:
    """Return the values of each key of the file, and the place of the key in words."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = file.read(FILE_CHARS_MAX + 1)
        if len(content) > FILE_CHARS_MAX:
            raise ConfigError(f"{path} is longer than {FILE_CHARS_MAX} characters: name a configuration file")
        settings = tomllib.loads(content)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep: options are text, numbers, booleans or lists of these") from None
    allowed = set(known) - FLAGS_ONLY
    found = {}
    if "auth" in allowed:
        found.update(_policy_inside(path, content, settings))
    for name, value in settings.items():
        if name in found or (name in POLICY_TABLES and "auth" in found):
            continue
        place = f"{path}{_line(content, name)}"
        if name not in allowed:
            raise ConfigError(f"unknown key {name!r} in {place}{_guess(name, allowed | POLICY_TABLES)}")
        texts = [_text(item, name, place) for item in (value if isinstance(value, list) else [value])]
        found[name] = texts, place
    return found


def _policy_inside(path: Path, content: str, settings: Mapping[str, Any]) -> dict[str, tuple[list[str], str]]:
    """Return this file as the policy file if it has the tables of one, which are read and checked as those of any."""
    inside = [name for name, value in settings.items() if name in POLICY_TABLES and isinstance(value, dict | list)]
    if not inside:
        return {}
    place = f"{path}{_line(content, inside[0])}"
    if not isinstance(settings.get("auth", {}), dict):
        raise ConfigError(f"{inside[0]} in {place}: the policy is in the file that 'auth' names: put it there")
    return {"auth": ([str(path)], place)}


def _line(content: str, name: str) -> str:
    """Return the line of a key in words, which the parser does not tell; nothing if it is written in an unusual way."""
    key = re.escape(name)
    found = re.search(rf"""^[ \t]*\[*[ \t]*["']?{key}["']?[ \t]*[=.\]]""", content, re.MULTILINE)
    return "" if found is None else f", line {content.count(chr(10), 0, found.start()) + 1}"


def _text(value: Any, name: str, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"{name} in {place} must be text, a number or a boolean, not {type(value).__name__}")


def _guess(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(allowed), 1, 0.7)
    return f"; did you mean {close[0]}?" if close else f"; known are: {', '.join(sorted(allowed))}"
