"""Addresses: which only this machine reaches, the one spelling of a peer's, and which are of one household."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

UNIX = "unix"
"""The address of a peer at a Unix socket whose user is not known; of others, ``-uid=`` and the user follow."""

ADDRESSES_KEPT = 1_024
"""Different texts whose address, and addresses whose network, are remembered."""

UNIX_SCHEME = "unix:"
"""The beginning of an address that is the path of a Unix socket."""

UNIX_PATH_BYTES_MAX = 107
"""Longest path of a Unix socket (``sun_path`` of Linux, less its NUL)."""


def unix_path(address: str) -> str | None:
    """Return the path of a Unix socket, None for another address. Raises ValueError, saying what is wrong with it."""
    if not address.startswith(UNIX_SCHEME):
        return None
    path = address.removeprefix(UNIX_SCHEME)
    if not path or "\0" in path:
        raise ValueError("it must name a file, as in unix:/run/softstate.sock")
    if len(path.encode("utf-8", "surrogateescape")) > UNIX_PATH_BYTES_MAX:
        raise ValueError(f"a path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes")
    return path


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on a host's name or address, or on a Unix socket."""
    if host == "localhost" or host.startswith(UNIX_SCHEME):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(peer: str) -> str:
    """Return the address that the name of a peer, HOST:PORT, begins with, in its one spelling.

    IPv4 within IPv6 is written as IPv4. Of a name without an IP address, as at a Unix socket and in simulation, all
    before the port is returned.
    """
    host = peer.rpartition(":")[0]
    return spelt(host) or spelt(peer) or host or peer


def is_unix(address: str) -> bool:
    """Tell whether an address is that of a peer at a Unix socket."""
    return address == UNIX or address.startswith(f"{UNIX}-uid=")


@lru_cache(ADDRESSES_KEPT)
def spelt(text: str) -> str | None:
    """Return an IP address, which may be in brackets, in its one spelling; None if it is none."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(ADDRESSES_KEPT)
def network_of(address: str) -> str:
    """Return what stands for the household of an address, in its one spelling: an IPv4 one, or the /64 of an IPv6 one.

    Who has one address of IPv6 has the 2 ** 64 beside it, too. What is no address stands for itself.
    """
    if ":" not in address:
        return address
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip_network((found.packed[:8] + bytes(8), 64)))
