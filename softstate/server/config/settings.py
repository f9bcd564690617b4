"""Reads the fields of a configuration class: the option that sets each, its meaning, and its bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from softstate.server.config.bounds import Bound


@dataclass(frozen=True, slots=True)
class SetBy:
    """A mark: the field has no option of its own name; `option` sets it."""

    option: str


def set_by(option: str) -> SetBy:
    """Mark a field as set by an option of another name, which may have units of its own."""
    return SetBy(option)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field: `option` is the name of the option that sets it, `text` the sentence that describes it."""

    name: str
    option: str
    type: Any
    default: Any
    text: str
    bound: Bound | None

    @property
    def unit(self) -> str:
        """The unit that the field's name ends in, with a space before it; empty if there is none."""
        for part in reversed(self.name.split("_")):
            if part in ("ms", "s", "bytes"):
                return f" {part}"
        return ""

    def check(self, value: Any) -> None:
        """Raise `ConfigError` if `value` is out of bounds. An option of another name is told with its unit."""
        if self.bound is None:
            return
        if self.name == self.option:
            self.bound.check(self.name, value)
        elif self.name.startswith(self.option):
            self.bound.check(self.option, value, self.unit)
        else:
            self.bound.check(f"{self.option}: the {self.name}", value)


def settings_of(config: type[Any]) -> tuple[Setting, ...]:
    """Read every field of a dataclass whose fields are all annotated with a sentence, and numbers with a `Bound`."""
    return tuple(_settings(config))


def _settings(config: type[Any]) -> Iterator[Setting]:
    hints = get_type_hints(config, include_extras=True)
    for item in fields(config):
        assert get_origin(hints[item.name]) is Annotated, f"{item.name} needs a sentence"
        assert item.default is not MISSING, f"{item.name} needs a default"
        kind, *extras = get_args(hints[item.name])
        (text,) = [extra for extra in extras if isinstance(extra, str)]
        bound = next((extra for extra in extras if isinstance(extra, Bound)), None)
        option = next((extra.option for extra in extras if isinstance(extra, SetBy)), item.name)
        yield Setting(item.name, option, kind, item.default, text, bound)
