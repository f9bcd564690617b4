"""Refusing a call that would change a store which was opened to be read only."""

from __future__ import annotations

from softstate.errors import StoreRefused


def check_writable(name: str, *, read_only: bool) -> None:
    """Raise `StoreRefused` if the store was opened to be read only."""
    if read_only:
        raise StoreRefused(f"{name} was opened to read only: open it to write")
