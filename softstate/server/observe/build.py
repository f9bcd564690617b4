"""The version of what runs here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Return the version of softstate as it was installed; ``unknown`` if it runs from a folder."""
    try:
        return version("softstate")
    except PackageNotFoundError:
        return "unknown"
