"""Names of a package that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from softstate.extras import without_server


def later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package: `places` says in which of its modules a name is; a module is in itself.

    It raises `AttributeError` for any other name, and what the import of a module raises: `ModuleNotFoundError` with
    what to install, where that is the extra `server`.
    """

    def of(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = import_module(f"{package}.{places[name]}")
        except ModuleNotFoundError as error:
            missing = without_server(f"{package}.{name}", error)
            if missing is None:
                raise
            raise ModuleNotFoundError(missing, name=error.name) from error
        found = module if places[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return of
