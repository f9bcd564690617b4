"""Static tokens, and the tables of a policy file that know them."""

from __future__ import annotations

import json
from hashlib import sha256

CI, OTHER, ROOT = ("sst_" + letter * 43 for letter in "cor")


def static(name: str, token: str, **rights: list[str] | bool) -> str:
    """Write the table of a static token: `read` and `write` are lists of patterns, `admin` is true."""
    digest = sha256(token.encode()).hexdigest()
    lines = [f'name = "{name}"', f'sha256 = "{digest}"', *(f"{key} = {json.dumps(rights[key])}" for key in rights)]
    return "\n".join(["[[auth.token]]", *lines, ""])
