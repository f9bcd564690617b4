"""The client for browsers and Node.js: plain ES modules, and the files made of them, which every node serves."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from softstate.web import bundle

_SCRIPT = "text/javascript; charset=utf-8"
_TYPES = {
    "softstate.js": _SCRIPT,
    "softstate-worker.js": _SCRIPT,
    "softstate-react.js": _SCRIPT,
    "softstate.d.ts": "text/plain; charset=utf-8",
}

_DIGITS = 32


@dataclass(frozen=True, slots=True)
class WebFile:
    """One served file: its media type, its content as it is and as gzip packs it, and a digest that tells versions."""

    content_type: str
    content: bytes
    zipped: bytes
    digest: str


WEB_PATHS = tuple(f"/{name}" for name in _TYPES)
"""The paths under which nodes serve the files."""


@lru_cache(1)
def web_files() -> Mapping[str, WebFile]:
    """Make and read the files, the first time this is called, which takes 0.1 s; return each by its path."""
    return {f"/{name}": _read(name, content_type) for name, content_type in _TYPES.items()}


def _read(name: str, content_type: str) -> WebFile:
    if name in bundle.BUNDLES:
        content = bundle.bundle(name).encode()
    else:
        content = Path(__file__).with_name(name).read_bytes()
    return WebFile(content_type, content, gzip.compress(content, 9, mtime=0), sha256(content).hexdigest()[:_DIGITS])
