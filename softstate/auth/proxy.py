"""Proxies that are trusted: to say who a request is from, and from which address. No I/O.

All who reach the port can send any header. So a header counts only if it comes from an address that the policy names;
from any other it is refused, not ignored, since a node that is not told of its proxy would take all that pass through
it for anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import TypeAlias

from softstate.addresses import UNIX, is_unix, spelt
from softstate.auth.brought import brought
from softstate.auth.identity import Why, refused
from softstate.auth.presented import Vouched
from softstate.auth.rules import Allow, Known
from softstate.auth.token import SUBJECT_CHARS_MAX
from softstate.auth.toml_tables import TomlTable

PROXY_ISSUER = "proxy"
"""The issuer of identities that a proxy vouches for; no other may have this name."""

HOPS_MAX = 32
"""Most hops of a request that are looked at, from the last one on."""

GRANTS_CHARS_MAX = 8_192
"""Longest header of grants."""

Network: TypeAlias = IPv4Network | IPv6Network

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_FORWARDED_FOR = re.compile(r"""(?:^|;)\s*for\s*=\s*(?:"([^"\\]*)"|([^;\s]*))\s*(?=;|$)""", re.IGNORECASE)
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """The proxies that a policy trusts. Names of headers are lower case, empty for one that is not used."""

    networks: tuple[Network, ...] = ()
    unix: bool = False
    subject_header: str = ""
    grants_header: str = ""
    address_header: str = "x-forwarded-for"
    ceiling: tuple[str, ...] | None = None
    where: str = "[auth.proxy]"

    def trusts(self, address: str) -> bool:
        """Tell whether a peer of this address is one of these proxies."""
        if is_unix(address):
            return self.unix
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)

    def client_of(self, via: str, header: str | None) -> str:
        """Return the address of a client whose request came from `via`, with this header of addresses.

        Of the hops that the header lists, the last one that is no proxy of these is taken: all before it may be made
        up. If one is no address (RFC 7239 allows that), it is unknown who the client is beyond the hop behind it.
        """
        address = via
        hops = header.split(",")[::-1] if header else []
        for hop in hops[:HOPS_MAX]:
            if not self.trusts(address):
                break
            found = self._address(hop.strip())
            if found is None:
                break
            address = found
        return address

    def _address(self, hop: str) -> str | None:
        if self.address_header == "forwarded":
            found = _FORWARDED_FOR.search(hop)
            if found is None:
                return None
            hop = found[1] or found[2] or ""
        port = _WITH_PORT.fullmatch(hop)
        return spelt(hop) or (spelt(port[1]) if port is not None else None)

    def known(self, vouched: Vouched) -> Known:
        """Return what is known of a principal that is vouched for. Raises `Unauthenticated`."""
        self.check(vouched)
        subject = vouched.subject
        if not (1 <= len(subject) <= SUBJECT_CHARS_MAX and subject.isprintable()):
            raise refused(
                Why.MALFORMED,
                f"the header {self.subject_header} must be text of 1 to {SUBJECT_CHARS_MAX} printable characters",
            )
        return Known(PROXY_ISSUER, subject, own=self._own(vouched.grants), ceiling=self.ceiling)

    def check(self, vouched: Vouched) -> None:
        """Raise `Unauthenticated` unless the headers came from one of these proxies, and there are such headers."""
        if not self.trusts(vouched.via):
            name = repr(UNIX) if is_unix(vouched.via) else "that address"
            raise refused(
                Why.UNTRUSTED,
                f"{vouched.via} may not say who a request is from: leave out the header"
                f" {self.subject_header or self.grants_header}, or name {name} in 'trusted' of [auth.proxy]",
            )
        if not self.subject_header:
            raise refused(Why.UNTRUSTED, "this node no longer takes a subject from a proxy: present a token")

    def _own(self, grants: str | None) -> Allow | None:
        if grants is None:
            return None
        name = f"the header {self.grants_header}"
        try:
            found = json.loads(grants) if len(grants) <= GRANTS_CHARS_MAX else None
        except (ValueError, RecursionError):
            found = None
        return brought(found, name, self.ceiling, where=name)


def read_proxy(table: TomlTable) -> TrustedProxy:
    """Read the table ``[auth.proxy]``. Raises `ConfigError`."""
    networks: list[Network] = []
    unix = False
    for text in table.texts("trusted"):
        if text == UNIX:
            unix = True
            continue
        try:
            network = ip_network(text)
        except ValueError as error:
            raise table.wrong(
                "trusted", f"must be addresses such as '10.1.2.3' or '10.0.0.0/8', or 'unix': {error}"
            ) from None
        networks.append(network)
    every = _everybody(networks)
    if every is not None:
        raise table.wrong("trusted", f"must not be everybody ({every}): then any client could name any subject")
    subject, grants = _header(table, "subject_header"), _header(table, "grants_header")
    if grants and not subject:
        raise table.wrong("grants_header", "needs a subject_header: it says what that subject may do")
    address = _header(table, "address_header") or "x-forwarded-for"
    if address not in ("x-forwarded-for", "forwarded"):
        raise table.wrong("address_header", "must be 'X-Forwarded-For' or 'Forwarded'")
    proxy = TrustedProxy(
        tuple(networks),
        unix,
        subject,
        grants,
        address,
        table.patterns("may_grant") if "may_grant" in table.data else None,
        table.place(),
    )
    table.end()
    return proxy


def _everybody(networks: Sequence[Network]) -> Network | None:
    """Return all addresses of a version of IP if networks are together all of them, as two halves are."""
    joined: list[Network] = [
        *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
        *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
    ]
    return next((network for network in joined if not network.prefixlen), None)


def _header(table: TomlTable, key: str) -> str:
    if key not in table.data:
        table.known.add(key)
        return ""
    name = table.text(key, maximum=64)
    if not _HEADER.fullmatch(name) or name.lower() in ("authorization", "host", "cookie"):
        raise table.wrong(key, "must be the name of a header that a proxy sets, such as 'Softstate-Subject'")
    return name.lower()
