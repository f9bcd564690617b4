"""The tables of a policy file for one issuer, whose keys are in a file beside it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.auth.keys import key

_TABLES = """
[[auth.issuer]]
issuer = "https://id"
audience = ["softstate"]
jwks_file = "keys.json"

[[allow]]
who = "signed-in"
"""


def issuer(path: Path, read: list[str], *keys: str) -> str:
    """Write the keys that sign people in to a folder; return the tables, by which those may read names."""
    (path / "keys.json").write_text(json.dumps({"keys": [key(name).public_jwk() for name in keys]}))
    return f"{_TABLES}read = {json.dumps(read)}\n"
