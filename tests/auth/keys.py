"""Keys for tests: always the same ones. The `stranger` has keys of the same IDs, which are not the node's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from softstate.auth.signature import SigningKey, import_signing_key

ALGORITHMS = {"h": "HS256", "e": "ES256", "r": "RS256", "d": "Ed25519"}

_FILE = Path(__file__).with_name("keys.json")


@cache
def key(name: str, whose: str = "node") -> SigningKey:
    return import_signing_key(json.dumps(json.loads(_FILE.read_text())[whose][name]).encode())
