"""Addresses: which only this machine reaches, the one spelling of a peer's, and which are of one household."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

UNIX = "unix"
"""The address of every peer at a Unix socket."""

ADDRESSES_KEPT = 1_024
"""Different texts whose address, and addresses whose network, are remembered."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on a host's name or address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(peer: str) -> str:
    """Return the address that the name of a peer, HOST:PORT, begins with, in its one spelling.

    IPv4 within IPv6 is written as IPv4, and every peer at a Unix socket is `UNIX`. Of a name without an address, as in
    simulation, all before the port is returned.
    """
    if peer.startswith(UNIX):
        return UNIX
    host = peer.rpartition(":")[0]
    return spelt(host) or spelt(peer) or host or peer


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
