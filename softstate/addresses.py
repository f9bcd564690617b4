"""Addresses: which of them only this machine reaches, and which are of one household."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

NETWORKS_KEPT = 1_024
"""Addresses whose network is remembered."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on a host's name or address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(NETWORKS_KEPT)
def _network(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ip_network((address.packed[:8] + bytes(8), 64)))


def network_of(peer: str) -> str:
    """Return what stands for the household of a peer, given as HOST:PORT: its IPv4 address, or the /64 of an IPv6 one.

    Who has one address of IPv6 has the 2 ** 64 beside it, too. What is no address stands for itself.
    """
    host = peer.rpartition(":")[0] or peer
    return _network(host.partition("%")[0])
