"""URLs that a policy names: of sets of keys, and of a callout."""

from __future__ import annotations

from urllib.parse import urlsplit

from softstate.addresses import is_loopback


def check_url(url: str) -> str:
    """Return a URL that may be asked: https, or http on this machine. Raises ValueError, saying why."""
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError too
    if not parts.hostname or parts.scheme not in ("https", "http") or not url.isascii() or not url.isprintable():
        raise ValueError("it must be a URL that begins with https://")
    if parts.username is not None or parts.fragment or " " in url:
        raise ValueError("it must not hold credentials, a fragment or blanks")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("it must begin with https://: only on this machine http will do")
    return url
