"""The client for browsers and Node.js: plain ES modules, and the files made of them, served by every node; a page."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
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

_PAGE_TYPES = {
    "page.js": _SCRIPT,
    "nodes.js": _SCRIPT,
    "topics.js": _SCRIPT,
    "plot.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
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

PAGE_PATH = "/ui"

PAGE_PATHS = (PAGE_PATH, *(f"{PAGE_PATH}/{name}" for name in _PAGE_TYPES))
"""The paths of the page that shows nodes and topics, and of its parts."""


@lru_cache(1)
def web_files() -> Mapping[str, WebFile]:
    """Make and read the files, the first time this is called, which takes 0.1 s; return each by its path."""
    return {f"/{name}": _read(name, content_type) for name, content_type in _TYPES.items()}


@lru_cache(1)
def page_files(nodes: Sequence[str]) -> Mapping[str, WebFile]:
    """Return the files of the page by their paths; it shows, beside the node that serves it, those of these origins."""
    folder = Path(__file__).with_name("page")
    page = (folder / "index.html").read_text("utf-8").replace("{nodes}", " ".join(nodes))
    parts = {f"{PAGE_PATH}/{name}": (kind, (folder / name).read_bytes()) for name, kind in _PAGE_TYPES.items()}
    all_parts = {PAGE_PATH: ("text/html; charset=utf-8", page.encode()), **parts}
    return {path: _packed(kind, content) for path, (kind, content) in all_parts.items()}


def _read(name: str, content_type: str) -> WebFile:
    if name in bundle.BUNDLES:
        content = bundle.bundle(name).encode()
    else:
        content = Path(__file__).with_name(name).read_bytes()
    return _packed(content_type, content)


def _packed(content_type: str, content: bytes) -> WebFile:
    return WebFile(content_type, content, gzip.compress(content, 9, mtime=0), sha256(content).hexdigest()[:_DIGITS])
