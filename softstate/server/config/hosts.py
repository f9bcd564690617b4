"""Names of hosts and origins of web pages, each in its one spelling, so that comparing them is comparing text.

Addresses are parsed, never matched by their beginning: ``127.0.0.1.evil.example`` is a name, and ``127.1`` is nothing
(the URL standard has a browser read it as an address, so no name ends in a number).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from softstate.errors import ConfigError

HOST_CHARS_MAX = 253
"""Longest name of a host (RFC 1035 section 2.3.4)."""

SHOWN_CHARS_MAX = 256
"""Characters of a peer's text that an error repeats."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*+")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)/?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one spelling: lower case, without a last dot; IPv6 in brackets. `port` is None if none is named."""

    name: str
    port: int | None
    is_address: bool

    @property
    def is_local(self) -> bool:
        """Whether no name server decides what it stands for: an address, ``localhost``, or a name below that."""
        return self.is_address or self.name == "localhost" or self.name.endswith(".localhost")


def host_of(authority: str) -> Host | None:
    """Read ``HOST`` or ``HOST:PORT``, as a ``Host`` header has it; None if it is no address and no name (ASCII)."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    port = int(found[2]) if found[2] else None
    if port is not None and port > PORT_MAX:
        return None
    address = _address(found[1])
    if address is not None:
        return Host(address, port, is_address=True)
    name = found[1].lower().removesuffix(".")
    if len(name) > HOST_CHARS_MAX or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        return None
    return Host(name, port, is_address=False)


def _address(text: str) -> str | None:
    try:
        if text.startswith("["):
            # A zone belongs to the host that wrote it, and may hold anything.
            return None if "%" in text else f"[{IPv6Address(text[1:-1])}]"
        return str(IPv4Address(text))
    except AddressValueError:
        return None


def _ascii(text: str) -> str:
    """Write the labels of an international name as name servers know them; return other text as it is."""
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        return text


def allowed_host(text: str) -> str:
    """Return a host that ``--allow-host`` names in its one spelling. Raises `ConfigError`."""
    host = host_of(_ascii(text.strip()))
    if host is None or host.port is not None or text.strip().endswith(":"):
        raise ConfigError(
            f"allow_host must be the name of a host alone, such as node1.example, not {text[:SHOWN_CHARS_MAX]!r}: no"
            " scheme, no port, no *"
        )
    return host.name


def origin_of(text: str) -> str | None:
    """Write an origin as browsers do: lower case, no default port, no slash (RFC 6454 section 6.1); None if it is none.

    ``null`` is none: every sandboxed page has it.
    """
    found = _ORIGIN.fullmatch(text.strip())
    host = host_of(_ascii(found[2])) if found is not None else None
    if found is None or host is None:
        return None
    scheme = found[1].lower()
    port = "" if host.port in (None, _DEFAULT_PORTS.get(scheme)) else f":{host.port}"
    return f"{scheme}://{host.name}{port}"


def allowed_origin(text: str) -> str:
    """Return an origin that ``--origin`` names in its one spelling. Raises `ConfigError`."""
    origin = origin_of(text)
    if origin is None:
        raise ConfigError(
            "origin must be the scheme, host and port of a web page, such as https://app.example or"
            f" http://localhost:3000, not {text[:SHOWN_CHARS_MAX]!r}: no path, no *, one option for each origin"
        )
    return origin
